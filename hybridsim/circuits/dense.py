"""One array: a Kronecker factor of K-FAC in a circuit of summing amplifiers (TKFAC, 2502.08603).

One programmable resistor per entry, one damping and one input resistor and one amplifier per node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from hybridsim.circuits.base import FullScales
from hybridsim.circuits.load import Load, triangle
from hybridsim.circuits.modal import Diagonalised, Flow, check_finite, quadratic_form


@dataclass(frozen=True, eq=False)
class Dense(Diagonalised):
    """A = matrix + damping · I; build it with :func:`dense`.

    Attributes:
        matrix: what the array of resistors holds (n, n) float64, symmetric, without the damping.
    """

    matrix: Tensor

    @property
    def load(self) -> Load:
        """See ``System``."""
        return load(len(self.matrix))

    def conductances(self) -> dict[str, Tensor]:
        """See ``System``: |G_ij| and λ."""
        return {
            "array": self.matrix.abs().amax(),
            "damping": self.matrix.new_tensor(self.damping),
        }

    @cached_property
    def array_form(self) -> Tensor:
        """Σ |G_ij| x_j² as a form of the modes: Vᵀ diag(column sums of |G|) V (n, n)."""
        return quadratic_form(self.eigenvectors, self.matrix.abs().sum(dim=0))

    def array_stages(
        self,
        flow: Flow,
        fixed: FullScales,
        scales: dict[str, Tensor],
        peaks: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """``array``: sum |G_ij| x_j²/x_fs²."""
        return {"array": flow.integral(self.array_form) / scales["x"] ** 2}


@cache
def load(size: int) -> Load:
    """What a factor of order n takes: n amplifiers and n² programmable resistors."""
    whole = size * size
    return Load(size, whole, size, whole, (triangle("factor", size),))


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
    check_finite("a finite matrix and damping", symmetric, damping)
    values, vectors = torch.linalg.eigh(symmetric)
    return Dense(float(damping), values + damping, vectors, symmetric)
