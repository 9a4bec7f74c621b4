"""Arrays and converters as a device has them: what is programmed, and by what its parts differ."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridsim.circuits.imperfections.converters import bowed
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_columns, normal_pattern
from hybridsim.circuits.precision import largest_magnitude, quantize
from hybridsim.circuits.rows import Rows


def built(
    array: Tensor,
    device: Device,
    part: str,
    *,
    smallest: float = 0.0,
    age_tau: float = 1.0,
    pattern: Callable[[str], Tensor] | None = None,
) -> Tensor:
    """Resistors of relative error σ ε + δ log10(age) ε': G (1 + σ ε)(1 + δ log10(age) ε').

    Args:
        array: what is programmed, any shape.
        device: σ and δ; ε and ε' are its own.
        part: names the array among those of the device.
        smallest: of a resistor that is on; an entry below it is that or off, whichever is nearer.
        age_tau: time since the array was written, in RC; below one RC nothing has drifted.
        pattern: ε of a name in the shape of the array; default: that of a whole array.
    """
    decades = math.log10(max(age_tau, 1.0))
    found = array
    if smallest > 0:
        nearest = torch.where(array.abs() < smallest / 2, 0.0, smallest * array.sign())
        found = torch.where(array.abs() < smallest, nearest, array)
    errors = ((device.mismatch, part), (device.drift * decades, f"drift of {part}"))
    for size, name in errors:
        if size > 0:
            if pattern is None:
                drawn = normal_pattern(device.instance, name, *array.shape, dtype=array.dtype)
            else:
                drawn = pattern(name)
            found = found * drawn.to(array.device).mul(size).add_(1.0)
    return found


def built_rows(
    rows: Rows,
    device: Device,
    part: str,
    smallest: float,
    age_tau: float,
    working: Tensor | None,
) -> Rows:
    """Rows (r, N) as ``built``, but for columns that do not work (N,), which are zero."""
    starts = tuple(chunk.start for chunk in rows.chunks())

    def change(columns: slice, array: Tensor) -> Tensor:
        def pattern(name: str) -> Tensor:
            return normal_columns(
                device.instance, name, *rows.shape, columns, starts, dtype=rows.dtype
            )

        found = built(array, device, part, smallest=smallest, age_tau=age_tau, pattern=pattern)
        return found if working is None else found * working[columns]

    return rows.mapped(change)


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
    """Quantize (n,) with one converter for each, whose integral nonlinearity is ``bowed``.

    Where few converters serve many cells this is an assumption.

    Returns:
        Values in the type of x, and the number that was clipped.
    """
    values, clipped = quantize(x, bits, full_scale)
    if bits is None or device.nonlinearity <= 0 or x.numel() == 0:
        return values, clipped
    reach = largest_magnitude(x) if full_scale is None else x.new_tensor(full_scale)
    reach = torch.where(reach > 0, reach, 1.0).double()
    found = bowed(values.double()[:, None], reach[None], bits, device, part)
    return found[:, 0].to(x.dtype), clipped
