"""What a launch costs in whole steps: more than in a loop of one operator, since there layers of
Python and automatic differentiation stand between the operators.

On a CPU the host computes as well, and a launch's own cost comes on top of every operator: ::

    h = median of (measured - in a loop) / launches

is added to every floor, whose low end stays the loop's. A GPU computes while the host launches: the
interval is ``measured / launches`` of those steps in which the host sets the pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hybridsim.calibration.fit import Measurement
from hybridsim.calibration.prediction import INTERVAL, floors_of, on_device, seconds_of
from hybridsim.scenario.datasheets.sheets import Constant, Datasheet

_COVER = (0.1, 0.5, 0.9)
_SLOWER = 1.5  # than the device: the host sets the pace


def with_launches(
    sheet: Datasheet, steps: Sequence[Measurement], source: str, *, synchronous: bool
) -> Datasheet:
    """A sheet fitted to operators in a loop, with what a launch costs in whole steps.

    Args:
        sheet: of operators in a loop.
        steps: whole steps.
        source: of the constants that change.
        synchronous: the host computes as well (a CPU).
    """
    if not synchronous:
        return _with_interval(sheet, steps, source)
    over = [(row.measured_s - seconds_of(sheet, row.kernels)) / launches_of(row) for row in steps]
    _, median, high = np.maximum(np.quantile(over, _COVER), 0.0)
    constants = {}
    for name in floors_of(sheet):
        loop = sheet.constants[name]
        constants[name] = Constant(
            loop.value + float(median),
            loop.low,
            loop.high + float(high),
            loop.unit,
            "fitted",
            f"{source}; low: in a loop",
        )
    return replace(sheet, constants={**sheet.constants, **constants})


def launches_of(row: Measurement) -> int:
    """Operators that were launched."""
    return sum(kernel.count for kernel in row.kernels)


def _with_interval(sheet: Datasheet, steps: Sequence[Measurement], source: str) -> Datasheet:
    device = on_device(sheet)
    found = [
        row.measured_s / launches_of(row)
        for row in steps
        if row.measured_s > _SLOWER * seconds_of(device, row.kernels)
    ]
    if not found:  # the device sets the pace everywhere: the base's interval stands
        return sheet
    low, median, high = map(float, np.quantile(found, _COVER))
    text = f"{source}; {len(found)} in which the host sets the pace"
    interval = Constant(median, low, high, "s", "fitted", text)
    return replace(sheet, constants={**sheet.constants, INTERVAL: interval})
