"""A small dense symmetric system, e.g. a Kronecker factor of K-FAC plus damping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hybridsim.errors import HybridsimError


@dataclass(frozen=True, eq=False)
class Dense:
    """A = matrix + damping · I with its eigendecomposition; build it with :func:`dense`.

    Attributes:
        matrix: what the array of resistors holds (n, n) float64, symmetric, without the damping.
        damping: λ, dimensionless, one more resistor per node.
        eigenvalues: of A (n,) float64, ascending; a negative one is a mode that runs away.
        eigenvectors: (n, n) float64.
    """

    matrix: Tensor
    damping: float
    eigenvalues: Tensor
    eigenvectors: Tensor


def dense(matrix: Tensor, damping: float = 0.0) -> Dense:
    """Set up A = matrix + damping · I; O(n³) once per upload.

    Args:
        matrix: (n, n), symmetrised here; float32 is raised to float64.
        damping: λ, dimensionless.

    Raises:
        ValueError: the matrix is not square.
        HybridsimError: it holds a NaN or an infinity.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a square matrix, got {tuple(matrix.shape)}")
    symmetric = matrix.double()
    symmetric = (symmetric + symmetric.T) / 2
    if not symmetric.is_meta and not bool(torch.isfinite(symmetric).all()):
        raise HybridsimError("expected a finite matrix, got NaN or infinity")
    values, vectors = torch.linalg.eigh(symmetric)
    return Dense(symmetric, float(damping), values + damping, vectors)
