"""A system as a device realises it: not symmetric, of amplifiers with offsets, noise and lags,
which clip at their full scale. All of it in float64, all columns at once.

In units of RC and of x:

    (1 + s τ) dx/dτ = -M x + gain b + offset + noise        M = P diag(μ) P⁻¹

A column is exact, mode by mode, as long as it stays inside its full scale. One that does not is
followed in small exact steps and held at the rails after each (order 1 in the step), its lags and
the noise's left out; the noise is that of a loop without lags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
)
from hybridsim.circuits.eigenbasis import Eigenbasis, Loop
from hybridsim.circuits.load import Load
from hybridsim.circuits.modal import Flow, Signal, normal_columns, quadratic_form
from hybridsim.circuits.noise import Covariances, Noise
from hybridsim.circuits.quadrature import instants, panel_edges
from hybridsim.circuits.rails import Ranges, Stage, held_at_rails
from hybridsim.rng import address_seed

_ACCURATE = 10.0  # margin of bandwidth from which on integrals need not resolve the lag
_STEPS_PER_RATE, _FEWEST, _MOST = 8, 128, 8192  # of a column that clips


@dataclass(frozen=True, eq=False)
class Realised(System[Tensor | None]):
    """dx = -(M x - b) dτ + noise, in amplifiers; built in :mod:`hybridsim.circuits.imperfections`.

    Attributes:
        basis: of M.
        loop: what its modes do.
        drive_gain: (n,), or (n, n) where nodes share it: what reaches them of b.
        noise: see :class:`Noise`.
        stages: sets of resistors by name.
        largest: of the sets that no range enters, in units of 1/R.
        slowdown: s >= 1: conductances are 1/s of what the numbers say, and so is the time's worth.
        parts: what it occupies.
        active: its nodes are amplifiers, which clip, and b comes through input resistors; else it
            is a passive network, and b comes from current sources.
    """

    basis: Eigenbasis
    loop: Loop
    drive_gain: Tensor
    noise: Noise
    stages: dict[str, Stage]
    largest: dict[str, Tensor]
    slowdown: float
    parts: Load
    active: bool = True

    @property
    def load(self) -> Load:
        """See ``System``."""
        return self.parts

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Rate of the slowest decay and largest real part of μ, 0-dim float64, per RC."""
        return self.loop.slowest / self.slowdown, self.basis.rates.real.amax() / self.slowdown

    def conductances(self) -> dict[str, Tensor]:
        """See ``System``."""
        return self.largest

    def facts(self) -> dict[str, Tensor]:
        """See ``System``; beside it the margin of bandwidth, and by how much it is slowed down."""
        margin = {"bandwidth_margin": self.loop.margin} if self.loop.lags else {}
        return {**super().facts(), **margin, "slowdown": torch.tensor(self.slowdown)}

    def rest(self) -> Tensor | None:
        """See ``System``."""
        return None

    def full(self, state: Tensor | None) -> Tensor:
        """See ``System``: (n, k); one column of zeros at rest."""
        return self.drive_gain.new_zeros(len(self.drive_gain), 1) if state is None else state

    def displaced(self, state: Tensor | None, change: Tensor) -> Tensor:
        """See ``System``."""
        return self.full(state) + change

    def relax(
        self,
        state: Tensor | None,
        drive: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
    ) -> Tensor:
        """See ``settle``; on ideal ranges."""
        return self.settle(state, drive, tau=tau, kappa0=kappa0, noise_seeds=noise_seeds)[0]

    def dissipation(
        self,
        state: Tensor | None,
        drive: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        full_scales: FullScales = AUTOMATIC,
    ) -> Dissipation:
        """See ``settle``; u's full scale follows from that of x."""
        check_interval(tau, kappa0)
        fixed = [None if v is None else self.drive_gain.new_tensor(v) for v in full_scales]
        return self._course(state, drive, tau, kappa0, Ranges(fixed[0], fixed[3])).heat

    def settle(
        self,
        state: Tensor | None,
        drive: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
        ranges: Ranges = Ranges(),  # noqa: B008  # a named tuple: nothing can change it
    ) -> tuple[Tensor, Dissipation]:
        """Where ``tau`` RC lead, and what is dissipated on the way.

        Thermal noise and the noise of strength ``kappa0`` are drawn from the exact covariance at
        the end. Energies by stage in units of V_fs² C: ∫ Σ w_j E[o_j²] dτ/(ratio x_fs²), where
        kappa0 adds its variance and thermal noise nothing (at equilibrium it takes what it gives);
        charges ∫ Σ w_j |E o_j| dτ/x_fs in units of V_fs C.

        Args:
            state: (n, k), or None at rest.
            drive: b (n, k), or None.
            tau: RC, >= 0.
            kappa0: noise strength >= 0.
            noise_seeds: one for each column; None only where nothing is noisy.
            ranges: full scales of columns, beyond which x is clipped.

        Raises:
            ValueError: a time or a strength is out of range, or seeds are missing.
        """
        check_interval(tau, kappa0)
        course = self._course(state, drive, tau, kappa0, ranges)
        end = course.end if tau > 0 or state is None else state.double()
        if tau > 0 and (kappa0 > 0 or self.noise.thermal > 0):
            end = end + self._drawn(course, tau / self.slowdown, kappa0, noise_seeds)
            if ranges.x is not None and self.active:
                end = end.clamp(-ranges.x, ranges.x)
        return end, course.heat

    def sample(
        self,
        *,
        samples: int,
        settle_tau: float,
        spacing_tau: float,
        kappa0: float,
        noise_seed: int,
        ranges: Ranges = Ranges(),  # noqa: B008  # a named tuple: nothing can change it
    ) -> Tensor:
        """See ``System``; each sample a transition of its own, clipped at the range."""
        check_interval(settle_tau, kappa0)
        check_interval(spacing_tau, kappa0)
        spread = 3 * self._spread(settle_tau / self.slowdown, kappa0)
        x_fs = spread if ranges.x is None else ranges.x
        seeds = (address_seed(noise_seed, "sample", 0), address_seed(noise_seed, "sample", 1))
        found, last = [], self.full(None)
        course = _Course(last, self._offset(x_fs, 0 * x_fs), x_fs, 0 * x_fs, _NOTHING)
        runs = (settle_tau, 1, seeds[0]), (spacing_tau, samples - 1, seeds[1])
        for tau, count, seed in runs:
            h = self.drive_gain.new_tensor(tau / self.slowdown)
            kept, moved = self._maps(h)
            drift = moved @ course.drive
            wide = course._replace(end=last.expand(-1, count))
            noise = self._drawn(wide, float(h), kappa0, [seed] * count, shared=True)
            for column in noise.unbind(1):
                last = kept @ last + drift + column[:, None]
                if ranges.x is not None and self.active:
                    last = last.clamp(-x_fs, x_fs)
                found.append(last)
        return torch.cat(found, dim=1)

    # ---------------------------------------------------------------- the mean

    def _course(
        self, state: Tensor | None, drive: Tensor | None, tau: float, kappa0: float, ranges: Ranges
    ) -> _Course:
        """End, full scales and dissipation of the means, noise apart."""
        h = tau / self.slowdown
        given = None if drive is None else drive.double()
        count = self.full(state if given is None else given).shape[1]
        none = self.drive_gain.new_zeros(count)
        b_peak = none if given is None else given.abs().amax(dim=0)
        reach, scaled = self.drive_gain, None
        if given is not None:
            scaled = reach @ given if reach.ndim == 2 else reach[:, None] * given
        right = self.basis.right
        flow, spread, x_fs = None, 3 * self._spread(h, kappa0), ranges.x
        if x_fs is None:
            flow = self._flow(state, scaled, h)
            x_fs = full_scale(None, flow.peak(right) + spread)
        x_fs = x_fs.expand(count)
        b_fs = torch.maximum(b_peak, x_fs) if ranges.b is None else ranges.b.expand(count)
        gain = b_fs / x_fs if given is not None else none
        if bool(self.noise.offset.any() | self.noise.input_offset.any()):
            offset = self._offset(x_fs, gain)
            scaled, flow = offset if scaled is None else scaled + offset, None
        flow = self._flow(state, scaled, h) if flow is None else flow
        total = self.drive_gain.new_zeros(len(right), count) if scaled is None else scaled
        at, moved = total.new_tensor(h), torch.zeros_like(self.basis.rates)[:, None]
        for signal in flow.signals:
            moved = moved + signal.function(moved, at) * signal.columns
        end = (right @ moved).real.expand(-1, count)
        peaks = {"x": flow.peak(right) + spread, "b": b_peak}
        if ranges.x is None:
            x_fs = torch.maximum(x_fs, peaks["x"])  # offsets are in the signal as well
        scales = {"x": x_fs, "b": b_fs}
        energies = {name: flow.integral(form) for name, form in self._forms.items()}
        charges, known = {}, dict[int, Tensor]()
        for name, stage in self.stages.items() if self.active else ():
            outputs, which = self._outputs[name], id(stage.outputs)
            if which not in known:
                known[which] = flow.magnitudes(outputs)
                if stage.outputs is not None:
                    peaks["u"], scales["u"] = flow.peak(outputs), stage.ratio * x_fs
            charges[name] = stage.weights @ known[which]
        if ranges.x is not None and self.active:
            clips = peaks["x"] > x_fs * (1 + 1e-9)
            if bool(clips.any()):
                first = None if state is None else state.double()[:, clips]
                found = self._clipped(
                    first, total[:, clips], h, x_fs[clips], energies, charges, clips
                )
                end = end.clone()
                end[:, clips] = found
        if kappa0 > 0:
            injected = kappa0 * self.noise.injected
            for name, found in self.covariances.energies(injected, h, self._forms).items():
                energies[name] = energies[name] + found
        energies = {
            name: found / (self.stages[name].ratio * x_fs**2) for name, found in energies.items()
        }
        b2, b1 = (none, none) if given is None else (given.square().sum(0), given.abs().sum(0))
        supplied = {"input": h * b1 / x_fs}
        conductances = {}
        if self.active:
            energies["input"] = h * b2 / (b_fs * x_fs).clamp(min=torch.finfo(torch.float64).tiny)
            supplied |= {name: found / x_fs for name, found in charges.items()}
            conductances = {"input": gain / self.slowdown}
        saturation = {name: peak / scales[name] for name, peak in peaks.items()}
        saturation["b"] = torch.where(b_fs > 0, saturation["b"], 0.0)
        heat = Dissipation(energies, scales, saturation, conductances, supplied)
        return _Course(end, total, x_fs, gain, heat)

    @cached_property
    def covariances(self) -> Covariances:
        """Of noise in its modes."""
        return Covariances(self.basis)

    @cached_property
    def _outputs(self) -> dict[str, Tensor]:
        """O P of each stage: its outputs in every mode."""
        right = self.basis.right
        return {
            name: right if s.outputs is None else s.outputs.to(right) @ right
            for name, s in self.stages.items()
        }

    @cached_property
    def _forms(self) -> dict[str, Tensor]:
        return {
            name: quadratic_form(self._outputs[name], stage.weights.to(self.basis.right))
            for name, stage in self.stages.items()
        }

    def _flow(self, state: Tensor | None, drive: Tensor | None, h: float) -> Flow:
        left = self.basis.left
        quick = self.loop.margin >= _ACCURATE  # what is left of the lag is small, and soon over
        rate = float((self.loop.rates if quick else self.loop.roots).abs().amax())
        nowhen = torch.zeros(1), torch.zeros(1)
        t, weights = (p.to(left.real) for p in (instants(h, rate) if h > 0 else nowhen))
        edges, signals = panel_edges(h, rate) if h > 0 else [0.0], []
        at, nodes = torch.cat([t, t.new_tensor(edges)]), len(t)
        for x, function in ((state, self.loop.decay), (drive, self.loop.response)):
            if x is not None:
                values = function(at)
                known = _looked_up(values[:, nodes:], edges)
                signals.append(Signal(left @ x.to(left), known, values[:, :nodes]))
        return Flow.between(weights.new_zeros(len(left), 1), tuple(signals), t, weights, edges)

    def _maps(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Transition and response over h without lags, (n, n) each."""
        basis, rates = self.basis, self.basis.rates
        kept, moved = modes.decay(rates, h), modes.response(rates, h)
        matrices = [((basis.right * f) @ basis.left).real for f in (kept, moved)]
        return matrices[0], matrices[1]

    def _clipped(
        self,
        state: Tensor | None,
        drive: Tensor,
        h: float,
        x_fs: Tensor,
        energies: dict[str, Tensor],
        charges: dict[str, Tensor],
        columns: Tensor,
    ) -> Tensor:
        """Columns that reach the rails: where they end, and their integrals in place."""
        rate = float(self.basis.rates.abs().amax())
        number = min(max(round(_STEPS_PER_RATE * rate * h), _FEWEST), _MOST)
        kept, moved = self._maps(drive.new_tensor(h / number))
        pushed, step_tau = moved @ drive, h / number
        x, parts = held_at_rails(
            state, kept, pushed, x_fs=x_fs, step_tau=step_tau, number=number, stages=self.stages
        )
        for name, (energy, charge) in parts.items():
            energies[name] = energies[name].clone().index_put_((columns,), energy)
            charges[name] = charges[name].clone().index_put_((columns,), charge)
        return x

    # ---------------------------------------------------------------- noise and offsets

    def _offset(self, x_fs: Tensor, gain: Tensor) -> Tensor:
        """Constant drive (n, k) of the offsets, with g_in the input's conductance."""
        noise = self.noise
        return x_fs * (noise.offset[:, None] + gain * noise.input_offset[:, None])

    def _spread(self, h: float, kappa0: float) -> Tensor:
        """Largest standard deviation that kappa0 gives a node (0-dim); thermal noise is small."""
        if kappa0 == 0:
            return self.drive_gain.new_zeros(())
        widest = self.covariances.after(self.noise.injected, h).diagonal().amax()
        return (kappa0 * widest.clamp(min=0)).sqrt()

    def _drawn(
        self,
        course: _Course,
        h: float,
        kappa0: float,
        seeds: Sequence[int] | None,
        *,
        shared: bool = False,
    ) -> Tensor:
        """Noise (n, k) at the end: thermal, scaled by each column's range, and kappa0's.

        The input's conductance is taken at the largest of the columns (ranges have one for all).
        ``shared``: all columns are drawn from the first seed, in a row.
        """
        like, noise = course.end, self.noise
        if not like.shape[1]:
            return like
        if seeds is None:
            raise ValueError(f"expected {like.shape[1]} noise seeds, got none")
        generator = torch.Generator().manual_seed(address_seed(seeds[0], "thermal"))
        drawn = torch.zeros_like(like)
        if noise.thermal > 0:
            z = torch.randn(like.shape, generator=generator, dtype=like.dtype)
            form = noise.array
            if self.active:
                form = form + course.gain.amax() * torch.diag(noise.injected)
            drawn = noise.thermal**0.5 * course.x_fs * (self.covariances.root(form, h) @ z)
        if kappa0 > 0:
            z = torch.randn(like.shape, generator=generator, dtype=like.dtype)
            if not shared:
                z = normal_columns(seeds, like)
            drawn = drawn + kappa0**0.5 * (self.covariances.root(noise.injected, h) @ z)
        return drawn


def _looked_up(values: Tensor, edges: list[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """A signal's function at edges, from its values there (n, edges)."""
    return lambda rates, h: values[:, edges.index(float(h)), None]


class _Course(NamedTuple):
    """Where columns end without noise, by what, within what, and at what cost."""

    end: Tensor
    drive: Tensor
    x_fs: Tensor
    gain: Tensor
    heat: Dissipation


_NOTHING = Dissipation({}, {}, {})
