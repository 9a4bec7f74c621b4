"""A small symmetric system with its eigendecomposition: a Kronecker factor of K-FAC plus damping.

The array of resistors holds the factor itself (:class:`Dense`), or two arrays hold the rows that it
is the Gram matrix of (:class:`Roots`, TKFAC, arXiv 2502.08603, §4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hybridsim.circuits.base import Load
from hybridsim.errors import HybridsimError


@dataclass(frozen=True, eq=False)
class Diagonalised:
    """What a transition needs to know of A.

    Attributes:
        damping: λ, dimensionless, one more resistor per node.
        eigenvalues: of A (n,) float64, ascending; a negative one is a mode that runs away.
        eigenvectors: V (n, n) float64.
    """

    damping: float
    eigenvalues: Tensor
    eigenvectors: Tensor


@dataclass(frozen=True, eq=False)
class Dense(Diagonalised):
    """A = matrix + damping · I; build it with :func:`dense`.

    Attributes:
        matrix: what the array of resistors holds (n, n) float64, symmetric, without the damping.
    """

    matrix: Tensor

    @cached_property
    def array_form(self) -> Tensor:
        """Σ |G_ij| x_j² as a form of the modes: Vᵀ diag(column sums of |G|) V (n, n), computed
        once.
        """
        return _form(self.eigenvectors, self.matrix.abs().sum(dim=0))


@dataclass(frozen=True, eq=False)
class Roots(Diagonalised):
    """A = Xᵀ X + damping · I; build it with :func:`roots`.

    Attributes:
        rows: X (r, n) float64, what both arrays of resistors hold.
    """

    rows: Tensor

    @cached_property
    def outputs(self) -> Tensor:
        """X V (r, n): u = X x of a mode."""
        return self.rows @ self.eigenvectors

    @cached_property
    def array_form(self) -> Tensor:
        """Σ |X_ij| x_j² as a form of the modes (n, n)."""
        return _form(self.eigenvectors, self.rows.abs().sum(dim=0))

    @cached_property
    def transposed_form(self) -> Tensor:
        """Σ |X_ij| u_i² as a form of the modes (n, n)."""
        return _form(self.outputs, self.rows.abs().sum(dim=1))


def dense(matrix: Tensor, damping: float = 0.0) -> Dense:
    """Set up A = matrix + damping · I; O(n³) once per upload.

    Args:
        matrix: (n, n), symmetrised here; float32 is raised to float64.
        damping: λ, dimensionless.

    Raises:
        ValueError: the matrix is not square.
        HybridsimError: it holds a NaN or an infinity, or the damping is one.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a square matrix, got {tuple(matrix.shape)}")
    symmetric = matrix.double()
    symmetric = symmetric / 2 + symmetric.T / 2
    _check_finite("a finite matrix and damping", symmetric, damping)
    values, vectors = torch.linalg.eigh(symmetric)
    return Dense(float(damping), values + damping, vectors, symmetric)


def roots(rows: Tensor, damping: float = 0.0) -> Roots:
    """Set up A = Xᵀ X + damping · I from X; O(n² r + min(r, n)³) once per upload.

    With r < n, Xᵀ = Q R with all n columns of Q: A = Q₁ (R Rᵀ) Q₁ᵀ + λ I, so that r x r is what is
    diagonalised and the other columns of Q are modes of rate λ. Nothing is divided by a singular
    value.

    Args:
        rows: X (r, n); float32 is raised to float64.
        damping: λ, dimensionless.

    Raises:
        ValueError: X is no matrix.
        HybridsimError: it, its Gram matrix or the damping holds a NaN or an infinity.
    """
    if rows.ndim != 2:
        raise ValueError(f"expected a matrix (r, n), got {tuple(rows.shape)}")
    rows = rows.double()
    count, size = rows.shape
    wide = count < size
    basis, root = torch.linalg.qr(rows.T, mode="complete") if wide else (None, rows.T)
    gram = root[: min(count, size)] @ root[: min(count, size)].T
    _check_finite("finite rows and damping", gram, damping)
    values, vectors = torch.linalg.eigh(gram)
    if basis is not None:
        values = torch.cat([values.new_zeros(size - count), values])
        vectors = torch.cat([basis[:, count:], basis[:, :count] @ vectors], dim=1)
    return Roots(float(damping), values.clamp(min=0) + damping, vectors, rows)


def _form(outputs: Tensor, weights: Tensor) -> Tensor:
    """Mᵀ diag(weights) M (n, n) for M (m, n): the weighted sum of squares of M y."""
    return outputs.T @ (weights[:, None] * outputs)


def _check_finite(expected: str, matrix: Tensor, damping: float) -> None:
    if not matrix.is_meta and not bool(
        torch.isfinite(matrix).all() & torch.isfinite(torch.tensor(damping))
    ):
        raise HybridsimError(f"expected {expected}, got NaN or infinity")


def load(size: int) -> Load:
    """What a factor of order n takes in one array: n amplifiers and n² programmable resistors."""
    return Load(size, size * size, size, size * size, (("factor", size * size),))


def roots_load(rows: int, size: int) -> Load:
    """What X (r, n) takes in two arrays: n + r amplifiers and 2 r n programmable resistors."""
    resistors = 2 * rows * size
    return Load(size, resistors, size + rows, resistors, (("factor", rows * size),))
