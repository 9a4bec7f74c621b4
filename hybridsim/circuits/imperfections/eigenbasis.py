"""Eigenvectors of a matrix that is not symmetric: what a real circuit's modes are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.errors import HybridsimError

_TRUSTED = 1e-9  # relative error of P diag(μ) P⁻¹ up to which the basis is taken as it is
_MOVED = 1e-8  # by which a matrix without a good basis is moved, relative to its norm


class Eigenbasis(NamedTuple):
    """S = P diag(μ) P⁻¹, complex128: ``values`` (r,), ``vectors`` P, ``dual`` P⁻¹ (r, r).

    ``moved``: by which S was changed, relative to its norm; 0 where it has a basis.
    """

    values: Tensor
    vectors: Tensor
    dual: Tensor
    moved: float = 0.0

    def components(self, columns: Tensor) -> Tensor:
        """P⁻¹ Y for Y (r, k) float64."""
        return self.dual @ columns.to(self.dual.dtype)

    def combined(self, components: Tensor) -> Tensor:
        """P Z (r, k), real: of conjugate pairs only the sum counts."""
        return (self.vectors @ components).real


def eigenbasis(matrix: Tensor) -> Eigenbasis:
    """The eigenvectors of S (r, r) float64; O(r³), about 6 times a symmetric decomposition.

    P⁻¹ is a change of basis; no system of the circuit is solved. Where S has no well conditioned
    basis it is moved by 1e-8 of its norm, which gives it one: an approximate diagonalization
    (Davies, SIAM J. Matrix Anal. Appl. 29, 2007), exact to about that.

    Raises:
        HybridsimError: S holds a NaN or an infinity, or has no basis even so.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise HybridsimError("expected a finite Jacobian and loss Hessian, got NaN or infinity")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype).to(matrix.device)
    for moved in (0.0, _MOVED):
        size = moved * matrix.norm() / max(len(matrix), 1) ** 0.5
        values, vectors = torch.linalg.eig(matrix + size * noise if moved else matrix)
        dual, info = torch.linalg.inv_ex(vectors)
        found = Eigenbasis(values, vectors, dual, moved)
        if not bool(info) and _error(found, matrix, noise[:, :2]) <= max(_TRUSTED, 10 * moved):
            return found
    raise HybridsimError(
        "the circuit's modes cannot be told apart: expected a diagonalizable drift"
    )


def _error(basis: Eigenbasis, matrix: Tensor, probes: Tensor) -> float:
    """‖P diag(μ) P⁻¹ Y - S Y‖/(‖S‖ ‖Y‖) for probes Y: two products with vectors, not matrices."""
    found = basis.combined(basis.values[:, None] * basis.components(probes))
    size = matrix.norm() * probes.norm()
    return float((found - matrix @ probes).norm() / size) if float(size) > 0 else 0.0
