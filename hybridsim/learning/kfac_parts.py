"""Small steps of K-FAC on the GPU around what SPUs answer: columns joined, inverses applied, factors cut into tiles.

Tiles: a damped factor P = [[P11, P12], [P21, P22]] that is too large for an SPU is solved by block elimination,

    Y = P11⁻¹ [P12, B1],   S = P22 - P21 Y_P,   X2 = S⁻¹ (B2 - P21 Y_B),   X1 = Y_B - Y_P X2,

with the two inverses on SPUs. The damping is a resistor of its own in each of them, so P stands here without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.outcome import Outcome


def join_columns(*pieces: Tensor) -> Outcome:
    """Columns (n, k_i) that were solved in several places, side by side (n, k)."""
    return Outcome(torch.cat(pieces, dim=1))


def reciprocal(a: Tensor, shift: Tensor) -> Outcome:
    """The inverse of a damped diagonal factor, (n,): 1/(a + shift)."""
    return Outcome((a + shift).reciprocal())


def apply_inverses(a: Tensor, g: Tensor, gradient: Tensor) -> Outcome:
    """U = G⁻¹ D A⁻¹ (m, n) from inverses at hand; a diagonal A⁻¹ is a vector (n,)."""
    solved = g @ gradient
    return Outcome(solved * a if a.ndim == 1 else solved @ a)


def first_tile(factor: Tensor, columns: Tensor, *, size: int) -> Outcome:
    """P11 (t, t) and the columns [P12, B1] (t, n - t + k) that are solved against it."""
    return Outcome((factor[:size, :size].contiguous(), torch.cat([factor[:size, size:], columns[:size]], dim=1)))


def following_tiles(factor: Tensor, columns: Tensor, solved: Tensor, *, size: int) -> Outcome:
    """The Schur complement S (n - t, n - t), symmetrised, and its right-hand sides (n - t, k)."""
    rest = len(factor) - size
    below = factor[size:, :size]
    schur = factor[size:, size:] - below @ solved[:, :rest]
    return Outcome(((schur + schur.T) / 2, columns[size:] - below @ solved[:, rest:]))


def join_tiles(solved: Tensor, following: Tensor) -> Outcome:
    """X (n, k) from Y (t, n - t + k) and X2 (n - t, k)."""
    rest = len(following)
    return Outcome(torch.cat([solved[:, rest:] - solved[:, :rest] @ following, following]))
