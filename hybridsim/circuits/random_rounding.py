"""Rounding up or down at random, without bias: programmes whose average answer has less error than
each (arXiv 2401.16231).

The levels are those of ``precision``; what is rounded to them is right on average, E x̂ = x. The
mean of the answers of K programmes then errs by ε/√K + O(ε²), ε the error of one. Rounding that
keeps a matrix semidefinite (``precision.conservative``) raises its diagonal every time and would
leave an error of first order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.circuits.precision import largest_magnitude, levels
from hybridsim.rng import address_seed

_CHUNK = 1 << 17  # elements raised to float64 at once
_SMALLEST = 1e-300  # range of zeros


def round_randomly(
    x: Tensor, bits: int | None, seed: int, full_scale: float | None = None
) -> Tensor:
    """Round to one of the two neighbouring levels: floor(x/step + u), u uniform on [0, 1).

    Args:
        x: any shape and floating-point type.
        bits: 2 to 24, or None for an ideal end: nothing is rounded.
        seed: of all the draws.
        full_scale: of the range, > 0, beyond which x is clipped; None: max |x|.

    Raises:
        ValueError: bits out of range.
    """
    if bits is None or x.numel() == 0:
        return x
    top = levels(bits)
    largest = largest_magnitude(x).double() if full_scale is None else x.new_tensor(full_scale)
    step = largest.double().clamp(min=_SMALLEST) / top
    generator = torch.Generator(device=x.device).manual_seed(seed)
    values = torch.empty_like(x, memory_format=torch.contiguous_format)
    flat, out = x.reshape(-1), values.view(-1)
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK].double() / step
        draw = torch.rand(len(part), generator=generator, dtype=part.dtype, device=part.device)
        # of an automatic range max |x|/step is the highest level, but for rounding
        level = part.add_(draw).floor_().clamp_(-top, top)
        out[start : start + _CHUNK] = level.mul_(step)
    return values


def round_columns_randomly(x: Tensor, bits: int | None, seed: int) -> Tensor:
    """Each column of (n, k) on its own automatic range.

    Raises:
        ValueError: bits out of range.
    """
    if bits is None or x.numel() == 0:
        return x
    top = levels(bits)
    step = x.double().abs().amax(dim=0).clamp(min=_SMALLEST) / top
    generator = torch.Generator(device=x.device).manual_seed(seed)
    draw = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
    level = (x.double() / step + draw).floor_().clamp_(-top, top)
    return (level * step).to(x.dtype)


def round_symmetric_randomly(matrix: Tensor, bits: int | None, seed: int) -> Tensor:
    """Symmetric matrices (..., n, n) in float64, symmetric again: an entry and its mirror are drawn
    once.

    Off-diagonals and diagonal have ranges of their own, as in ``precision.conservative``, one pair
    for each matrix. A matrix may lose its definiteness by the size of a step.

    Raises:
        ValueError: bits out of range.
    """
    symmetric = matrix.double()
    symmetric = symmetric / 2 + symmetric.mT / 2
    if bits is None or symmetric.numel() == 0:
        return symmetric
    shape = symmetric.shape
    blocks = symmetric.reshape(-1, shape[-1], shape[-1])
    diagonal = blocks.diagonal(dim1=1, dim2=2)
    upper = blocks.triu(1).reshape(len(blocks), -1).T
    rounded = round_columns_randomly(upper, bits, address_seed(seed, "off the diagonal"))
    rounded = rounded.T.reshape(blocks.shape)
    levelled = round_columns_randomly(diagonal.T, bits, address_seed(seed, "diagonal")).T
    return (rounded + rounded.mT + torch.diag_embed(levelled)).reshape(shape)
