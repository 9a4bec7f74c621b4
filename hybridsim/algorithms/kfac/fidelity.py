"""Exact digital solves of K-FAC's systems, for diagnostics of analog answers."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.outcome import Outcome


def preconditioning_fidelity(*operands: Tensor, form: str) -> Outcome:
    """How well answers U solve (G + shift_g I) U (A + shift_a I) = D, over all blocks of K-FAC
    together.

    Args:
        operands: for each block A (n, n) or its diagonal (n,), G (m, m), their shifts (0-dim), D
            and U (m, n).
        form: ``roots``: A and G are given as X and Y with A = XᵀX, G = YᵀY.

    Returns:
        Outcome(None, {"solver_cosine", "solver_relative_error"}): of the joined answers against the
        exact ones.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=operands[0].device)
    for a, g, shift_a, shift_g, d, u in zip(*(operands[k::6] for k in range(6)), strict=True):
        left = damped_solve(g, shift_g, d.double(), form)
        exact, given = damped_solve(a, shift_a, left.T, form).T, u.double()
        sums += torch.stack(
            [f.sum() for f in (given * exact, given**2, exact**2, (given - exact) ** 2)]
        )
    inner, own, norm, error = sums
    return Outcome(
        None,
        {
            "solver_cosine": inner / (own * norm).sqrt(),
            "solver_relative_error": (error / norm).sqrt(),
        },
    )


def damped_solve(factor: Tensor, shift: Tensor, columns: Tensor, form: str) -> Tensor:
    """(factor + shift I)⁻¹ columns in float64; NaN where it is singular."""
    matrix = factor.double()
    if factor.ndim == 1:
        return columns / (matrix + shift)[:, None]
    matrix = matrix.T @ matrix if form == "roots" else matrix.clone()
    matrix.diagonal().add_(shift)
    solution, info = torch.linalg.solve_ex(matrix, columns)
    return torch.where(info == 0, solution, torch.nan)
