"""TNGD's circuit as it was built: two arrays that differ, real amplifiers, ranges, kT/C noise.

The drift is M = λ I + U V with U = J₁ᵀ (N, r) and V = g_w H̃ g_u J₂ (r, N): J₁ and J₂ are the same
programmed J in two arrays of parts, H̃ = H/b, g the closed-loop gains of the u and w amplifiers.
A vector is kept as x = perp + U coeff. With z(t) = ∫ e^{-λ (t - s)} w(s) ds, in r dimensions,

    x(t) = e^{-λ t} x(0) + ψ(λ) b - U z(t),

whatever the amplifiers do: linear, z follows mode by mode from the eigenvectors of S = V U
(``imperfections/loop.py``: exact, bandwidth included); where a stage clips it is integrated
(``imperfections/saturation.py``). The complement of U's and V's span relaxes at λ alone.

Time and energy are those of ``low_rank.py``. A conductance beyond the device's range is scaled
into it together with all others by 1/stretch: the same settle is then tau/stretch of relaxation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hybridsim.circuits import low_rank_parts
from hybridsim.circuits.base import AUTOMATIC, Dissipation, FullScales, System, check_interval
from hybridsim.circuits.eigenbasis import Eigenbasis, eigenbasis
from hybridsim.circuits.imperfect_low_rank_flow import Ends, Flow, Run
from hybridsim.circuits.imperfections.amplifiers import Amplifiers, Held, scales_of
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.loop import Loop, loop
from hybridsim.circuits.imperfections.parts import alive, built, built_rows, offsets
from hybridsim.circuits.load import Load
from hybridsim.circuits.low_rank import Vector, times_blocks
from hybridsim.circuits.precision import largest_magnitude
from hybridsim.circuits.rows import Rows, as_rows, cross_gram


@dataclass(frozen=True, eq=False)
class ImperfectLowRank(System[Vector]):
    """M = damping I + J₁ᵀ diag(gain_w) H̃ diag(gain_u) J₂; build it with
    :func:`imperfect_lowrank`.

    Attributes:
        device: what it is imperfect in.
        jacobian: J₂ (r, N), driven by x.
        transposed: J₁ (r, N), driven by w.
        blocks: H̃ (b, d, d) float64; (r, 1, 1) of 1/b without an H array.
        programmed: largest |J_ij| and |H_kl|/b as they are asked for.
        input_sums, output_sums: sums of |J₂| and |J₁| along rows (r,) and columns (N,), float64.
        hessian: there is an H array with amplifiers of its own.
        damping: λ and the mean leak of the integrators, dimensionless.
        full_scales: fixed ones, all or none.
        stretch: >= 1, by which all conductances were scaled down.
        gain_u, gain_w: closed-loop gains of the amplifiers over the ideal ones (r,) float64.
        working: which cells work (N,), None: all.
        cross: J₂ J₁ᵀ (r, r) float64.
        basis: eigenvectors of S = diag(gain_w) H̃ diag(gain_u) J₂ J₁ᵀ.
        loop: its modes, with the amplifiers' lags.
        lags: time constants of the u and w amplifiers, in stretched RC.
    """

    device: Device
    jacobian: Rows
    transposed: Rows
    blocks: Tensor
    programmed: tuple[float, float]
    input_sums: tuple[Tensor, Tensor]
    output_sums: tuple[Tensor, Tensor]
    hessian: bool
    damping: float
    full_scales: FullScales
    stretch: float
    gain_u: Tensor
    gain_w: Tensor
    working: Tensor | None
    cross: Tensor
    basis: Eigenbasis
    loop: Loop
    lags: tuple[float, ...]

    @property
    def rank(self) -> int:
        """Of J: r rows."""
        return self.jacobian.shape[0]

    @property
    def size(self) -> int:
        """Of the state: N cells."""
        return self.jacobian.shape[1]

    def middle(self, rows: Tensor) -> Tensor:
        """diag(gain_w) H̃ diag(gain_u) Y for Y (r, k) float64."""
        return self.gain_w[:, None] * self.hessian_times(self.gain_u[:, None] * rows)

    def hessian_times(self, rows: Tensor) -> Tensor:
        """H̃ Y for Y (r, k) float64."""
        return times_blocks(self.blocks, rows)

    def vector(self, perp: Tensor | None = None, coeff: Tensor | None = None) -> Vector:
        """A signal of this system; a part left out is zero, and so are dead cells of ``perp``."""
        zero = self.cross.new_zeros(self.rank)
        if perp is None:
            perp = self.jacobian.zeros(self.size)
        perp = perp.to(self.jacobian.dtype)
        if self.working is not None:
            perp = torch.where(self.working, perp, 0.0)
        return Vector(perp, zero if coeff is None else coeff.double(), zero.new_zeros(4))

    def full(self, state: Vector) -> Tensor:
        """Node voltages (N,) in the type of J."""
        return self.transposed.transposed_times(state.coeff, state.perp)

    def displaced(self, state: Vector, change: Tensor) -> Vector:
        """See ``System``; what was seen stays."""
        perp = state.perp.double() + change
        return state._replace(perp=perp.to(state.perp.dtype))

    def quiet(self) -> ImperfectLowRank:
        """The same device without noise of its own."""
        return replace(self, device=replace(self.device, thermal=0.0))

    @property
    def load(self) -> Load:
        """See ``System``; the whole H array."""
        outputs = self.blocks.shape[-1] if self.hessian else 0
        return low_rank_parts.load(self.size, self.rank, outputs=outputs)

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Smallest real part of a rate, amplifiers included, and largest |λ + μ|."""
        return self.loop.slowest.clamp(max=self.damping), self._largest

    @property
    def _largest(self) -> Tensor:
        return (self.basis.rates + self.damping).abs().amax().clamp(min=self.damping)

    def conductances(self) -> dict[str, Tensor]:
        """See ``System``: |J_ij|, |H_kl|/b and λ as programmed, scaled into the range."""
        found = {"j_array": self.programmed[0], "damping": self.damping}
        if self.hessian:
            found["h_array"] = self.programmed[1]
        return {
            stage: self.cross.new_tensor(value / self.stretch) for stage, value in found.items()
        }

    def facts(self) -> dict[str, Tensor]:
        """See ``System``; also the ``stretch``, and how far the amplifiers' bandwidth reaches.

        ``bandwidth_margin``: 2/(a τ) with the largest |λ + μ| as a and the u amplifiers' lag τ; a
        loop of two equal lags is unstable below 1.
        """
        found = {**super().facts(), "stretch": self.cross.new_tensor(self.stretch)}
        if self.lags:
            found["bandwidth_margin"] = 2 / (self._largest * self.lags[0])
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
    ) -> Vector:
        """See ``settle``."""
        return self.settle(state, drive, tau=tau, kappa0=kappa0, noise_seeds=noise_seeds)[0]

    def dissipation(
        self,
        state: Vector,
        drive: Vector,
        *,
        tau: float,
        kappa0: float,
        full_scales: FullScales = AUTOMATIC,
    ) -> Dissipation:
        """See ``LowRank.dissipation``; the stages of J₂, H̃ and J₁, means that clip included.

        kappa0 alone makes variances: noise at equilibrium with its resistors dissipates nothing.
        """
        if full_scales != AUTOMATIC:
            return replace(self, full_scales=full_scales).dissipation(
                state, drive, tau=tau, kappa0=kappa0
            )
        return self._flow(state, drive, tau, kappa0)[0].dissipation()

    def settle(
        self,
        state: Vector,
        drive: Vector,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
        charge: bool = True,
    ) -> tuple[Vector, Dissipation]:
        """Move the state by ``tau`` RC: offsets, saturation, bandwidth and noise included.

        kT/C noise enters as isotropic noise of the mean strength of the cells' own resistors,
        and through the u and w amplifiers; of the loop without lags, unclipped, at the end.
        Injected noise is scaled with the conductances: kappa0 is per stretched RC.

        Raises:
            ValueError: as ``System.relax``.
        """
        check_interval(tau, kappa0)
        flow, scales = self._flow(state, drive, tau, kappa0)
        heat = flow.dissipation(charge=charge)
        peaks = [heat.saturation[s].clamp(max=1) * heat.full_scales[s] for s in "xuwb"]
        seen = torch.stack(peaks)
        if state.peaks is not None:
            seen = torch.maximum(state.peaks, seen)
        if tau == 0:
            return state._replace(peaks=seen), heat
        perp, coeff = flow.end()
        if kappa0 > 0 or self.device.thermal > 0:
            if noise_seeds is None or len(noise_seeds) != 1:
                got = "none" if noise_seeds is None else len(noise_seeds)
                raise ValueError(f"expected 1 noise seeds, got {got}")
            isotropic, inner = flow.noise(scales, _normals(noise_seeds[0], self.jacobian))
            perp, coeff = perp + isotropic, coeff + inner
        moved = self.vector(perp, coeff)._replace(peaks=seen)
        x_fs = self.full_scales.x
        if x_fs is not None and float(heat.saturation["x"]) > 1:
            held = self.full(moved)
            moved = moved._replace(perp=moved.perp + (held.clamp(-x_fs, x_fs) - held))
        return moved, heat

    def _flow(
        self, state: Vector, drive: Vector, tau: float, kappa0: float
    ) -> tuple[Flow, FullScales]:
        """The trajectory, and the full scales of offsets and noise.

        Automatic ones are those of the trajectory without offsets.
        """
        run = Run(tau / self.stretch, kappa0, self.full_scales)
        perps = torch.stack([state.perp, drive.perp], dim=1).double()
        coeffs = torch.stack([state.coeff, drive.coeff], dim=1)
        outputs = self.jacobian.times(perps) + self.cross @ coeffs
        given, zero = (perps[:, 1], drive.coeff), self.cross.new_zeros(self.rank)
        ends, scales = Ends(perps, coeffs, outputs), self.full_scales
        device, flow = self.device, None
        if scales == AUTOMATIC and (device.offset > 0 or device.thermal > 0):
            flow = Flow.of(self, run, ends, given, (zero, zero))
            found = flow.dissipation().full_scales
            scales = FullScales(*(float(found[stage]) for stage in "xuwb"))
        if device.offset > 0:
            at_x, at_u, at_w = self.offsets(scales)
            added = at_x[:, None] * at_x.new_tensor([0.0, 1.0])
            outputs = outputs + self.jacobian.times(added)
            moved = Ends(perps + added, coeffs, outputs)
            return Flow.of(self, run, moved, given, (at_u, at_w)), scales
        return flow or Flow.of(self, run, ends, given, (zero, zero)), scales

    def offsets(self, scales: FullScales) -> tuple[Tensor, Tensor, Tensor]:
        """What the amplifiers' input offsets add: to the drive (N,), to u and to w (r,).

        An offset o (over V_fs) drives every conductance of its node: o (λ x_fs + b_fs + w_fs sum_k
        |J_ki|) at cell i; o (u_fs + x_fs sum_i |J_ki|) at u, o (w_fs + u_fs sum_l |H̃_kl|) at w.
        """
        x_fs, u_fs, w_fs, b_fs = (value or 1.0 for value in scales)  # all are given
        at_x = offsets(self.device, "x", self.size).to(self.cross.device)
        at_u, at_w = (
            offsets(self.device, part, self.rank).to(self.cross.device) for part in ("u", "w")
        )
        at_x = at_x * (self.damping * x_fs + b_fs + w_fs * self.output_sums[1])
        at_u = at_u * (u_fs + x_fs * self.input_sums[0])
        at_w = at_w * (w_fs + u_fs * self.row_sums) * self.hessian
        return at_x if self.working is None else at_x * self.working, at_u, at_w

    @cached_property
    def input_gram(self) -> Tensor:
        """J₂ J₂ᵀ (r, r) float64."""
        return self.jacobian.gram()

    @cached_property
    def row_sums(self) -> Tensor:
        """Sums of |H̃| along each row (r,)."""
        return self.blocks.abs().sum(dim=2).reshape(-1)


