"""The system matrix of thermodynamic natural gradient descent: low rank plus damping, never formed.

A = J̃ᵀ J̃ + λ I with J̃ = scale · blockdiag(rootᵀ) J of shape (r, N), r ≪ N (TNGD, arXiv
2405.13817). J is kept as uploaded, J̃ stays implicit. A vector of R^N is kept as x = perp + J̃ᵀ
coeff: functions of A act on coeff exactly, in r dimensions and in float64, where the general
formula would cancel in float32 (a gradient lies in the span of J̃ᵀ).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import passes
from hybridsim.circuits.base import Load
from hybridsim.errors import HybridsimError


class Vector(NamedTuple):
    """x = perp + J̃ᵀ coeff: ``perp`` (N,) any vector, in the type of J; ``coeff`` (r,) float64."""

    perp: Tensor
    coeff: Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """A = J̃ᵀ J̃ + damping · I, with J̃ = scale · blockdiag(rootᵀ) J; build it with
    :func:`lowrank`.

    Attributes:
        jacobian: J (r, N), float32 or float64, sample-major rows.
        root: S (b, d, d) float64 with H_L = S Sᵀ per sample, b d = r; None for the identity.
        scale: dimensionless factor of J̃, 1/√b for a mean over b samples.
        damping: λ >= 0, dimensionless.
        eigenvalues: s (r,) float64, ascending, >= 0, of K = J̃ J̃ᵀ.
        eigenvectors: Q (r, r) float64, K = Q diag(s) Qᵀ.
        gram: J Jᵀ (r, r) float64.
    """

    jacobian: Tensor
    root: Tensor | None
    scale: float
    damping: float
    eigenvalues: Tensor
    eigenvectors: Tensor
    gram: Tensor

    @property
    def rank(self) -> int:
        """r, the number of rows of J."""
        return self.jacobian.shape[0]

    @property
    def size(self) -> int:
        """N, the number of parameters."""
        return self.jacobian.shape[1]

    @cached_property
    def absolute_sums(self) -> tuple[Tensor, Tensor]:
        """Sums of |J| along each row (r,) and each column (N,), float64: what its resistors conduct
        together; one pass over J, once per system.
        """
        return passes.absolute_sums(self.jacobian)

    def rooted(self, rows: Tensor) -> Tensor:
        """Apply scale · blockdiag(rootᵀ) to Y (r, k) float64; with Y = J V it is J̃ V."""
        return self.scale * _blocks_times(None if self.root is None else self.root.mT, rows)

    def unrooted(self, coeffs: Tensor) -> Tensor:
        """Apply scale · blockdiag(root) to C (r, k) float64; Jᵀ times it is J̃ᵀ C."""
        return self.scale * _blocks_times(self.root, coeffs)

    def project(self, vectors: Tensor) -> Tensor:
        """J̃ V in float64, (r,) or (r, k), for V (N,) or (N, k); one pass over J."""
        if vectors.ndim == 1:
            return self.project(vectors[:, None])[:, 0]
        return self.rooted(passes.times(self.jacobian, vectors))

    def outputs(self, *vectors: Vector) -> Tensor:
        """J P (r, k) float64 for the perp parts P of k vectors; one pass over J."""
        return passes.times(self.jacobian, torch.stack([v.perp for v in vectors], dim=1))

    def full(self, vector: Vector) -> Tensor:
        """The vector x (N,) in the type of ``perp``; one pass over J, summed in float64 and rounded
        once.
        """
        weights = self.unrooted(vector.coeff[:, None])[:, 0]
        return passes.transposed_times(self.jacobian, weights, vector.perp)

    def vector(self, perp: Tensor | None = None, coeff: Tensor | None = None) -> Vector:
        """A vector of this system; a part left out is zero."""
        if perp is None:
            perp = self.jacobian.new_zeros(self.size)
        if coeff is None:
            coeff = self.eigenvalues.new_zeros(self.rank)
        return Vector(perp.to(self.jacobian.dtype), coeff.double())


def lowrank(jacobian: Tensor, root: Tensor | None, scale: float, damping: float) -> LowRank:
    """Set up A = J̃ᵀ J̃ + damping · I from one upload.

    K = scale² Sᵀ (J Jᵀ) S is accumulated in float64 and diagonalised once: 2 N r² + O(r³) FLOP, r²
    + O(block) float64 of memory beyond J, no N x N matrix.

    Args:
        jacobian: J (r, N) float32 or float64.
        root: S (b, d, d) with b d = r, or None.
        scale: factor of J̃.
        damping: λ >= 0, dimensionless.

    Raises:
        ValueError: the shapes do not fit or the damping is negative.
        HybridsimError: J or the root holds a NaN or an infinity.
    """
    _check(jacobian, root, damping)
    root = None if root is None else root.double()
    gram = passes.gram(jacobian)
    draft = LowRank(jacobian, root, float(scale), float(damping), gram[0], gram, gram)
    kernel = draft.rooted(draft.rooted(gram).T)
    if not kernel.is_meta and not bool(torch.isfinite(kernel).all()):
        raise HybridsimError(
            "expected a finite Jacobian and loss Hessian, got NaN or infinity in J̃ J̃ᵀ"
        )
    s, q = torch.linalg.eigh((kernel + kernel.T) / 2)
    return LowRank(jacobian, root, float(scale), float(damping), s.clamp(min=0), q, gram)


def _check(jacobian: Tensor, root: Tensor | None, damping: float) -> None:
    if jacobian.ndim != 2 or not jacobian.is_floating_point():
        raise ValueError(
            f"expected a floating-point Jacobian (r, N), got {jacobian.dtype} "
            f"{tuple(jacobian.shape)}"
        )
    if root is not None:
        fits = (
            root.ndim == 3
            and root.shape[1] == root.shape[2]
            and len(root) * root.shape[1] == len(jacobian)
        )
        if not fits:
            raise ValueError(
                f"expected a root (b, d, d) with b d = {len(jacobian)}, got {tuple(root.shape)}"
            )
    if not damping >= 0:
        raise ValueError(f"expected damping >= 0, got {damping!r}")


def _blocks_times(blocks: Tensor | None, rows: Tensor) -> Tensor:
    """blockdiag(blocks) Y for blocks (b, d, d) and Y (b d, k)."""
    if blocks is None:
        return rows
    return (blocks @ rows.reshape(*blocks.shape[:2], -1)).reshape(rows.shape)


def load(
    size: int, rows: int, *, outputs: int, full_hessian: bool = False, copies: int = 1
) -> Load:
    """What TNGD's circuit takes: two arrays for J, one for H_L, an amplifier per row of each stage.

    r (r + 2 N) programmable resistors and N + 2 r amplifiers, r = b d_z; with the empirical Fisher
    there is no H array: 2 r N resistors, N + r amplifiers (TNGD, arXiv 2405.13817).

    Args:
        size: N.
        rows: r.
        outputs: d_z, 0 for the empirical Fisher.
        full_hessian: all of the H array is sent and written, not its blocks alone.
        copies: how often J is sent; once serves both arrays.
    """
    arrays, written = [("jacobian", copies * rows * size)], 2 * rows * size
    if not outputs:
        return Load(size, 2 * rows * size, size + rows, written, tuple(arrays))
    hessian = rows * (rows if full_hessian else outputs)
    arrays.append(("hessian", hessian))
    return Load(size, rows * (rows + 2 * size), size + 2 * rows, written + hessian, tuple(arrays))
