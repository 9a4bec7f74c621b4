"""From measurements to a datasheet: what is fitted on which rows, and how far it is off the rest.

Single operators in a loop set all constants of the device; then whole steps set what a launch costs
there (``launches``). Rows that are held out enter neither.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hybridsim.calibration.energy import Power
from hybridsim.calibration.families import Case, kernels
from hybridsim.calibration.fit import Fit, Fitted, Measurement
from hybridsim.calibration.launches import with_launches
from hybridsim.calibration.measure import STEPS, Measured
from hybridsim.calibration.networks import STEP, scenario_of, task_of
from hybridsim.calibration.plan import Device
from hybridsim.calibration.prediction import INTERVAL, constants_read, on_device, seconds_of
from hybridsim.calibration.steps import counted_steps
from hybridsim.errors import HybridsimError
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.datasheets.sheets import Constant, Datasheet
from hybridsim.work import Kernel

_PEAKS = {
    "float32": ("peak_fp32_flop_per_s",),
    "float64": ("peak_fp64_flop_per_s", "peak_fp64_tensor_flop_per_s"),
}
_BANDWIDTH = "memory_bandwidth_byte_per_s"
_UNITS = {spec.name: spec.unit for spec in CONSTANTS["gpu"]}
_UNITS_THAT_RUN = "multiprocessors"
_OWN = (_BANDWIDTH, _UNITS_THAT_RUN, INTERVAL)
FEWEST_ROWS = 3
FitFunction = Callable[[Mapping[str, float], Sequence[Measurement], Sequence[str]], Fit]
"""Finds the constants of these names from measurements, all others as given."""


class TooFew(HybridsimError):
    """There is not enough to fit."""


class Prediction(NamedTuple):
    """A measurement and what the sheet says of it."""

    measured: Measured
    row: Measurement
    predicted_s: float

    @property
    def error(self) -> float:
        """``|predicted / measured - 1|``."""
        return abs(self.predicted_s / self.measured.seconds - 1)


class Errors(NamedTuple):
    """How far predictions of a family are off, ``|predicted / measured - 1|``."""

    family: str
    part: str
    rows: int
    median: float
    p90: float


class Result(NamedTuple):
    """A datasheet, and every measurement with its prediction."""

    sheet: Datasheet
    predictions: list[Prediction]

    @property
    def errors(self) -> list[Errors]:
        """By family and part (``fit``, ``held out``)."""
        groups: dict[tuple[str, str], list[float]] = {}
        for one in self.predictions:
            case = one.measured.case
            part = "held out" if case.held_out else "fit"
            groups.setdefault((case.family, part), []).append(one.error)
        return [
            Errors(family, part, len(found), statistics.median(found), _p90(found))
            for (family, part), found in sorted(groups.items())
        ]


def row_of(measured: Measured) -> Measurement:
    """A measurement with the work that was measured, counted now."""
    case = measured.case
    found = _step_kernels(case) if case.family == STEP else kernels(case)
    text = f"{case.operator} {case.shape} {case.dtype}"
    return Measurement(found, measured.seconds, case.family, text)


def _step_kernels(case: Case) -> tuple[Kernel, ...]:
    """Kernels of the steps that were timed together."""
    steps = counted_steps(scenario_of(case, "cpu", 1), task_of(case, "cpu"), STEPS)
    found: dict[Kernel, int] = {}
    for kernel in (k for step in steps for work in step.works for k in work.kernels):
        one = replace(kernel, count=1)
        found[one] = found.get(one, 0) + kernel.count
    return tuple(replace(kernel, count=number) for kernel, number in found.items())


def calibrated(
    base: Datasheet,
    measured: Sequence[Measured],
    device: Device,
    fit: FitFunction,
    power: Power | None,
) -> Result:
    """A datasheet of the device that was measured.

    Args:
        base: what every constant is that is not found here, and where the search begins.
        measured: all measurements.
        device: what was measured.
        fit: finds constants from rows.
        power: watts of the device, where they could be read.

    Raises:
        TooFew: fewer than three operators or three steps were measured outside the held-out part.
    """
    pairs = [(one, row_of(one)) for one in measured]
    operators = [pair for pair in pairs if pair[0].case.family != STEP]
    steps = [pair for pair in pairs if pair[0].case.family == STEP]
    kept = [row for one, row in operators if not one.case.held_out]
    kept_steps = [row for one, row in steps if not one.case.held_out]
    for name, rows in (("operators", kept), ("whole steps", kept_steps)):
        if len(rows) < FEWEST_ROWS:
            raise TooFew(
                f"only {len(rows)} {name} measured: too few to fit; give it more --minutes"
            )
    source = f"hybridsim calibrate: {device.text}"
    start = _with_device(base, operators, device, source)
    free = sorted(filter(_is_free, constants_read(start, (row.kernels for row in kept))))
    text = f"{source}; fit to {len(kept)} operators"
    loop = _fitted(start, fit(_values(start), kept, free).constants, text)
    text = f"{source}; fit to {len(kept_steps)} times {STEPS} whole steps"
    cpu = device.device == "cpu"
    sheet = with_launches(loop, kept_steps, text, synchronous=cpu)
    constants = dict(sheet.constants)
    if power is not None:
        found = _with_power(power, source)
        constants |= {name: one for name, one in found.items() if name in constants}
    sheet = replace(sheet, constants=constants, description=f"Measured: {device.text}")
    alone = loop if cpu else on_device(loop)
    predictions = [
        Prediction(one, row, seconds_of(priced, row.kernels))
        for group, priced in ((operators, alone), (steps, sheet))
        for one, row in group
    ]
    return Result(sheet, predictions)


def _is_free(name: str) -> bool:
    """What is fitted: no rate that is the device's own, no number of units, no host."""
    return not (name.startswith("peak_") or name in _OWN)


