"""How long a piece of work on an SPU is predicted to take, before anything runs."""

from __future__ import annotations

from collections.abc import Hashable

from hybridsim.algorithms.kfac.jobs import Job, Prediction
from hybridsim.algorithms.settling import readings_tau
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.link import Route
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.spu import Spu
from hybridsim.scenario.settings.kfac import Kfac as Settings


class Predictor:
    """Time of a job on an SPU that a GPU sends to, without waiting: what is sent, writing,
    converters, settling, answers.

    ``columns``: right-hand sides of a step, of all jobs together, which share a budget. Readings
    never agree, and residuals always shrink.
    """

    def __init__(self, machine: Machine, settings: Settings, gpu: Gpu, columns: int = 1) -> None:
        self._machine, self._settings, self._gpu = machine, settings, gpu
        solves = columns * settings.solves_of_each
        self._times_tau = readings_tau(settings, settings.settle_tau, None, solves)
        self._kinds: dict[str, int] = {}
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[tuple[Job, int], Prediction] = {}

    def wires(self, spu: Spu) -> tuple[str, ...]:
        """Names of the wires that lead to an SPU."""
        return tuple(wire.name for wire in self._machine.route(self._gpu.name, spu.name).wires)

    def kind(self, spu: Spu) -> int:
        """A number for all SPUs of equal constants, resolutions, buffering and routes.

        That is all that a time depends on.
        """
        if spu.name not in self._kinds:
            routes = self._routes(spu)
            paths = tuple((route.occupancy_ps(10**9), route.latency_ps) for route in routes)
            node = spu.node
            form = (spu.sheet.numbers, node.buffering, node.imperfections, spu.number_bits, paths)
            self._kinds[spu.name] = self._numbers.setdefault(form, len(self._numbers))
        return self._kinds[spu.name]

    def __call__(self, job: Job, spu: Spu) -> Prediction:
        """The prediction, the same for all SPUs of a kind."""
        key = (job, self.kind(spu))
        if key not in self._known:
            self._known[key] = self._predict(job, spu)
        return self._known[key]

    def _routes(self, spu: Spu) -> tuple[Route, Route]:
        return self._machine.route(self._gpu.name, spu.name), self._machine.route(
            spu.name, self._gpu.name
        )

    def _predict(self, job: Job, spu: Spu) -> Prediction:
        settings, (up, down) = self._settings, self._routes(spu)
        load, times_tau = job.load, self._times_tau
        columns = job.columns * (1 + settings.refinement)
        messages = [array.sent * spu.bits("input") for array in load.arrays]
        if settings.method == "solves":
            messages.append(job.size * columns * spu.bits("bias"))
        columns *= len(times_tau)
        zeros = settings.auto_zero * (1 + settings.refinement) * len(times_tau)
        tau, driven = sum(times_tau) / len(times_tau), settings.method != "noise"
        if not driven:
            tau = (tau + (job.columns - 1) * settings.covariance.spacing_tau) / job.columns
        device_ps = spu.service_ps(load, columns + zeros, tau, driven=driven)
        sent_ps = sum(up.occupancy_ps(bits) + up.latency_ps for bits in messages)
        read_ps = down.occupancy_ps(job.size * columns * spu.bits("output")) + down.latency_ps
        once = Prediction(device_ps, sent_ps + read_ps)
        return Prediction(*(settings.programmes * part for part in once))
