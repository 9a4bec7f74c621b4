"""Converters and programmable resistors have few levels: quantization of vectors and matrices.

All quantizers are mid-tread with L = 2^(bits-1) - 1 levels on either side of zero. ``bits=None`` is
ideal.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CPU_CHUNK = 1 << 17  # elements raised to float64 at once: 1 MiB stays in the cache of a core
_GPU_CHUNK = 1 << 22  # few launches
_SMALLEST = torch.finfo(torch.float64).tiny  # no step is denormal: what it divides stays a number


def levels(bits: int) -> int:
    """L = 2^(bits-1) - 1.

    Raises:
        ValueError: bits is not an integer from 2 to 24.
    """
    if not isinstance(bits, int) or not 2 <= bits <= 24:
        raise ValueError(f"expected 2 to 24 bits, got {bits!r}")
    found: int = 2 ** (bits - 1) - 1
    return found


def quantize(
    x: Tensor, bits: int | None, full_scale: float | Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Round to the nearest of 2 L + 1 levels on [-full_scale, full_scale], clipping beyond (DAC,
    ADC).

    Args:
        x: any shape and floating-point type.
        bits: 2 to 24, or None for an ideal converter.
        full_scale: number > 0 or 0-dim tensor; None takes max |x| (an ideal automatic range).

    Returns:
        Values in the type of ``x``, and the number of clipped elements (0-dim int64).

    Raises:
        ValueError: bits out of range, or a full scale that is a number <= 0.
    """
    if isinstance(full_scale, (int, float)) and not full_scale > 0:
        raise ValueError(f"expected a full scale > 0, got {full_scale!r}")
    if bits is None or x.numel() == 0:
        return x, torch.zeros((), dtype=torch.int64, device=x.device)
    top, automatic = levels(bits), full_scale is None
    scale = largest_magnitude(x) if full_scale is None else full_scale
    step = _step(torch.as_tensor(scale, dtype=torch.float64, device=x.device), top)
    values = torch.empty_like(x, memory_format=torch.contiguous_format)
    clipped = torch.zeros((), dtype=torch.int64, device=x.device)
    flat, out, chunk = x.reshape(-1), values.view(-1), _chunk(x)
    buffer = x.new_empty(min(chunk, x.numel()), dtype=torch.float64)
    for start in range(0, flat.numel(), chunk):
        part = out[start : start + chunk]
        level = buffer[: len(part)].copy_(flat[start : start + chunk])
        level.div_(step).round_()
        # No |x| passes its own maximum, and max |x|/step rounds to top or less: nothing to clip.
        if not automatic:
            clipped += (level.abs() > top).sum()
            level.clamp_(-top, top)
        part.copy_(level.mul_(step))
    return values, clipped


def quantize_columns(x: Tensor, bits: int | None) -> Tensor:
    """Round each column of (n, k) on its own automatic range, as ``quantize`` does with one;
    nothing clips.

    Raises:
        ValueError: bits out of range.
    """
    if bits is None or x.numel() == 0:
        return x
    top, values = levels(bits), torch.empty_like(x)
    width = max(1, _chunk(x) // len(x))
    for start in range(0, x.shape[1], width):
        part = x[:, start : start + width].double()
        step = _step(part.abs().amax(dim=0), top)
        values[:, start : start + width] = (part / step).round_().mul_(step)
    return values


def quantize_jacobian(jacobian: Tensor, bits: int | None) -> Tensor:
    """Nearest level on one full scale max |J_ij|; JᵀHJ, formed from the rounded J, stays
    semidefinite.
    """
    return quantize(jacobian, bits)[0]


def conservative(matrix: Tensor, bits: int | None) -> tuple[Tensor, Tensor]:
    """Quantize symmetric matrices so that a semidefinite one stays so (FNH21, Sensors 2021; TKFAC
    §4.5.1).

    Off-diagonals: nearest level on max_{i≠j} |A_ij|. Diagonal: its own range; each entry grows by
    the sum of the absolute rounding errors of its row and is rounded up, so the error is diagonally
    dominant: Â - A is semidefinite.

    Args:
        matrix: (..., n, n), symmetrised here; one pair of ranges per matrix.
        bits: 2 to 24, or None for ideal resistors.

    Returns:
        The matrix (..., n, n) in float64, and the mean growth of its diagonal (...,) float64: the
        damping that quantization adds.
    """
    symmetric = matrix.double()
    symmetric = symmetric / 2 + symmetric.mT / 2
    diagonal = symmetric.diagonal(dim1=-2, dim2=-1)
    if bits is None or symmetric.numel() == 0:
        return symmetric, torch.zeros_like(diagonal).sum(dim=-1)
    top = levels(bits)
    rest = symmetric - torch.diag_embed(diagonal)
    step = _step(rest.abs().amax(dim=(-2, -1)), top)[..., None, None]
    rounded = (rest / step).round_().mul_(step)
    raised = diagonal + (rounded - rest).abs().sum(dim=-1)
    step = _step(raised.abs().amax(dim=-1, keepdim=True), top)
    raised = torch.ceil(raised / step).clamp(-top, top) * step
    return rounded + torch.diag_embed(raised), (raised - diagonal).mean(dim=-1)


def largest_magnitude(x: Tensor) -> Tensor:
    """Largest |x|, 0-dim in the type of ``x``; one pass that writes nothing of the size of x."""
    smallest, largest = torch.aminmax(x)
    return torch.maximum(smallest.abs(), largest.abs())


def _chunk(x: Tensor) -> int:
    return _CPU_CHUNK if x.device.type == "cpu" else _GPU_CHUNK


def _step(largest: Tensor, top: int) -> Tensor:
    """Distance of levels that reach up to ``largest`` (float64)."""
    return (largest / top).clamp(min=_SMALLEST)
