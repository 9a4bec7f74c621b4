"""What the summing-amplifier circuit of TNGD dissipates while it relaxes, and how far its stages
swing.

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

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes, passes
from hybridsim.circuits.low_rank import LowRank, Vector
from hybridsim.circuits.quadrature import instants


class FullScales(NamedTuple):
    """Largest value of each stage, dimensionless; None: chosen for each settle by
    :func:`dissipation`.
    """

    x: float | None = None
    u: float | None = None
    w: float | None = None
    b: float | None = None


AUTOMATIC = FullScales()


@dataclass(frozen=True, eq=False)
class Dissipation:
    """One settle's dissipation by stage; float64, 0-dim for TNGD, (k,) for k columns of a dense
    circuit.

    Attributes:
        stages: energy by stage, in units of V_fs² C.
        full_scales: by amplifier stage (x, u, w), dimensionless.
        saturation: largest (|mean| + 3 sd)/full scale by stage, |b|/b_fs of the input; above 1 a
            stage clips.
    """

    stages: dict[str, Tensor]
    full_scales: dict[str, Tensor]
    saturation: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """Sum over the stages, in units of V_fs² C."""
        return torch.stack(list(self.stages.values())).sum(dim=0)


def dissipation(
    system: LowRank,
    state: Vector,
    drive: Vector,
    *,
    tau: float,
    kappa0: float,
    full_scales: FullScales = AUTOMATIC,
    outputs: Tensor | None = None,
) -> Dissipation:
    """Dissipation over ``tau`` RC of dx = -(A x - b) dτ + sqrt(2 kappa0) dW, given the state at its
    start.

    Integrals of the second moment E x_j² = (E x_j)² + Var x_j, likewise u and w; in units of V_fs²
    C:

        j_array     sum |J_ij| x_j²/x_fs²              damping    λ sum x_j²/x_fs²
        input       sum b_j²/(b_fs x_fs)               feedback_u sum u_k²/(u_fs x_fs)
        h_array     sum |H_kl/b| u_l²/u_fs²            feedback_w sum w_k²/(u_fs w_fs)
        jt_array    sum |J_kj| w_k²/(w_fs x_fs)

    A full scale left None is the largest |mean| + 3 sd of its stage at the interval's ends and at
    the nodes between, b_fs the larger of max |b| and x_fs: an ideal programmable gain (an
    assumption, to be flagged). The amplifiers' static power is not included.

    Cost: one pass over J, of one column per node (8 for each factor 4 of time between 1/(s_max + λ)
        and tau) and one for the drive; with noise 2 N r² more for the variances. One more pass
        unless ``outputs`` is given, and one for the sums of |J|, once per system. Memory: blocks of
        J only.

    Args:
        system: A, size N, rank r; H_L/b is taken from its root, none means the empirical Fisher's
            circuit.
        state: x at the start.
        drive: b, constant.
        tau: duration in RC, >= 0.
        kappa0: noise strength, dimensionless.
        full_scales: fixed ones, > 0, or None; w is not asked for without an H array (w_fs =
            u_fs/b).
        outputs: ``system.outputs(state, drive)`` (r, 2) where it is known.
    """
    outputs = system.outputs(state, drive) if outputs is None else outputs
    flow = _Flow.of(system, state, drive, outputs, tau, kappa0)
    (x, b), u, w = flow.nodes(), flow.outputs(), flow.currents()
    x_fs, u_fs = full_scale(full_scales.x, x.peak), full_scale(full_scales.u, u.peak)
    rooted = system.root is not None
    w_fs = full_scale(full_scales.w, w.peak) if rooted else u_fs * system.scale**2
    b_fs = (
        torch.maximum(b.peak, x_fs) if full_scales.b is None else full_scale(full_scales.b, b.peak)
    )
    stages = {
        "j_array": x.weighted / x_fs**2,
        "damping": system.damping * x.plain / x_fs**2,
        "input": tau * b.squares / (b_fs * x_fs),
        "feedback_u": u.plain / (u_fs * x_fs),
        "jt_array": w.weighted / (w_fs * x_fs),
    }
    if rooted:
        stages |= {"h_array": u.weighted / u_fs**2, "feedback_w": w.plain / (u_fs * w_fs)}
    scales = {"x": x_fs, "u": u_fs, "w": w_fs, "b": b_fs}
    saturation = {"x": x.peak / x_fs, "u": u.peak / u_fs, "w": w.peak / w_fs, "b": b.peak / b_fs}
    return Dissipation(stages, scales, saturation)


class _Moments(NamedTuple):
    """Of one stage: integrated second moments, plain and weighted by conductance; largest |mean| +
    3 sd.
    """

    plain: Tensor
    weighted: Tensor
    peak: Tensor

    @classmethod
    def of(
        cls, mean: Tensor, variance: Tensor | None, conductance: Tensor, weights: Tensor
    ) -> _Moments:
        """From mean, variance (n, T) of n signals at T instants of weights (T,), and conductances
        (n,).
        """
        second, peak = mean.square(), mean.abs()
        if variance is not None:
            second, peak = second + variance, peak + 3 * variance.clamp(min=0).sqrt()
        integral = second @ weights
        return cls(integral.sum(), conductance @ integral, peak.amax())


class _Input(NamedTuple):
    """Of the drive: sum of b_j² and largest |b_j|."""

    squares: Tensor
    peak: Tensor


@dataclass(frozen=True, eq=False)
class _Flow:
    """x(t) at T instants: mean E p + Psi q + J̃ᵀ Q inner, covariance kappa0 (psi I + J̃ᵀ Q slope Qᵀ
    J̃).

    E, Psi (T,): decay and response at the damping; p, q: perp parts of state and drive; inner,
    slope (r, T); J̃ᵀ Q = Jᵀ lift.
    """

    system: LowRank
    perps: Tensor  # (N, 2): p, q
    outputs_of_perps: Tensor  # (r, 2): J p, J q
    drive_weights: Tensor  # (r,): the drive is q + Jᵀ of them
    at_damping: Tensor  # (2, T): E, Psi
    combined: Tensor  # (r, T): lift inner
    seen: Tensor  # (r, T): Qᵀ J̃ (mean of x)
    weights: Tensor  # (T,)
    variances: (
        tuple[Tensor, Tensor, Tensor] | None
    )  # kappa0 times psi_2t(λ) (T,), its slope (r, T), s psi_2t(s+λ) (r, T)
    lift: Tensor  # (r, r): scale blockdiag(root) Q, so that J̃ᵀ Q = Jᵀ lift

    @classmethod
    def of(
        cls,
        system: LowRank,
        state: Vector,
        drive: Vector,
        outputs: Tensor,
        tau: float,
        kappa0: float,
    ) -> _Flow:
        s, q = system.eigenvalues[:, None], system.eigenvectors
        rate = float(system.eigenvalues[-1]) + system.damping
        t, weights = (
            v.to(s) for v in (instants(tau, rate) if tau > 0 else (torch.zeros(1), torch.zeros(1)))
        )
        damping = s.new_tensor(system.damping)
        perps = torch.stack([state.perp, drive.perp], dim=1)
        general = q.T @ system.rooted(outputs)
        exact = q.T @ torch.stack([state.coeff, drive.coeff], dim=1)
        functions = (modes.decay(s + damping, t), modes.response(s + damping, t))
        slopes = (modes.decay_slope(s, damping, t), modes.response_slope(s, damping, t))
        inner = sum_pairs(exact, functions) + sum_pairs(general, slopes)
        seen = sum_pairs(general + s * exact, functions)
        at_damping = torch.stack([modes.decay(damping, t), modes.response(damping, t)])
        variances = _variances(s, damping, t, kappa0) if kappa0 > 0 else None
        lift = system.unrooted(q)
        drive_weights = system.unrooted(drive.coeff[:, None])[:, 0]
        return cls(
            system,
            perps,
            outputs,
            drive_weights,
            at_damping,
            lift @ inner,
            seen,
            weights,
            variances,
            lift,
        )

    def nodes(self) -> tuple[_Moments, _Input]:
        """Of x (N signals), each weighted by its column sum of |J|, and of the drive; one pass over
        J.
        """
        columns = self.system.absolute_sums[1]
        # One row per instant and a last one for the drive: BLAS takes few rows times a block fast.
        of_block = torch.cat([self.combined, self.drive_weights[:, None]], dim=1).T.contiguous()
        drive_alone = self.at_damping.new_tensor([[0.0], [1.0]])
        of_perps = torch.cat([self.at_damping, drive_alone], dim=1).T.contiguous()
        zero = self.weights.new_zeros(())
        plain, weighted, peak, squares, largest = zero, zero, zero, zero, zero
        for part, block in passes.column_blocks(self.system.jacobian):
            values = torch.addmm(of_perps @ self.perps[part].double().T, of_block, block)
            mean, drive = values[:-1].T, values[-1]
            variance = None
            if self.variances is not None:
                isotropic, slope, _ = self.variances
                variance = isotropic + (block.T @ self.lift).square() @ slope
            found = _Moments.of(mean, variance, columns[part], self.weights)
            plain, weighted = plain + found.plain, weighted + found.weighted
            peak = torch.maximum(peak, found.peak)
            squares, largest = squares + drive @ drive, torch.maximum(largest, drive.abs().amax())
        return _Moments(plain, weighted, peak), _Input(squares, largest)

    def outputs(self) -> _Moments:
        """Of u = J x (r signals), each weighted by its column sum of |H/b| (zero without an H
        array).
        """
        mean = self.outputs_of_perps @ self.at_damping + self.system.gram @ self.combined
        variance = None
        if self.variances is not None:
            isotropic, slope, _ = self.variances
            seen = self.system.gram @ self.lift  # J J̃ᵀ Q
            variance = self.system.gram.diagonal()[:, None] * isotropic + seen.square() @ slope
        return _Moments.of(mean, variance, _hessian_columns(self.system), self.weights)

    def currents(self) -> _Moments:
        """Of w = H u/b = scale blockdiag(root) J̃ x (r signals), each weighted by its row sum of
        |J|.
        """
        variance = None if self.variances is None else self.lift.square() @ self.variances[2]
        rows = self.system.absolute_sums[0]
        return _Moments.of(self.lift @ self.seen, variance, rows, self.weights)


def sum_pairs(pairs: Tensor, functions: tuple[Tensor, Tensor]) -> Tensor:
    """Column 0 of ``pairs`` (r, 2) times the first function (r, T) plus column 1 times the
    second.
    """
    return pairs[:, :1] * functions[0] + pairs[:, 1:] * functions[1]


def _variances(
    s: Tensor, damping: Tensor, t: Tensor, kappa0: float
) -> tuple[Tensor, Tensor, Tensor]:
    isotropic = kappa0 * modes.response(damping, 2 * t)
    slope = kappa0 * modes.response_slope(s, damping, 2 * t)
    return isotropic, slope, kappa0 * s * modes.response(s + damping, 2 * t)


def _hessian_columns(system: LowRank) -> Tensor:
    """Column sums of |H/b| (r,); H/b = scale² S Sᵀ block by block."""
    if system.root is None:
        return system.eigenvalues.new_zeros(system.rank)
    hessian = system.scale**2 * system.root @ system.root.mT
    return hessian.abs().sum(dim=1).reshape(-1)


def full_scale(fixed: float | None, peak: Tensor) -> Tensor:
    """The fixed full scale, else the peak; 1 for a stage that stays at zero."""
    if fixed is not None:
        if not fixed > 0:
            raise ValueError(f"expected a full scale > 0, got {fixed!r}")
        return torch.full_like(peak, fixed)
    return torch.where(peak > 0, peak, 1.0)
