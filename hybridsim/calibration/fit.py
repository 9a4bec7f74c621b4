"""Constants of the GPU model from measured times.

Measured times are ``dispatch + sum of device times`` (``hardware.gpu_model``); the dispatch, host
time that a way of measuring includes, is fitted with the constants, one for each name. What is
minimised is a robust (soft L1) norm of ``log(predicted / measured)``, over the logarithms of the
constants within their bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybridsim.hardware.gpu_model import device_s
from hybridsim.scenario.datasheets.constants import specs_by_key
from hybridsim.work import Kernel

_SCALE = 0.1  # of log(predicted / measured): errors beyond it count by their size, not its square
_SMALLEST, _LARGEST = 1e-9, 10.0  # of a time in seconds or a share, where no bound is stated
_RULED_BY = 0.3  # share of a row's time that goes with a constant, for the row to speak of it
_FEWEST_ROWS, _NOTHING = 5, 0.01  # rows that must change by so much with a constant
_STEP = 1e-3
_COVER = (0.1, 0.9)


class Measurement(NamedTuple):
    """One measurement.

    Attributes:
        kernels: what was launched.
        measured_s: how long it took.
        family: e.g. ``linear``; errors are told for each.
        shape: what it was, in words.
        dispatch: name of the host time that is in it, "": none.
        device: name of the device, where measurements of several are fitted together.
    """

    kernels: tuple[Kernel, ...]
    measured_s: float
    family: str
    shape: str
    dispatch: str = ""
    device: str = ""


class Fitted(NamedTuple):
    """A constant: its value, and the range that covers 80 % of the ``rows`` that hang on it."""

    value: float
    low: float
    high: float
    rows: int


class Values:
    """Constants by SI name, as the model reads them."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def value(self, name: str) -> float:
        """A constant by its SI name."""
        return self._values[name]


def predicted_s(constants: Mapping[str, float], row: Measurement, dispatch_s: float = 0.0) -> float:
    """What the model says that a measurement takes."""
    values = Values(constants)
    return dispatch_s + sum(device_s(values, kernel) * kernel.count for kernel in row.kernels)


class Fit(NamedTuple):
    """``constants`` that were free and that some rows hang on; ``dispatch_s`` by name."""

    constants: dict[str, Fitted]
    dispatch_s: dict[str, float]

    def over(self, start: Mapping[str, float]) -> dict[str, float]:
        """All constants, the fitted ones in their places."""
        return {**start, **{name: found.value for name, found in self.constants.items()}}


def fit(
    start: Mapping[str, float],
    rows: Sequence[Measurement],
    free: Iterable[str],
    devices: Mapping[str, Mapping[str, float]] | None = None,
) -> Fit:
    """Fit constants of a GPU to measured times.

    Args:
        start: all constants of a GPU by SI name, from where to begin.
        rows: measurements, without those that time the host's dispatch alone.
        free: names of the constants that may change.
        devices: of measurements on several devices what each has of its own, by name: its peaks,
            its bandwidth.

    Returns:
        The constants that at least five rows hang on, with ranges; dispatch times.

    Raises:
        ValueError: no rows.
    """
    from scipy.optimize import least_squares

    if not rows:
        raise ValueError("expected measurements to fit to, got none")
    names = [name for name in free if start[name] > 0]
    groups = sorted({row.dispatch for row in rows} - {""})
    floors = [min(r.measured_s for r in rows if r.dispatch == group) for group in groups]
    measured = np.log([row.measured_s for row in rows])
    own = {row.device: (devices or {}).get(row.device, {}) for row in rows}

    def unpack(x: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        found = np.exp(x)
        split = len(names)
        constants = {**start, **dict(zip(names, found[:split], strict=True))}
        return constants, dict(zip(groups, found[split:], strict=True))

    def logs(x: np.ndarray) -> np.ndarray:
        constants, dispatch = unpack(x)
        each = {device: {**constants, **values} for device, values in own.items()}
        return np.log([predicted_s(each[r.device], r, dispatch.get(r.dispatch, 0.0)) for r in rows])

    bounds = [_bounds(name) for name in names] + [(1e-7, floor) for floor in floors]
    low, high = np.log(bounds).T
    begin = np.log([start[name] for name in names] + [0.5 * floor for floor in floors])
    # the best of several tiles has several optima: slower and faster small tiles are other starts
    tiles = np.array(["tile_" in name for name in [*names, *groups]])
    done = min(
        (
            least_squares(
                lambda x: logs(x) - measured,
                np.clip(x, low + 1e-6, high - 1e-6),
                bounds=(low, high),
                loss="soft_l1",
                f_scale=_SCALE,
                diff_step=_STEP,
                max_nfev=40,
            )
            for x in (begin + np.log(factor) * tiles for factor in (1.0, 0.6, 1.6))
        ),
        key=lambda result: float(result.cost),
    )
    constants, dispatch = unpack(done.x)
    here, found = logs(done.x), {}
    for column, name in enumerate(names):
        slopes = (logs(done.x + _STEP * (np.arange(len(done.x)) == column)) - here) / _STEP
        fitted = _ranged(constants[name], slopes, measured - here, _bounds(name))
        if fitted is not None:
            found[name] = fitted
    return Fit(found, dispatch)


def _ranged(
    value: float, slopes: np.ndarray, off: np.ndarray, bounds: tuple[float, float]
) -> Fitted | None:
    """A constant's range: log(measured / predicted) of the rows it rules, divided by its slope."""
    most = np.sort(np.abs(slopes))[::-1][:_FEWEST_ROWS]
    if len(most) < _FEWEST_ROWS or most[-1] < _NOTHING:
        return None
    rules = np.abs(slopes) >= min(_RULED_BY, most[-1])
    ends = np.quantile(off[rules] / slopes[rules], _COVER)
    low, high = np.clip(value * np.exp([min(ends[0], 0.0), max(ends[1], 0.0)]), *bounds)
    return Fitted(value, float(low), float(high), int(rules.sum()))


def _bounds(name: str) -> tuple[float, float]:
    spec = {spec.name: spec for spec in specs_by_key("gpu").values()}[name]
    return _SMALLEST, spec.at_most or _LARGEST
