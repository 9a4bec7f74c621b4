"""Full scales of amplifier stages, chosen from what was seen before."""

from __future__ import annotations

import math

from torch import Tensor

from hybridsim.circuits.base import FullScales
from hybridsim.circuits.imperfections.device import Device


def chosen(peaks: Tensor, largest_drive: float, device: Device) -> FullScales:
    """From the last settle's peaks (x, u, w, b) (4,) and the drive that is known to come.

    Each is the peak times the headroom, raised to a power of the gain step; x reaches the drive,
    from which it may start. A stage that stayed at zero gets 1.
    """
    x, u, w = (float(peak) * device.headroom for peak in peaks[:3])
    found = (max(x, largest_drive), u, w, largest_drive)
    return FullScales(*(raised(value, device.gain_step) for value in found))


def raised(value: float, step: float) -> float:
    """The smallest power of ``step`` that is no smaller than ``value``; any value at step 1."""
    if not 0 < value < math.inf:
        return 1.0
    if step <= 1:
        return value
    return float(step ** math.ceil(math.log(value) / math.log(step) - 1e-9))
