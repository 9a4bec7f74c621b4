"""Second moments of the stages of TNGD's circuit while it relaxes: what its dissipation needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.base import Dissipation
from hybridsim.circuits.quadrature import instants

if TYPE_CHECKING:
    from hybridsim.circuits.low_rank import LowRank, Vector


class Magnitudes(NamedTuple):
    """Of one stage: integrated |mean|, plain and weighted by conductance."""

    plain: Tensor
    weighted: Tensor


class Moments(NamedTuple):
    """Of one stage: integrated second moments, plain and weighted by conductance; largest |mean| +
    3 sd; magnitudes where they are asked for.
    """

    plain: Tensor
    weighted: Tensor
    peak: Tensor
    magnitudes: Magnitudes | None = None

    @classmethod
    def of(
        cls,
        mean: Tensor,
        variance: Tensor | None,
        conductance: Tensor,
        weights: Tensor,
        *,
        magnitudes: bool = False,
    ) -> Moments:
        """From mean, variance (n, T) of n signals at T instants of weights (T,), and conductances
        (n,).
        """
        second, peak = mean.square(), mean.abs()
        found = None
        if magnitudes:
            magnitude = peak @ weights
            found = Magnitudes(magnitude.sum(), conductance @ magnitude)
        if variance is not None:
            second, peak = second + variance, peak + 3 * variance.clamp(min=0).sqrt()
        integral = second @ weights
        return cls(integral.sum(), conductance @ integral, peak.amax(), found)

    def joined(self, other: Moments) -> Moments:
        """Of both groups of signals together."""
        found = self.magnitudes
        if found is not None and other.magnitudes is not None:
            found = Magnitudes(*(a + b for a, b in zip(found, other.magnitudes, strict=True)))
        return Moments(
            self.plain + other.plain,
            self.weighted + other.weighted,
            torch.maximum(self.peak, other.peak),
            found,
        )


class Input(NamedTuple):
    """Of the drive: sum of b_j², largest |b_j| and sum of |b_j|."""

    squares: Tensor
    peak: Tensor
    magnitude: Tensor

    @classmethod
    def of(cls, drive: Tensor) -> Input:
        """From its values (n,)."""
        magnitude = drive.abs()
        return cls(drive @ drive, magnitude.amax(), magnitude.sum())

    def joined(self, other: Input) -> Input:
        """Of both groups of values together."""
        peak = torch.maximum(self.peak, other.peak)
        return Input(self.squares + other.squares, peak, self.magnitude + other.magnitude)


@dataclass(frozen=True, eq=False)
class Flow:
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
    magnitudes: bool  # are asked for

    @classmethod
    def of(
        cls,
        system: LowRank,
        state: Vector,
        drive: Vector,
        outputs: Tensor,
        tau: float,
        kappa0: float,
        *,
        magnitudes: bool = False,
    ) -> Flow:
        """Follow a system over ``tau`` RC; ``outputs`` are J of the perp parts (r, 2)."""
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
            magnitudes,
        )

    def nodes(self) -> tuple[Moments, Input]:
        """Of x (N signals), each weighted by its column sum of |J|, and of the drive; one pass over
        J.
        """
        columns = self.system.absolute_sums[1]
        # One row per instant and a last one for the drive: BLAS takes few rows times a block fast.
        of_block = torch.cat([self.combined, self.drive_weights[:, None]], dim=1).T.contiguous()
        drive_alone = self.at_damping.new_tensor([[0.0], [1.0]])
        of_perps = torch.cat([self.at_damping, drive_alone], dim=1).T.contiguous()
        zero = self.weights.new_zeros(())
        nodes, drives = Moments(zero, zero, zero, Magnitudes(zero, zero)), Input(zero, zero, zero)

        def of_perps_in(part: slice) -> Tensor:
            return of_perps @ self.perps[part].double().T

        noisy = self.variances is not None
        for part, values, block in self.system.jacobian.combined(
            of_block, of_perps_in, blocks=noisy
        ):
            mean, drive = values[:-1].T, values[-1]
            variance = None
            if self.variances is not None and block is not None:
                isotropic, slope, _ = self.variances
                variance = isotropic + (block.T @ self.lift).square() @ slope
            nodes = nodes.joined(self._moments(mean, variance, columns[part]))
            drives = drives.joined(Input.of(drive))
        return nodes, drives

    def outputs(self) -> Moments:
        """Of u = J x (r signals), each weighted by its column sum of |H/b| (zero without an H
        array).
        """
        mean = self.outputs_of_perps @ self.at_damping + self.system.gram @ self.combined
        variance = None
        if self.variances is not None:
            isotropic, slope, _ = self.variances
            seen = self.system.gram @ self.lift  # J J̃ᵀ Q
            variance = self.system.gram.diagonal()[:, None] * isotropic + seen.square() @ slope
        return self._moments(mean, variance, _hessian_columns(self.system))

    def currents(self) -> Moments:
        """Of w = H u/b = scale blockdiag(root) J̃ x (r signals), each weighted by its row sum of
        |J|.
        """
        variance = None if self.variances is None else self.lift.square() @ self.variances[2]
        return self._moments(self.lift @ self.seen, variance, self.system.absolute_sums[0])

    def _moments(self, mean: Tensor, variance: Tensor | None, conductance: Tensor) -> Moments:
        return Moments.of(mean, variance, conductance, self.weights, magnitudes=self.magnitudes)


def energies(
    x: Moments,
    b: Input,
    u: Moments,
    w: Moments,
    scales: dict[str, Tensor],
    *,
    damping: float,
    tau: float,
    hessian: bool,
    conductances: dict[str, Tensor],
) -> Dissipation:
    """What the stages' moments dissipate at these full scales (``LowRank.dissipation``).

    With magnitudes also the charge of every amplifier's load, I = |V| G: the same sums with
    |x_j| for x_j², by x_fs for x_fs², in units of V_fs C.
    """
    x_fs, u_fs, w_fs, b_fs = (scales[stage] for stage in "xuwb")
    stages = {
        "j_array": x.weighted / x_fs**2,
        "damping": damping * x.plain / x_fs**2,
        "input": tau * b.squares / (b_fs * x_fs),
        "feedback_u": u.plain / (u_fs * x_fs),
        "jt_array": w.weighted / (w_fs * x_fs),
    }
    if hessian:
        stages |= {"h_array": u.weighted / u_fs**2, "feedback_w": w.plain / (u_fs * w_fs)}
    peaks = {"x": x.peak, "u": u.peak, "w": w.peak, "b": b.peak}
    saturation = {stage: peak / scales[stage] for stage, peak in peaks.items()}
    charge: dict[str, Tensor] = {}
    if x.magnitudes and u.magnitudes and w.magnitudes:
        charge = {
            "j_array": x.magnitudes.weighted / x_fs,
            "damping": damping * x.magnitudes.plain / x_fs,
            "input": tau * b.magnitude / x_fs,
            "feedback_u": u.magnitudes.plain / x_fs,
            "jt_array": w.magnitudes.weighted / x_fs,
        }
        if hessian:
            charge |= {
                "h_array": u.magnitudes.weighted / u_fs,
                "feedback_w": w.magnitudes.plain / u_fs,
            }
    return Dissipation(stages, scales, saturation, conductances, charge)


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
