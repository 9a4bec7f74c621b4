"""The natural gradient by factorisation: of A itself, or on the side of J's rows."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Linearization, hessian_root
from hybridsim.errors import InputError, Problem
from hybridsim.outcome import Outcome


def cholesky(lin: Linearization, damping: Tensor) -> Outcome:
    """Solve (J̃ᵀJ̃ + λI) x = g (N,) by the Cholesky factor of an explicit matrix (N, N).

    Cost: O(N³ + r N²), memory two matrices (N, N) beside J and J̃ (r, N).

    Raises:
        InputError: the matrix is not positive definite to working precision.
    """
    rooted = rooted_jacobian(lin)
    matrix = rooted.T @ rooted
    matrix.diagonal().add_(damping)
    return Outcome(_solve(matrix, lin.gradient, "curvature matrices", damping))


def woodbury(lin: Linearization, damping: Tensor) -> Outcome:
    """Solve it as x = (g - J̃ᵀ (J̃J̃ᵀ + λI)⁻¹ J̃ g)/λ (N,): Woodbury's identity (Ren & Goldfarb 2019).

    Cost: O(r² N + r³) with r = b T d_z rows (``ggn``), or b (``empirical_fisher``), b S
    (``sampled_fisher``). The difference
    loses about (s + λ)/λ of the precision, s the eigenvalue of A along g.

    Raises:
        InputError: the matrix (r, r) is not positive definite to working precision.
    """
    rooted = rooted_jacobian(lin)
    gram = rooted @ rooted.T
    gram.diagonal().add_(damping)
    weights = _solve(gram, rooted @ lin.gradient, "Gram matrices", damping)
    return Outcome((lin.gradient - rooted.T @ weights) / damping)


def rooted_jacobian(lin: Linearization) -> Tensor:
    """J̃ = blockdiag(Sᵀ) J/√(b T) (r, N) with the roots S Sᵀ = H of the loss Hessians; J/√b for the
    Fisher. A = J̃ᵀJ̃, in J's type.
    """
    scale = lin.size**-0.5
    if lin.hessian is None:
        scaled: Tensor = lin.matrix * scale
        return scaled
    root = (hessian_root(lin.residual, lin.probabilities) * scale).to(lin.matrix.dtype)
    blocks = lin.matrix.reshape(*root.shape[:2], -1)
    rooted: Tensor = (root.mT @ blocks).reshape(lin.matrix.shape)
    return rooted


def _solve(matrix: Tensor, vector: Tensor, what: str, damping: Tensor) -> Tensor:
    try:
        factor = torch.linalg.cholesky(matrix)
    except torch.linalg.LinAlgError as error:
        precision = str(matrix.dtype).removeprefix("torch.")
        expected = f"enough damping for {what} of order {len(matrix)} in {precision}"
        field, got = "training.algorithm.damping", f"{float(damping):g}: {error}"
        raise InputError([Problem("scenario", None, field, expected, got)]) from error
    return torch.cholesky_solve(vector[:, None], factor)[:, 0]
