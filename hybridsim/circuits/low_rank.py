"""TNGD's circuit of summing amplifiers (arXiv 2405.13817): low rank plus damping, never formed.

A = J̃ᵀ J̃ + λ I with J̃ = scale · blockdiag(rootᵀ) J of shape (r, N), r ≪ N (TNGD, arXiv
2405.13817). J is kept as uploaded, or made as it is read
(``rows``), J̃ stays implicit. A vector of R^N is kept as x = perp + J̃ᵀ
coeff: functions of A act on coeff exactly, in r dimensions and in float64, where the general
formula would cancel in float32 (a gradient lies in the span of J̃ᵀ).

The current of every programmable resistor flows into a virtual ground, so each array dissipates sum
|G_ij| V_j² with no cancellation (arXiv 2405.13817's circuit: J driven by x, H driven by u = J x, Jᵀ
driven by w = H u/b). Each stage has its own full scale: V_x = x V_fs/x_fs, V_u = u V_fs/u_fs, V_w =
w V_fs/w_fs, V_b = b V_fs/b_fs, realised by the feedback conductances (u_fs/x_fs) G0 and (w_fs/u_fs)
G0, by the factor w_fs/x_fs on the Jᵀ array and by the input conductances (b_fs/x_fs) G0. With the
empirical Fisher there is no H array: u drives Jᵀ itself, w = u/b.

Energies are in units of V_fs² C (that is V_fs² G0 times RC); multiplying all conductances by one
factor changes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.base import (
    AUTOMATIC,
    Dissipation,
    FullScales,
    System,
    check_interval,
    full_scale,
    normal,
)
from hybridsim.circuits.load import Load
from hybridsim.circuits.low_rank_moments import Flow, energies
from hybridsim.circuits.low_rank_parts import load
from hybridsim.circuits.precision import largest_magnitude
from hybridsim.circuits.rows import Rows, as_rows
from hybridsim.errors import HybridsimError


class Vector(NamedTuple):
    """x = perp + J̃ᵀ coeff: ``perp`` (N,) any vector, in the type of J; ``coeff`` (r,) float64.

    ``peaks`` (4,) float64, of a circuit that remembers them: largest x, u, w and b so far.
    """

    perp: Tensor
    coeff: Tensor
    peaks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LowRank(System[Vector]):
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

    jacobian: Rows
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
        return self.jacobian.absolute_sums()

    @cached_property
    def largest_entry(self) -> Tensor:
        """Largest |J_ij|, 0-dim in the type of J."""
        return self.jacobian.largest()

    def rooted(self, rows: Tensor) -> Tensor:
        """Apply scale · blockdiag(rootᵀ) to Y (r, k) float64; with Y = J V it is J̃ V."""
        return self.scale * times_blocks(None if self.root is None else self.root.mT, rows)

    def unrooted(self, coeffs: Tensor) -> Tensor:
        """Apply scale · blockdiag(root) to C (r, k) float64; Jᵀ times it is J̃ᵀ C."""
        return self.scale * times_blocks(self.root, coeffs)

    def project(self, vectors: Tensor) -> Tensor:
        """J̃ V in float64, (r,) or (r, k), for V (N,) or (N, k); one pass over J."""
        if vectors.ndim == 1:
            return self.project(vectors[:, None])[:, 0]
        return self.rooted(self.jacobian.times(vectors))

    def outputs(self, *vectors: Vector) -> Tensor:
        """J P (r, k) float64 for the perp parts P of k vectors; one pass over J."""
        return self.jacobian.times(torch.stack([v.perp for v in vectors], dim=1))

    def full(self, vector: Vector) -> Tensor:
        """The vector x (N,) in the type of ``perp``; one pass over J, summed in float64 and rounded
        once.
        """
        weights = self.unrooted(vector.coeff[:, None])[:, 0]
        return self.jacobian.transposed_times(weights, vector.perp)

    def displaced(self, state: Vector, change: Tensor) -> Vector:
        """See ``System``; what lies in the span of J̃ᵀ stays exact."""
        perp = state.perp.double() + change
        return Vector(perp.to(state.perp.dtype), state.coeff)

    def quiet(self) -> LowRank:
        """The same device without noise of its own: it has none."""
        return self

    def vector(self, perp: Tensor | None = None, coeff: Tensor | None = None) -> Vector:
        """A vector of this system; a part left out is zero."""
        if perp is None:
            perp = self.jacobian.zeros(self.size)
        if coeff is None:
            coeff = self.eigenvalues.new_zeros(self.rank)
        return Vector(perp.to(self.jacobian.dtype), coeff.double())

    @property
    def full_scales(self) -> FullScales:
        """None is fixed: every stage's gain fits the settle."""
        return AUTOMATIC

    @property
    def load(self) -> Load:
        """See ``System``; the whole H array."""
        outputs = 0 if self.root is None else self.root.shape[-1]
        return load(self.size, self.rank, outputs=outputs)

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """See ``System``; in more dimensions than J has rows there are modes of rate λ."""
        smallest = self.eigenvalues.new_tensor(self.damping)
        if self.size <= self.rank:
            smallest = self.eigenvalues[self.rank - self.size] + self.damping
        return smallest, self.eigenvalues[-1] + self.damping

    def conductances(self) -> dict[str, Tensor]:
        """See ``System``: |J_ij|, |H_kl|/b and λ."""
        found = {
            "j_array": self.largest_entry,
            "damping": self.eigenvalues.new_tensor(self.damping),
        }
        if self.root is not None:
            found["h_array"] = largest_magnitude(self.root @ self.root.mT) * self.scale**2
        return found

    def rest(self) -> Vector:
        """See ``System``."""
        return self.vector()

    def relax(
        self,
        state: Vector,
        drive: Vector,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
        outputs: Tensor | None = None,
    ) -> Vector:
        """See ``System``; z is drawn in the type and on the device of J.

        Cost: one pass over J for state and drive unless ``outputs`` is given, and one for the noise
        (m N products a column, float64); no read-out pass, see ``full``.
        ``outputs``: ``self.outputs(state, drive)`` (r, 2) where it is known.
        """
        check_interval(tau, kappa0)
        noise = None
        if kappa0 > 0 and tau > 0:
            if noise_seeds is None or len(noise_seeds) != 1:
                got = "none" if noise_seeds is None else len(noise_seeds)
                raise ValueError(f"expected 1 noise seeds, got {got}")
            noise = normal(noise_seeds[0], state.perp)
        return self.transition(state, drive, noise, tau=tau, kappa0=kappa0, outputs=outputs)

    def transition(
        self,
        state: Vector,
        drive: Vector,
        noise: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        outputs: Tensor | None = None,
    ) -> Vector:
        """The map of ``relax`` with its normal numbers z (N,) given: exp(-A h) x + psi(A) b +
        sigma(A) z.

        perp parts take the general form f(A) v = f(λ) v + J̃ᵀ Q diag[(f(s+λ) - f(λ))/s] Qᵀ J̃ v,
        coefficients the exact one f(A) J̃ᵀ c = J̃ᵀ Q f(s+λ) Qᵀ c. ``noise=None`` gives the mean;
        ``outputs`` is ``self.outputs(state, drive)`` where it is known.
        """
        if tau == 0:
            return state
        s, q = self.eigenvalues, self.eigenvectors
        h, damping = s.new_tensor(tau), s.new_tensor(self.damping)
        outputs = self.outputs(state, drive) if outputs is None else outputs
        columns = [state.perp, drive.perp]
        at_damping = [modes.decay(damping, h), modes.response(damping, h)]
        slopes = [modes.decay_slope(s, damping, h), modes.response_slope(s, damping, h)]
        if noise is not None and kappa0 > 0:
            outputs = torch.cat([outputs, self.jacobian.times(noise[:, None])], dim=1)
            columns.append(noise)
            at_damping.append(modes.spread(damping, h, kappa0))
            slopes.append(modes.spread_slope(s, damping, h, kappa0))
        stacked = torch.stack(columns, dim=1).double()
        perp = (stacked @ torch.stack(at_damping)).to(state.perp.dtype)
        general = (torch.stack(slopes, dim=1) * (q.T @ self.rooted(outputs))).sum(dim=1)
        exact = modes.decay(s + damping, h) * (q.T @ state.coeff)
        exact = exact + modes.response(s + damping, h) * (q.T @ drive.coeff)
        return Vector(perp, q @ (general + exact))

    def settle(
        self,
        state: Vector,
        drive: Vector,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
        charge: bool = False,
    ) -> tuple[Vector, Dissipation]:
        """See ``System``: the product J [p, q] is formed once for both."""
        outputs = self.outputs(state, drive)
        moved = self.relax(
            state, drive, tau=tau, kappa0=kappa0, noise_seeds=noise_seeds, outputs=outputs
        )
        heat = self.dissipation(
            state, drive, tau=tau, kappa0=kappa0, outputs=outputs, charge=charge
        )
        return moved, heat

    def dissipation(
        self,
        state: Vector,
        drive: Vector,
        *,
        tau: float,
        kappa0: float,
        full_scales: FullScales = AUTOMATIC,
        outputs: Tensor | None = None,
        charge: bool = False,
    ) -> Dissipation:
        """Dissipation over ``tau`` RC of dx = -(A x - b) dτ + sqrt(2 kappa0) dW, given the state at
        its start.

        Integrals of the second moment E x_j² = (E x_j)² + Var x_j, likewise u and w; in units of
        V_fs² C:

            j_array     sum |J_ij| x_j²/x_fs²              damping    λ sum x_j²/x_fs²
            input       sum b_j²/(b_fs x_fs)               feedback_u sum u_k²/(u_fs x_fs)
            h_array     sum |H_kl/b| u_l²/u_fs²            feedback_w sum w_k²/(u_fs w_fs)
            jt_array    sum |J_kj| w_k²/(w_fs x_fs)

        A full scale left None is the largest |mean| + 3 sd of its stage at the interval's ends and
        at the nodes between, b_fs the larger of max |b| and x_fs: an ideal programmable gain (an
        assumption, to be flagged). The amplifiers' static power is not included.

        Cost: one pass over J, of one column per node (8 for each factor 4 of time between 1/(s_max
            + λ) and tau) and one for the drive; with noise 2 N r² more for the variances. One more
            pass unless ``outputs`` is given, and one for the sums of |J|, once per system. Memory:
            blocks of J only.

        Args:
            state: x at the start.
            drive: b, constant.
            tau: duration in RC, >= 0.
            kappa0: noise strength, dimensionless.
            full_scales: fixed ones, > 0, or None; w is not asked for without an H array (w_fs =
                u_fs/b).
            outputs: ``self.outputs(state, drive)`` (r, 2) where it is known.
            charge: say also what the amplifiers' loads took (``energies``).
        """
        outputs = self.outputs(state, drive) if outputs is None else outputs
        flow = Flow.of(self, state, drive, outputs, tau, kappa0, magnitudes=charge)
        (x, b), u, w = flow.nodes(), flow.outputs(), flow.currents()
        x_fs, u_fs = full_scale(full_scales.x, x.peak), full_scale(full_scales.u, u.peak)
        rooted = self.root is not None
        w_fs = full_scale(full_scales.w, w.peak) if rooted else u_fs * self.scale**2
        b_fs = (
            torch.maximum(b.peak, x_fs)
            if full_scales.b is None
            else full_scale(full_scales.b, b.peak)
        )
        scales = {"x": x_fs, "u": u_fs, "w": w_fs, "b": b_fs}
        conductances = {
            "input": b_fs / x_fs,
            "jt_array": self.largest_entry * (w_fs / x_fs),
        }
        return energies(
            x,
            b,
            u,
            w,
            scales,
            damping=self.damping,
            tau=tau,
            hessian=rooted,
            conductances=conductances,
        )


