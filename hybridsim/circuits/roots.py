"""Two arrays: a Kronecker factor A = XᵀX from the rows X that it is the Gram matrix of.

X is driven by x, Xᵀ by u = X x, whose r amplifiers have a feedback resistor each (TKFAC, arXiv
2502.08603, §4.2); it is TNGD's circuit with the empirical Fisher.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from hybridsim.circuits.base import FullScales, full_scale
from hybridsim.circuits.load import Load, rectangle
from hybridsim.circuits.modal import Diagonalised, Flow, check_finite, quadratic_form


@dataclass(frozen=True, eq=False)
class Roots(Diagonalised):
    """A = Xᵀ X + damping · I; build it with :func:`roots`.

    Attributes:
        rows: X (r, n) float64, what both arrays of resistors hold.
    """

    rows: Tensor

    @property
    def load(self) -> Load:
        """See ``System``."""
        return load(*self.rows.shape)

    def conductances(self) -> dict[str, Tensor]:
        """See ``System``: |X_ij| and λ."""
        return {
            "j_array": self.rows.abs().amax(),
            "damping": self.rows.new_tensor(self.damping),
        }

    def scaled_conductances(self, scales: dict[str, Tensor]) -> dict[str, Tensor]:
        """See ``Diagonalised``: w = u drives Xᵀ itself."""
        return {"jt_array": self.rows.abs().amax() * (scales["u"] / scales["x"])}

    @cached_property
    def outputs(self) -> Tensor:
        """X V (r, n): u = X x of a mode."""
        return self.rows @ self.eigenvectors

    @cached_property
    def array_form(self) -> Tensor:
        """Σ |X_ij| x_j² as a form of the modes (n, n)."""
        return quadratic_form(self.eigenvectors, self.rows.abs().sum(dim=0))

    @cached_property
    def transposed_form(self) -> Tensor:
        """Σ |X_ij| u_i² as a form of the modes (n, n)."""
        return quadratic_form(self.outputs, self.rows.abs().sum(dim=1))

    def array_stages(
        self,
        flow: Flow,
        fixed: FullScales,
        scales: dict[str, Tensor],
        peaks: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Both arrays, and the feedback of u.

        j_array     sum |X_ij| x_j²/x_fs²
        jt_array    sum |X_ij| u_i²/(u_fs x_fs)
        feedback_u  sum u_i²/(u_fs x_fs)
        """
        peaks["u"] = flow.peak(self.outputs)
        scales["u"] = full_scale(fixed.u, peaks["u"])
        through = scales["u"] * scales["x"]
        return {
            "j_array": flow.integral(self.array_form) / scales["x"] ** 2,
            "jt_array": flow.integral(self.transposed_form) / through,
            "feedback_u": flow.integral(self.eigenvalues - self.damping) / through,
        }


@cache
def load(rows: int, size: int) -> Load:
    """What X (r, n) takes: n + r amplifiers and 2 r n programmable resistors."""
    resistors = 2 * rows * size
    arrays = (rectangle("factor", rows * size),)
    return Load(size, resistors, size + rows, resistors, arrays, rows)


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
    check_finite("finite rows and damping", gram, damping)
    values, vectors = torch.linalg.eigh(gram)
    if basis is not None:
        values = torch.cat([values.new_zeros(size - count), values])
        vectors = torch.cat([basis[:, count:], basis[:, :count] @ vectors], dim=1)
    return Roots(float(damping), values.clamp(min=0) + damping, vectors, rows)
