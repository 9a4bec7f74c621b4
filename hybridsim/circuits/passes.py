"""Passes over a wide Jacobian in float64, block by block along N: only a small upcast buffer
exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CPU_ELEMENTS = 1 << 18  # 2 MiB of float64: stays in the cache of a core
_GPU_ELEMENTS = 1 << 25  # 256 MiB: few launches


def column_blocks(jacobian: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``(columns, J[:, columns] in float64)`` over all N columns of ``jacobian`` (m, N)."""
    rows, columns = jacobian.shape
    elements = _CPU_ELEMENTS if jacobian.device.type == "cpu" else _GPU_ELEMENTS
    width = max(64, elements // max(rows, 1))
    for start in range(0, columns, width):
        part = slice(start, min(start + width, columns))
        yield part, jacobian[:, part].double()


def gram(jacobian: Tensor) -> Tensor:
    """J Jᵀ (m, m) float64; 2 N m² FLOP."""
    total = jacobian.new_zeros((len(jacobian), len(jacobian)), dtype=torch.float64)
    for _, block in column_blocks(jacobian):
        total.addmm_(block, block.T)
    return total


def times(jacobian: Tensor, vectors: Tensor) -> Tensor:
    """J V (m, k) float64 for V (N, k)."""
    total = jacobian.new_zeros((len(jacobian), vectors.shape[1]), dtype=torch.float64)
    for part, block in column_blocks(jacobian):
        total.addmm_(block, vectors[part].double())
    return total


def transposed_times(jacobian: Tensor, weights: Tensor, base: Tensor) -> Tensor:
    """``base + Jᵀ w`` (N,) for w (m,), summed in float64, rounded once to the type of ``base``
    (N,).
    """
    result = torch.empty_like(base)
    for part, block in column_blocks(jacobian):
        result[part] = base[part].double() + block.T @ weights
    return result
