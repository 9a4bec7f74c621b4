"""Passes over a wide Jacobian in float64, block by block along N: only a small upcast buffer
exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CPU_ELEMENTS = 1 << 18  # 2 MiB of float64: stays in the cache of a core
_GPU_ELEMENTS = 1 << 25  # 256 MiB: few launches
_GRAM_ROWS = 48  # rows of a panel of a Gram matrix: whole rows of a BLAS kernel (6, 12 or 24)


def column_blocks(jacobian: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``(columns, J[:, columns] in float64)`` over all N columns of ``jacobian`` (m, N).

    A block lives until the next one, which takes its memory; it may be J itself: do not write to
    it.
    """
    rows, columns = jacobian.shape
    elements = _CPU_ELEMENTS if jacobian.device.type == "cpu" else _GPU_ELEMENTS
    width = max(64, elements // max(rows, 1))
    raised = jacobian.dtype == torch.float64
    buffer = jacobian.new_empty(0 if raised else rows * min(width, columns), dtype=torch.float64)
    for start in range(0, columns, width):
        part = slice(start, min(start + width, columns))
        block = jacobian[:, part]
        yield part, block if raised else buffer[: block.numel()].view(block.shape).copy_(block)


def gram(jacobian: Tensor) -> Tensor:
    """J Jᵀ (m, m) float64, exactly symmetric; N m² FLOP and N m more for each row of a panel.

    Panels of rows, each up to its diagonal block; what lies above is mirrored.
    """
    rows = len(jacobian)
    lower = jacobian.new_zeros((rows, rows), dtype=torch.float64)
    for _, block in column_blocks(jacobian):
        for start in range(0, rows, _GRAM_ROWS):
            end = min(start + _GRAM_ROWS, rows)
            lower[start:end, :end].addmm_(block[start:end], block[:end].T)
    return lower.tril() + lower.tril(-1).T


def cross_gram(left: Tensor, right: Tensor) -> Tensor:
    """L Rᵀ (m, m) float64 for two arrays (m, N)."""
    total = left.new_zeros((len(left), len(right)), dtype=torch.float64)
    for (_, block), (_, other) in zip(column_blocks(left), column_blocks(right), strict=True):
        total.addmm_(block, other.T)
    return total


def times(jacobian: Tensor, vectors: Tensor) -> Tensor:
    """J V (m, k) float64 for V (N, k)."""
    # A few columns are multiplied much faster where each lies in one piece, result and factor.
    columns = vectors.T.double().contiguous()
    total = jacobian.new_zeros((len(columns), len(jacobian)), dtype=torch.float64)
    for part, block in column_blocks(jacobian):
        total.T.addmm_(block, columns[:, part].T)
    return total.T


def absolute_sums(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of |J| along each row (m,) and each column (N,), float64."""
    rows = jacobian.new_zeros(len(jacobian), dtype=torch.float64)
    columns = jacobian.new_empty(jacobian.shape[1], dtype=torch.float64)
    for part, block in column_blocks(jacobian):
        magnitudes = block.abs()
        rows += magnitudes.sum(dim=1)
        columns[part] = magnitudes.sum(dim=0)
    return rows, columns


def transposed_times(jacobian: Tensor, weights: Tensor, base: Tensor) -> Tensor:
    """``base + Jᵀ w`` (N,) for w (m,), summed in float64, rounded once to the type of ``base``
    (N,).
    """
    result = torch.empty_like(base)
    for part, block in column_blocks(jacobian):
        result[part] = base[part].double() + block.T @ weights
    return result
