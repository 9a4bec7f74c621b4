"""What a datasheet says of measured work: the price that simulations pay, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybridsim.hardware.kinds import PARTS, price
from hybridsim.hardware.price import Reading
from hybridsim.hardware.requests import Compute
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.work import Kernel, Work

INTERVAL = "launch_interval_s"
"""What a launch costs a GPU's host."""


def floors_of(sheet: Datasheet) -> list[str]:
    """The constants of which every launch takes one, whatever it computes."""
    return [name for name in sheet.constants if name.endswith("_floor_s")]


def seconds_of(sheet: Datasheet, kernels: Sequence[Kernel]) -> float:
    """Seconds of kernels in a row, launches included."""
    return price(sheet, Compute(Work(tuple(kernels)))).duration_ps * 1e-12


def on_device(sheet: Datasheet) -> Datasheet:
    """The sheet without the host: what is left is the device's time."""
    return sheet.overridden({INTERVAL: 0.0})


def in_a_loop(sheet: Datasheet) -> Datasheet:
    """The sheet of calls in a loop, without the host's part of whole steps: floors at the low end
    of their ranges.
    """
    lowest = {name: sheet.bounds(name)[0] for name in floors_of(sheet)}
    return sheet.overridden(lowest | {INTERVAL: sheet.bounds(INTERVAL)[0]})


def constants_read(sheet: Datasheet, works: Iterable[Sequence[Kernel]]) -> set[str]:
    """Names of the constants that these prices rest on."""
    reading = Reading(sheet)
    time = PARTS["gpu"].tariffs[Compute].time
    for kernels in works:
        time(reading, Compute(Work(tuple(kernels))))
    return reading.names