def _values(sheet: Datasheet) -> dict[str, float]:
    return {name: constant.value for name, constant in sheet.constants.items()}


def _fitted(sheet: Datasheet, found: Mapping[str, Fitted], source: str) -> Datasheet:
    constants = {
        name: Constant(
            float(one.value), float(one.low), float(one.high), _UNITS[name], "fitted", source
        )
        for name, one in found.items()
    }
    return replace(sheet, constants={**sheet.constants, **constants})


def _with_device(
    base: Datasheet,
    operators: Sequence[tuple[Measured, Measurement]],
    device: Device,
    source: str,
) -> Datasheet:
    """The base with the device's memory, and of a CPU the best rates that any operator reached in
    place of the peaks that no datasheet of it states.
    """
    memory = device.rates.memory_byte
    found = {"memory_capacity_byte": (memory, "as the system says")}
    if device.device == "cpu":
        for dtype, names in _PEAKS.items():
            rates = [
                sum(k.flop * k.count for k in row.kernels if k.matrix) / one.seconds
                for one, row in operators
                if one.case.dtype == dtype
            ]
            found |= {name: (max(rates, default=0.0), "best that was reached") for name in names}
        best = max(sum(k.bytes * k.count for k in row.kernels) / m.seconds for m, row in operators)
        found[_BANDWIDTH] = (best, "best that was reached")
        found[_UNITS_THAT_RUN] = (float(device.threads), "threads")
    constants = {
        name: Constant(value, value, value, _UNITS[name], "fitted", f"{source}; {how}")
        for name, (value, how) in found.items()
        if value > 0 and name in base.constants
    }
    return replace(base, constants={**base.constants, **constants})


def _with_power(power: Power, source: str) -> dict[str, Constant]:
    """Watts under a large matrix product, and idle."""
    text = f"{source}; {power.meter}"
    whole = Constant(1.0, 1.0, 1.0, "", "fitted", f"{text}: tdp is what was drawn")
    return {"active_share": whole} | {
        name: Constant(watts, low, high, "W", "fitted", text)
        for name, (watts, low, high) in (("tdp_w", power.busy_w), ("idle_w", power.idle_w))
    }


def _p90(errors: Sequence[float]) -> float:
    ordered = sorted(errors)
    return ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
