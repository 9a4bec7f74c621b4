"""The trajectory of TNGD's circuit as it was built, its noise, and what it dissipates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.base import Dissipation, FullScales, full_scale
from hybridsim.circuits.imperfections import saturation
from hybridsim.circuits.imperfections.loop import decay_slope
from hybridsim.circuits.low_rank_moments import Input, Magnitudes, Moments, energies
from hybridsim.circuits.quadrature import instants

if TYPE_CHECKING:
    from hybridsim.circuits.imperfect_low_rank import ImperfectLowRank

EXACT, SPLIT, LINEAR = 0, 1, 2
"""Integrators: exact; the exact linear part and steps of what clips; linear although it clips."""
_GROWTH = 12.0  # exponent up to which a trajectory is followed as what it differs from the linear


class Run(NamedTuple):
    """What is asked of a trajectory: ``tau`` in stretched RC, injected noise, fixed full scales."""

    tau: float
    kappa0: float
    full_scales: FullScales


class Ends(NamedTuple):
    """State and drive: perp (N, 2) float64, coefficients (r, 2), J₂ of both (r, 2)."""

    perps: Tensor
    coeffs: Tensor
    outputs: Tensor


@dataclass(frozen=True, eq=False)
class Flow:
    """x(t) = E x(0) + Psi b - U z at T instants.

    Attributes:
        system: the circuit.
        run: what is asked.
        ends: state and drive, offsets included.
        given: the drive as it was converted: perp (N,), coefficients (r,).
        shifts: of u and w by their amplifiers' offsets (r,), (r,).
        t, weights: (T,), of a time integral.
        at_damping: E, Psi (2, T): decay and response at λ.
        z: (r, T).
        u, w: what the amplifiers would put out (r, T), unclipped.
        integrator: how z was found.
    """

    system: ImperfectLowRank
    run: Run
    ends: Ends
    given: tuple[Tensor, Tensor]
    t: Tensor
    weights: Tensor
    at_damping: Tensor
    z: Tensor
    u: Tensor
    w: Tensor
    integrator: int

    @classmethod
    def of(
        cls,
        system: ImperfectLowRank,
        run: Run,
        ends: Ends,
        given: tuple[Tensor, Tensor],
        shifts: tuple[Tensor, Tensor],
    ) -> Flow:
        """Follow a circuit.

        A constant shift of u and w is a drive: -U (H̃ shift_u + shift_w); it is added here.
        """
        damping, (at_u, at_w) = system.cross.new_tensor(system.damping), shifts
        shift = (system.gain_w * system.hessian_times(at_u[:, None])[:, 0] + at_w)[:, None]
        drive = shift * shift.new_tensor([0.0, 1.0])
        ends = ends._replace(
            coeffs=ends.coeffs - drive, outputs=ends.outputs - system.cross @ drive
        )
        rate = float(system.spectrum[1])
        zero = torch.zeros(1)
        t, weights = (
            v.to(system.cross) for v in (instants(run.tau, rate) if run.tau > 0 else (zero, zero))
        )
        at_damping = torch.stack([modes.decay(damping, t), modes.response(damping, t)])
        basis, loop = system.basis, system.loop
        seen = basis.components(system.middle(ends.outputs))

        def linear(t: Tensor) -> Tensor:
            """Components of z (r, T) if nothing clips."""
            return -(seen[:, :1] * loop.state_slope(t) + seen[:, 1:] * loop.drive_slope(t))

        z = basis.combined(linear(t))

        def amplified(nodes: Tensor, clip: bool) -> tuple[Tensor, Tensor]:
            """U and w from J₂ x (r, k)."""
            u = system.gain_u[:, None] * nodes + at_u[:, None]
            heard = clipped(u, run.full_scales.u) if clip else u
            return u, system.gain_w[:, None] * system.hessian_times(heard) + at_w[:, None]

        free = ends.outputs @ at_damping
        u, w = amplified(free - system.cross @ z, clip=False)
        integrator = EXACT
        if _over(u, run.full_scales.u) or (system.hessian and _over(w, run.full_scales.w)):
            growth = -float(loop.slowest) * run.tau
            integrator = SPLIT if growth < _GROWTH else LINEAR
        if integrator == SPLIT:
            w_fs = run.full_scales.w if system.hessian else None

            def missing(now: Tensor, z: Tensor) -> Tensor | None:
                """Currents that clip over those of the linear loop, (r,)."""
                outputs = ends.outputs @ torch.stack(
                    [modes.decay(damping, now), modes.response(damping, now)]
                )
                y = (outputs - system.cross @ z)[:, None]
                u, w = amplified(y, clip=True)
                if not (_over(u, run.full_scales.u) or _over(w, w_fs)):
                    return None
                return (clipped(w, w_fs) - amplified(y, clip=False)[1])[:, 0]

            z = saturation.integrated(basis, damping, t, linear, missing)
            u, w = amplified(free - system.cross @ z, clip=True)
        return cls(system, run, ends, given, t, weights, at_damping, z, u, w, integrator)

    def end(self) -> tuple[Tensor, Tensor]:
        """The mean at the end: perp (N,) float64 and coeff (r,)."""
        last = self.at_damping[:, -1]
        return self.ends.perps @ last, self.ends.coeffs @ last - self.z[:, -1]

    def noise(
        self, scales: FullScales, draw: Callable[[int, int], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Perp (N,) float64 and coeff (r,) of the noise at the end.

        A sum over the nodes of a quadrature of the covariance ∫ 2 e^{-M s} D e^{-Mᵀ s} ds: at each
        node its own normal numbers, moved by e^{-M s}. So nothing of order N x N or r x r is
        formed, whatever M is. D = d0 I + U (D_w + H̃ D_u H̃ᵀ) Uᵀ with the excess kT/C of
        resistors at cells (their mean), u and w amplifiers, and kappa0 in d0; a conductance G at
        full scales x_fs, y_fs of its ends makes x_fs y_fs.

        Args:
            scales: full scales; x, u, w, b all given where the device's noise is on.
            draw: standard normal numbers of a shape.
        """
        system, (x_fs, u_fs, w_fs, b_fs) = self.system, (v or 1.0 for v in scales)
        thermal = system.device.thermal
        live = self.weights > 0
        t, weights = self.t[live], self.weights[live]
        mean = float(system.output_sums[0].sum()) / system.size
        cells = x_fs * (system.damping * x_fs + b_fs + w_fs * mean)
        at_u = thermal * x_fs * (x_fs * system.input_sums[0] + u_fs)
        at_w = thermal * u_fs * (u_fs * system.row_sums + w_fs) * system.hessian
        damping = self.at_damping.new_tensor(system.damping)
        strength = (2 * (self.run.kappa0 + thermal * cells) * weights).sqrt()
        decay = strength * modes.decay(damping, t)
        perp = self.ends.perps.new_empty(system.size)
        outputs = self.z.new_zeros((system.rank, len(t)))
        for part, block in system.jacobian.column_blocks():
            drawn = draw(block.shape[1], len(t)).double()
            perp[part] = drawn @ decay
            outputs += block @ drawn
        seen = system.basis.components(system.middle(outputs) * strength)
        found = decay_slope(system.basis.rates[:, None], damping, t) * seen
        if thermal > 0:
            inner = system.hessian_times(at_u.sqrt()[:, None] * draw(system.rank, len(t)).double())
            inner = system.gain_w[:, None] * inner
            inner = inner + at_w.sqrt()[:, None] * draw(system.rank, len(t)).double()
            rates = system.basis.rates[:, None] + damping
            components = system.basis.components((2 * weights).sqrt() * inner)
            found = found + modes.decay(rates, t) * components
        return perp, system.basis.combined(found.sum(dim=1, keepdim=True))[:, 0]

    def dissipation(self, *, charge: bool = True) -> Dissipation:
        """See ``LowRank.dissipation``; stages that clip stay at their full scales."""
        system, fixed = self.system, self.run.full_scales
        (x, b), u, w = self._nodes(charge), self._outputs(charge), self._currents(charge)
        if self.run.kappa0 > 0:
            x, u, w = self._noisy(x, u, w)
        scales = {"x": full_scale(fixed.x, x.peak), "u": full_scale(fixed.u, u.peak)}
        scales["w"] = full_scale(fixed.w, w.peak)
        if not system.hessian:
            scales["w"] = scales["u"] / len(system.blocks)
        scales["b"] = full_scale(fixed.b, torch.maximum(b.peak, scales["x"]))
        jt_array = system.programmed[0] * (scales["w"] / scales["x"])
        found = energies(
            x,
            b,
            u,
            w,
            scales,
            damping=system.damping,
            tau=self.run.tau,
            hessian=system.hessian,
            conductances={
                "input": scales["b"] / scales["x"] / system.stretch,
                "jt_array": jt_array / system.stretch,
            },
        )
        return replace(found, further={"integrator": self.z.new_tensor(float(self.integrator))})

    def _moments(
        self, mean: Tensor, fixed: float | None, conductance: Tensor, charge: bool
    ) -> Moments:
        found = Moments.of(clipped(mean, fixed), None, conductance, self.weights, magnitudes=charge)
        return found._replace(peak=mean.abs().amax())

    def _nodes(self, charge: bool) -> tuple[Moments, Input]:
        system, (given_perp, given_coeff) = self.system, self.given
        columns = system.input_sums[1]
        combined = self.ends.coeffs @ self.at_damping - self.z
        of_block = torch.cat([combined, given_coeff[:, None]], dim=1).T.contiguous()
        zero = self.weights.new_zeros(())
        nodes, drives = Moments(zero, zero, zero, Magnitudes(zero, zero)), Input(zero, zero, zero)
        for part, values, _ in system.transposed.combined(of_block):
            mean = values[:-1].T + self.ends.perps[part] @ self.at_damping
            found = self._moments(mean, self.run.full_scales.x, columns[part], charge)
            nodes = nodes.joined(found)
            drives = drives.joined(Input.of(values[-1] + given_perp[part]))
        return nodes, drives

    def _outputs(self, charge: bool) -> Moments:
        sums = self.system.blocks.abs().sum(dim=1).reshape(-1)
        return self._moments(self.u, self.run.full_scales.u, sums, charge)

    def _currents(self, charge: bool) -> Moments:
        fixed = self.run.full_scales.w if self.system.hessian else None
        return self._moments(self.w, fixed, self.system.output_sums[0], charge)

    def _noisy(self, x: Moments, u: Moments, w: Moments) -> tuple[Moments, Moments, Moments]:
        """With the variances that injected noise makes, integrated; peaks with 3 sd at the end.

        Of x its isotropic sd, which bounds that of every cell of a symmetric drift.
        """
        system = self.system
        left = self.weights * (self.run.tau - self.t)
        integral, over = self._covariance(left)
        end, final = self._covariance(self.weights)
        plain = weighted = self.weights.new_zeros(())
        blocks = zip(
            system.jacobian.column_blocks(),
            system.transposed.column_blocks(),
            strict=True,
        )
        for (part, driven), (_, driving) in blocks:
            mixed = 2 * (over.mixed @ driven) + over.inner @ driving
            variance = integral + (driving * mixed).sum(dim=0)
            plain = plain + variance.sum()
            weighted = weighted + system.input_sums[1][part] @ variance
        found = [
            x._replace(
                plain=x.plain + plain,
                weighted=x.weighted + weighted,
                peak=x.peak + 3 * end.sqrt(),
            )
        ]
        sums = (system.blocks.abs().sum(dim=1).reshape(-1), system.output_sums[0])
        seen = [self._seen(integral, over), self._seen(end, final)]
        for stage, conductance, variance, at_end in zip((u, w), sums, *seen, strict=True):
            found.append(
                stage._replace(
                    plain=stage.plain + variance.sum(),
                    weighted=stage.weighted + conductance @ variance,
                    peak=stage.peak + 3 * at_end.clamp(min=0).amax().sqrt(),
                )
            )
        return found[0], found[1], found[2]

    def _covariance(self, weights: Tensor) -> tuple[Tensor, _Inner]:
        """∫ 2 κ0 e^{-M s} e^{-Mᵀ s} over weights = v I + U P V' + (U P V')ᵀ + U W Uᵀ, V = V' J₂.

        With V' folded into P: mixed = P V'.
        """
        system, basis = self.system, self.system.basis
        damping = weights.new_tensor(system.damping)
        slope = decay_slope(basis.rates[:, None], damping, self.t)
        decay = modes.decay(damping, self.t)
        strength = 2 * self.run.kappa0 * weights
        mixed = basis.right * (slope @ (strength * decay).to(slope.dtype)) @ basis.left
        seen = basis.components(system.middle(system.middle(system.input_gram).T))
        seen = (seen @ basis.left.mH) * ((slope * strength) @ slope.mH)
        inner = basis.right @ seen @ basis.right.mH
        mixed = mixed.real @ system.middle(torch.eye(system.rank).to(strength))
        return strength @ decay.square(), _Inner(mixed, inner.real)

    def _seen(self, isotropic: Tensor, found: _Inner) -> tuple[Tensor, Tensor]:
        """Variances of u and w (r,), (r,)."""
        system = self.system
        cross, gram = system.cross, system.input_gram
        mixed = cross @ found.mixed @ gram
        outputs = isotropic * gram + mixed + mixed.T + cross @ found.inner @ cross.T
        of_u = system.gain_u[:, None] * outputs * system.gain_u
        of_w = system.middle(system.middle(outputs).T)
        return of_u.diagonal(), of_w.diagonal()


class _Inner(NamedTuple):
    mixed: Tensor
    inner: Tensor


def clipped(values: Tensor, fixed: float | None) -> Tensor:
    """Within ± the full scale, if there is one."""
    return values if fixed is None else values.clamp(-fixed, fixed)


def _over(values: Tensor, fixed: float | None) -> bool:
    return fixed is not None and float(values.abs().amax()) > fixed
