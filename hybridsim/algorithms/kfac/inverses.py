"""Inverses of damped factors on a digital processor: by Cholesky, or by Newton–Schulz's products.

Several matrices of equal order n are inverted together, stacked to (k, n, n): one kernel each
where k single inversions would be k. Newton–Schulz (Schulz 1933; Higham, Functions of Matrices,
2008, §7.3; Pan & Reif, STOC 1985):

    R = A X - I,   X <- X - X R,

so that R <- -R² in exact arithmetic: it converges quadratically where the spectral radius of R is
below 1. X = I / ‖A‖_F guarantees that for a positive definite A, and takes about 2 log2(κ) products
more than a start that is near; an earlier inverse does where ‖R‖_F < 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.errors import InputError, Problem
from hybridsim.outcome import Outcome


class Iterate(NamedTuple):
    """Where Newton–Schulz stands: ``a`` (k, n, n), its inverse so far ``x``, ``r`` = a x - I."""

    a: Tensor
    x: Tensor
    r: Tensor


def spd_inverse(matrices: Tensor, damping: float) -> Tensor:
    """Inverses of positive definite matrices (..., n, n) by ``cholesky`` and ``cholesky_inverse``.

    Raises:
        InputError: one is not positive definite to working precision; says that ``damping`` was too
            little.
    """
    try:
        return torch.cholesky_inverse(torch.linalg.cholesky(matrices))
    except torch.linalg.LinAlgError as error:
        expected = (
            f"enough damping for factors of order {matrices.shape[-1]} in "
            f"{str(matrices.dtype).removeprefix('torch.')}"
        )
        problem = Problem(
            "scenario", None, "training.algorithm.damping", expected, f"{damping:g}: {error}"
        )
        raise InputError([problem]) from error


def cholesky_inverses(*matrices: Tensor, damping: float) -> Outcome:
    """Inverses (k, n, n) of k damped matrices (n, n), in one call.

    Raises:
        InputError: as ``spd_inverse``.
    """
    return Outcome(spd_inverse(_stacked(matrices), damping))


def begin(*matrices: Tensor) -> Outcome:
    """Newton–Schulz for k positive definite matrices (n, n) from X = I / ‖A‖_F.

    Returns:
        Outcome(Iterate, {"residual": as ``iterate``}).
    """
    a = _stacked(matrices)
    x, r = _from_norm(a)
    return _outcome(a, x, r)


def resume(inverses: Tensor, *matrices: Tensor) -> Outcome:
    """As ``begin``, from ``inverses`` (k, n, n) of earlier matrices wherever ‖A X - I‖_F < 1."""
    a = _stacked(matrices)
    r = _residual(a, inverses)
    contracts = (torch.linalg.matrix_norm(r) < 1)[:, None, None]
    norm_x, norm_r = _from_norm(a)
    return _outcome(a, torch.where(contracts, inverses, norm_x), torch.where(contracts, r, norm_r))


def iterate(state: Iterate) -> Outcome:
    """One iteration: X - X R, and its R; two products of 2 n³ FLOP for each matrix.

    Returns:
        Outcome(Iterate, {"residual": the largest ‖A X - I‖_F/√n of the k matrices}).
    """
    a, x, r = state
    x = torch.baddbmm(x, x, r, alpha=-1)
    return _outcome(a, x, _residual(a, x))


def _outcome(a: Tensor, x: Tensor, r: Tensor) -> Outcome:
    largest = torch.linalg.matrix_norm(r).amax() / a.shape[-1] ** 0.5
    return Outcome(Iterate(a, x, r), {"residual": largest})


def _stacked(matrices: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(matrices) if len(matrices) > 1 else matrices[0][None]


def _residual(a: Tensor, x: Tensor) -> Tensor:
    r = a @ x
    r.diagonal(dim1=-2, dim2=-1).sub_(1)
    return r


def _from_norm(a: Tensor) -> tuple[Tensor, Tensor]:
    """X = I / ‖A‖_F and R = A / ‖A‖_F - I, without a product."""
    norms = torch.linalg.matrix_norm(a)[:, None, None]
    r = a / norms
    r.diagonal(dim1=-2, dim2=-1).sub_(1)
    x = torch.zeros_like(a)
    x.diagonal(dim1=-2, dim2=-1).add_(1 / norms[:, :, 0])
    return x, r
