"""What a datasheet says of measured work: the price that simulations pay, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybridsim.hardware.kinds import PARTS, price
from hybridsim.hardware.price import Reading
from hybridsim.hardware.requests import Compute
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.work import Kernel, Work

LAUNCH = "launch_asynchronous_s"
"""What a launch costs the host: less in a loop of one operator than in a whole step."""


def seconds_of(sheet: Datasheet, kernels: Sequence[Kernel]) -> float:
    """Seconds of kernels in a row, launches included."""
    return price(sheet, Compute(Work(tuple(kernels)))).duration_ps * 1e-12


def device_seconds_of(sheet: Datasheet, kernels: Sequence[Kernel]) -> float:
    """Seconds that the device itself is at it, launches left out."""
    return seconds_of(sheet.overridden({LAUNCH: 0.0}), kernels)


def constants_read(sheet: Datasheet, works: Iterable[Sequence[Kernel]]) -> set[str]:
    """Names of the constants that these prices rest on."""
    reading = Reading(sheet)
    time = PARTS["gpu"].tariffs[Compute].time
    for kernels in works:
        time(reading, Compute(Work(tuple(kernels))))
    return reading.names