def imperfect_lowrank(
    jacobian: Tensor | Rows,
    hessian: Tensor | None,
    terms: int,
    damping: float,
    gradient: Tensor,
    device: Device,
    full_scales: FullScales = AUTOMATIC,
    *,
    age_tau: float = 1.0,
    transposed: Tensor | Rows | None = None,
) -> ImperfectLowRank:
    """Program J and H of one upload into a device's parts, and find the modes of what results.

    Cost: 2 N r² for J₂ J₁ᵀ, O(r³) for the eigenvectors; of J as a tensor twice its memory.

    Args:
        jacobian: J (r, N) as it is programmed, in its levels.
        hessian: H (b, d, d) with b d = r; None without an H array, V = J₂/terms.
        terms: b, of which A is a mean.
        damping: λ >= 0.
        gradient: (N,): where full scales are automatic, the gains are those under which x at it
            drives u and w to their full scales.
        device: how its parts differ.
        full_scales: all fixed, or AUTOMATIC.
        age_tau: time after which the arrays' drift is taken, in RC.
        transposed: what the Jᵀ array holds (r, N), where it was rounded apart, or still holds,
            where J has been written alone; None: J itself.

    Raises:
        ValueError: the damping is negative.
        HybridsimError: J or H holds a NaN or an infinity.
    """
    if not damping >= 0:
        raise ValueError(f"expected damping >= 0, got {damping!r}")
    rows = as_rows(jacobian)
    rank, size = rows.shape
    if hessian is None and full_scales.u is not None:
        full_scales = full_scales._replace(w=full_scales.u / terms)  # u drives Jᵀ itself
    blocks = (
        torch.full((rank, 1, 1), 1 / terms, dtype=torch.float64, device=rows.device)
        if hessian is None
        else hessian.double() / terms
    )
    scales = scales_of(rows, blocks, gradient, full_scales)
    x_fs, u_fs, w_fs, b_fs = scales
    largest, of_h = float(rows.largest()), float(largest_magnitude(blocks))
    loads = [largest, largest * w_fs / x_fs, damping, b_fs / x_fs]
    if hessian is not None:
        loads.append(of_h)
    stretch = max(1.0, max(loads) / device.largest_conductance)
    least = device.smallest_conductance * stretch
    driving = rows if transposed is None else as_rows(transposed)
    working = alive(device, size)
    if working is not None:
        working = working.to(rows.device)
    driven = built_rows(rows, device, "j array", least, age_tau, working)
    least_back = least * x_fs / w_fs
    driving = built_rows(driving, device, "jt array", least_back, age_tau, working)
    if hessian is not None:
        blocks = built(blocks, device, "h array", smallest=least, age_tau=age_tau)
    input_sums, output_sums = driven.absolute_sums(), driving.absolute_sums()
    into = float(output_sums[0].sum()) / size
    held = Held(input_sums[0], blocks.abs().sum(dim=2).reshape(-1), into, hessian is not None)
    amplifiers = Amplifiers.of(device, held, scales, damping)
    cross = cross_gram(driven, driving)
    inner = amplifiers.gain_w[:, None] * times_blocks(blocks, amplifiers.gain_u[:, None] * cross)
    basis = eigenbasis(inner).as_complex()
    lags = tuple(lag / stretch for lag in amplifiers.lags)
    return ImperfectLowRank(
        device,
        driven,
        driving,
        blocks,
        (largest, of_h),
        input_sums,
        output_sums,
        hessian is not None,
        amplifiers.damping,
        full_scales,
        stretch,
        amplifiers.gain_u,
        amplifiers.gain_w,
        working,
        cross,
        basis,
        loop(basis.rates, cross.new_tensor(amplifiers.damping), lags),
        lags,
    )


def _normals(seed: int, like: Rows) -> Callable[[int, int], Tensor]:
    generator = torch.Generator(device=like.device).manual_seed(seed)

    def draw(rows: int, columns: int) -> Tensor:
        return torch.randn(
            (rows, columns), generator=generator, dtype=like.dtype, device=like.device
        )

    return draw