def lowrank(jacobian: Tensor | Rows, root: Tensor | None, scale: float, damping: float) -> LowRank:
    """Set up A = J̃ᵀ J̃ + damping · I from one upload.

    K = scale² Sᵀ (J Jᵀ) S is accumulated in float64 and diagonalised once: N r² + O(r³) FLOP (of J
    as a tensor; see ``rows``), r² + O(block) float64 of memory beyond J, no N x N matrix.

    Args:
        jacobian: J (r, N) float32 or float64.
        root: S (b, d, d) with b d = r, or None.
        scale: factor of J̃.
        damping: λ >= 0, dimensionless.

    Raises:
        ValueError: the shapes do not fit or the damping is negative.
        HybridsimError: J or the root holds a NaN or an infinity.
    """
    rows = as_rows(jacobian)
    _check(rows, root, damping)
    root = None if root is None else root.double()
    gram = rows.gram()
    draft = LowRank(rows, root, float(scale), float(damping), gram[0], gram, gram)
    kernel = draft.rooted(draft.rooted(gram).T)
    if not kernel.is_meta and not bool(torch.isfinite(kernel).all()):
        raise HybridsimError(
            "expected a finite Jacobian and loss Hessian, got NaN or infinity in J̃ J̃ᵀ"
        )
    s, q = torch.linalg.eigh((kernel + kernel.T) / 2)
    return LowRank(rows, root, float(scale), float(damping), s.clamp(min=0), q, gram)


def _check(rows: Rows, root: Tensor | None, damping: float) -> None:
    if root is not None:
        fits = (
            root.ndim == 3
            and root.shape[1] == root.shape[2]
            and len(root) * root.shape[1] == len(rows)
        )
        if not fits:
            raise ValueError(
                f"expected a root (b, d, d) with b d = {len(rows)}, got {tuple(root.shape)}"
            )
    if not damping >= 0:
        raise ValueError(f"expected damping >= 0, got {damping!r}")


def times_blocks(blocks: Tensor | None, rows: Tensor) -> Tensor:
    """blockdiag(blocks) Y for blocks (b, d, d) and Y (b d, k)."""
    if blocks is None:
        return rows
    return (blocks @ rows.reshape(*blocks.shape[:2], -1)).reshape(rows.shape)
