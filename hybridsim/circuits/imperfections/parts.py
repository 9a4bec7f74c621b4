"""Arrays and converters as a device has them: what is programmed, and by what its parts differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.circuits.precision import largest_magnitude, levels, quantize

_BOW = 1.5 * math.sqrt(3)  # of v - v³, whose largest value on [0, 1] is then 1


def built(
    array: Tensor, device: Device, part: str, *, smallest: float = 0.0, age_tau: float = 1.0
) -> Tensor:
    """Resistors of relative error σ ε + δ log10(age) ε': G (1 + σ ε)(1 + δ log10(age) ε').

    Args:
        array: what is programmed, any shape.
        device: σ and δ; ε and ε' are its own.
        part: names the array among those of the device.
        smallest: of a resistor that is on; an entry below it is that or off, whichever is nearer.
        age_tau: time since the array was written, in RC; below one RC nothing has drifted.
    """
    decades = math.log10(max(age_tau, 1.0))
    found = array
    if smallest > 0:
        nearest = torch.where(array.abs() < smallest / 2, 0.0, smallest * array.sign())
        found = torch.where(array.abs() < smallest, nearest, array)
    errors = ((device.mismatch, part), (device.drift * decades, f"drift of {part}"))
    for size, name in errors:
        if size > 0:
            pattern = normal_pattern(device.instance, name, *array.shape, dtype=array.dtype)
            found = found * pattern.to(array.device).mul(size).add_(1.0)
    return found


def alive(device: Device, cells: int) -> Tensor | None:
    """Which cells work (cells,); None: all do."""
    if device.dead_share <= 0:
        return None
    drawn = normal_pattern(device.instance, "dead cells", cells, dtype=torch.float64)
    share = torch.tensor(device.dead_share, dtype=torch.float64)
    working: Tensor = drawn >= torch.special.ndtri(share)
    return working


def offsets(device: Device, part: str, amplifiers: int) -> Tensor:
    """Input offsets over V_fs (amplifiers,), float64."""
    name = f"offset of {part}"
    return device.offset * normal_pattern(device.instance, name, amplifiers, dtype=torch.float64)


def converted(
    x: Tensor, bits: int | None, device: Device, part: str, full_scale: float | None
) -> tuple[Tensor, Tensor]:
    """Quantize (n,) with one converter for each, whose integral nonlinearity is an odd bow.

    x_j + s_j step (3 √3/2)(v - v³) with v = x_j/full scale: no error at zero and at either end,
    |s_j| steps where it is largest. Where few converters serve many cells this is an assumption.

    Returns:
        Values in the type of x, and the number that was clipped.
    """
    values, clipped = quantize(x, bits, full_scale)
    if bits is None or device.nonlinearity <= 0 or x.numel() == 0:
        return values, clipped
    reach = largest_magnitude(x) if full_scale is None else x.new_tensor(full_scale)
    reach = torch.where(reach > 0, reach, 1.0)
    bow = normal_pattern(device.instance, f"bow of {part}", x.numel(), dtype=x.dtype)
    v = (values / reach).clamp(-1, 1)
    size = device.nonlinearity * _BOW * reach / levels(bits)
    return values + size * bow.to(x.device) * (v - v**3), clipped
