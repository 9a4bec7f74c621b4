"""Thermodynamic natural gradient descent (arXiv 2405.13817), synchronous and asynchronous.

The GPU sends Jacobian, loss Hessian and gradient; the SPU relaxes towards ``(Jᵀ H J / b + lambda
I)⁻¹ g``; the GPU reads the state and updates. Synchronous: the SPU is held from the reading to the
next start. Asynchronous: it relaxes without pause, and the delay between a reading and the upload
that answers it emerges from GPU and link times, or is forced.

``pipeline: upload``: reading and linearization go on while the upload before is in flight, so that
GPU, link and SPU work at once. Reading k is of system k - 1, at least ``wait`` after that was put
in force; system k is put in force when it is there and reading k has been taken; one upload is in
flight at a time. With T_g from a reading to the packed system, T_u of the upload and w of the wait
a step takes max(T_g, T_u, w, (T_g + T_u + w)/2) in place of T_g + T_u + w: a wait of T_u - T_g is
free. Directions are one update staler.

Two columns of the learning curve tell how old a direction is. ``staleness_steps``: the updates
between the parameters whose system the state last relaxed for (by any time at all; a reset state is
as fresh as its gradient) and those that it moves, on average over the readings of a step.
``delay_ps``: clock time from the first reading of a step to the instant at which the system that
answers it is in force; 0 where the SPU is held meanwhile, nothing at the last step (pipelined: of
the reading of the step before, so nothing at the first). A forced delay is analog time from the
first reading on; the clock shows more where GPU and link take longer or readings are converted, the
state being held meanwhile.
"""

from __future__ import annotations

import simpy

from hybridsim.algorithms.base import (
    ANALOG_ASSUMPTIONS,
    Algorithm,
    Columns,
    Direction,
    Process,
    ideal_bits,
)
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.natural_gradient.exact import fidelity
from hybridsim.algorithms.natural_gradient.linearizer import Linearized, Linearizer
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import device
from hybridsim.algorithms.tngd.iterated import Iterated
from hybridsim.algorithms.tngd.transport import SPLIT_ASSUMPTION, Packed, Posed, Transport
from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu_group import Loads, SpuGroup
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.tngd import Tngd as Settings
from hybridsim.tasks.task import Task


class Tngd(Algorithm[Settings]):
    """All GPUs; of the SPUs the first, or all together (``spus``)."""

    waits_for_answer = True

    def __init__(self, session: Session[Settings]) -> None:
        super().__init__(session)
        self.issuer, settings, spus = self.group.issuers[0], self.settings, self.machine.spus
        self.spu = SpuGroup(spus[:1] if settings.spus == "first" else spus)
        self.transport = Transport(session, self.group, self.spu)
        node = self.spu.node
        self.asynchronous = settings.mode == "asynchronous"
        self._check_delay()
        drawn = settings.curvature == "sampled_fisher"  # the gradient lies outside of the range
        exact = node.input_bits is None and node.bias_bits is None and not drawn
        self.linearizer = Linearizer(session, settings.curvature, settings.fisher_samples)
        self.upload = Computation(
            device.upload, damping=settings.damping, input_bits=node.input_bits
        )
        self.iterated: Iterated | None = None
        if settings.spus == "iterated":
            self.iterated = Iterated(session, self.spu, self.group.gpus[0])
            self.upload = self.iterated.upload
        self.drive = Computation(device.drive, bias_bits=node.bias_bits, exact=exact)
        self.carry = Computation(device.carry)
        self.read = Computation(device.read, output_bits=node.output_bits)
        self.mean = Computation(device.mean)
        self.fidelity = Computation(fidelity, damping=settings.damping)
        self.asked: Linearized  # what the SPU was last given
        self.read_ps = self.switched_ps = 0
        self.sender = Issuer()  # the thread of an upload in flight
        self.upload_in_flight: simpy.Process | None = None
        self.loads_in_flight: Loads = self._loads() if settings.pipeline == "upload" else ()
        self.read_taken: simpy.Event | None = None  # the step's state may change from then on
        self.in_force = self.relaxed_for = 0  # updates before the parameters of these systems
        self.ages: list[int] = []  # of the readings of a step, in updates

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of the analog part."""
        split = settings.spus == "split" and len(spec.usable_spus()) > 1
        return [
            *super().assumptions(settings, spec, task),
            *ANALOG_ASSUMPTIONS,
            *([SPLIT_ASSUMPTION] if split else []),
            *ideal_bits(spec),
        ]

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """Rows are sent by who has them."""
        return [
            *super().assumptions_of_gpus(gpus),
            "Every GPU sends its own rows of J and H to the SPUs; answers go round the ring.",
        ]

    def resident_bytes(self, gpu: Gpu) -> int:
        """With what is packed and still on its way while the next system is made."""
        found = super().resident_bytes(gpu)
        if self.loads_in_flight:
            found += self.transport.packed_bytes(gpu, self.loads_in_flight)
        return found

    def _loads(self) -> Loads:
        """What a system takes, from the shapes of one GPU's share alone."""
        share = self.linearizer.operands(1, self.theta[0], (0, self.group.size))
        work = self.session.backend.work
        shapes = Ref(work(self.linearizer.computation, share)[1], b"")
        return self.transport.loads(shapes.value, self.group.size)

    def _check_delay(self) -> None:
        delay_tau, spread_tau = self.settings.delay_tau, self._spread_tau()
        if delay_tau is not None and spread_tau > delay_tau:
            raise InputError(
                f"training.algorithm.delay: expected at least the {spread_tau:g} tau over which "
                f"the readings are spread, got {delay_tau:g} tau"
            )

    # ---------------------------------------------------------------- steps

    def prepare(self) -> Process[None]:
        """An SPU that never stops has its first system before the first step."""
        if self.asynchronous:
            self.asked = yield from self.linearizer.linearize(1, self.group, self.theta)
            yield from self._give(1)

    def direction(self, step: int) -> Process[Direction]:
        """Synchronous: linearize, upload, settle, read. Asynchronous: wait, then read."""
        if self.asynchronous:
            yield from self._wait(step)
        else:
            self.asked = yield from self.linearizer.linearize(step, self.group, self.theta)
            yield from self._give(step)
            if self.iterated is None:
                yield from self._settle(step, self.settings.settle_tau, reading=0)
            else:
                self._moved(self.settings.settle_tau)
                yield from self.iterated.solve(step, self._rows(), self.issuer)
        loss, answers = self.asked.loss, (yield from self._read(step))
        found = self.session.diagnose(step, self.fidelity, (self.asked.whole, answers[0]))
        stale = sum(self.ages) / len(self.ages)
        columns: Columns = {"staleness_steps": stale, "delay_ps": 0, **found}
        return Direction(answers, loss, columns)

    def finish(self, step: int) -> Process[Columns]:
        """Asynchronous: answer the reading with a new system, which takes over when it is there."""
        if not self.asynchronous:
            return {}
        if step < self.session.steps:
            self.asked = yield from self.linearizer.linearize(step + 1, self.group, self.theta)
            if self.settings.pipeline == "upload":
                delay_ps = yield from self._answer_in_flight(step)
                self._relax(step, "until the step's end", None)
                return {"delay_ps": delay_ps}
            yield from self._answer(step)
            return {"delay_ps": self.session.now_ps() - self.read_ps}
        if self.settings.delay_tau is None:
            self._relax(step, "until the end", None)
        return {"delay_ps": None}

    def _wait(self, step: int) -> Process[None]:
        """Let the SPU relax until it is read."""
        wait_tau, spu = self._wait_tau(), self.spu
        assert spu.system is not None, "installed before the first step"
        pause_ps = self.switched_ps + spu.duration_ps(wait_tau) - self.session.now_ps()
        yield from self.machine.pause(
            self.issuer, Label("wait", step), spu.name, pause_ps, spu.system
        )
        self.read_ps = self.session.now_ps()
        forced = self.settings.delay_tau is not None
        self._relax(step, "before reading", wait_tau if forced else None)

    # ---------------------------------------------------------------- phases

    def _give(self, step: int) -> Process[None]:
        """Give the SPU the system that was asked last, and put it in force."""
        packed = yield from self._pack(step)
        self._switch(step, (yield from self._pose(step, packed, self.issuer)))

    def _pack(self, step: int) -> Process[Packed]:
        """Round and pack the arrays on the GPUs."""
        asked = self.asked
        loads = self.transport.loads(asked.shares[0].value, self.group.size)
        shares = yield from self.transport.pack(step, asked.shares, loads)
        return Packed(shares, asked.whole, loads)

    def _pose(self, step: int, packed: Packed, issuer: Issuer) -> Process[Posed]:
        """Send the arrays, write the resistors, convert the drive."""
        spu, loads = self.spu, packed.loads
        sent = yield from self.transport.upload(step, packed, issuer)
        label = Label("program", step)
        system = yield from spu.program(issuer, label, self.upload, (sent,), loads)
        label, args = Label("convert gradient", step), (system, sent)
        drive = yield from spu.convert_input(issuer, label, self.drive, args, loads)
        return Posed(system, drive, loads)

    def _answer(self, step: int) -> Process[None]:
        """Upload while the SPU goes on (held meanwhile without a second buffer); switch over."""
        spu, delay = self.spu, self.settings.delay_tau
        packed = yield from self._pack(step + 1)
        if delay is None and spu.node.buffering == "single":
            self._relax(step, "until held", None)
        posed = yield from self._pose(step + 1, packed, self.issuer)
        if delay is not None:
            left_tau = delay - self._spread_tau()
            left_ps = spu.since_ps + spu.duration_ps(left_tau) - self.session.now_ps()
            label, after = Label("forced delay", step), (posed.system, posed.drive)
            system = yield from self.machine.pause(self.issuer, label, spu.name, left_ps, *after)
            posed = posed._replace(system=system)
            self._relax(step, "until switched", left_tau)
        elif spu.node.buffering == "double":
            self._relax(step, "until switched", None)
        self._switch(step + 1, posed)

    def _answer_in_flight(self, step: int) -> Process[int | None]:
        """Hand a new system to the link once the upload before is in force; returns how long that
        one was on its way since its reading.
        """
        packed, before = (yield from self._pack(step + 1)), self.upload_in_flight
        delay_ps, ready_ps = None, self.session.now_ps()
        if before is not None:
            delay_ps = yield before
            if self.session.now_ps() > ready_ps:
                for issuer in self.group.issuers:
                    issuer.last = self.sender.last
        self.read_taken = self.env.event()
        replacing = self._replace(step + 1, packed, self.read_taken, self.read_ps)
        self.upload_in_flight = self.env.process(replacing)
        return delay_ps

    def _replace(
        self, step: int, packed: Packed, read_taken: simpy.Event, since_ps: int
    ) -> Process[int]:
        """Upload the system of a step and put it in force when its step has read the one before."""
        posed = yield from self._pose(step, packed, self.sender)
        yield read_taken
        self._relax(step - 1, "until switched", None)
        self._switch(step, posed)
        return self.session.now_ps() - since_ps

    def _switch(self, step: int, posed: Posed) -> None:
        """Put the system of a step in force."""
        starts = self.settings.state == "reset" or self.spu.system is None
        start = self._start_state(posed.system, posed.drive)
        lines = self._rows() if self.settings.spus == "split" else 0
        self.spu.install(posed.system, posed.drive, start, posed.loads, lines)
        self.in_force, self.switched_ps = step - 1, self.session.now_ps()
        if starts:
            self.relaxed_for = self.in_force

    def _start_state(self, system: Ref, drive: Ref) -> Ref:
        """The state that a new system starts from: the gradient, or what the nodes hold."""
        spu = self.spu
        if self.settings.state == "reset" or spu.state is None or spu.system is None:
            return drive
        args = (spu.system, spu.state, system)
        carried = self.session.backend.evaluate(self.carry, args, exact=True)
        return Ref(carried.value, carried.key, spu.state.spans, carried.facts)

    def _settle(self, step: int, tau: float, reading: int) -> Process[Ref]:
        relaxation = self._relaxation(tau, step, f"reading {reading}")
        self._moved(tau)
        return (yield from self.spu.settle(self.issuer, Label("settle", step), tau, relaxation))

    def _relax(self, step: int, phase: str, tau: float | None) -> None:
        """Move the state by the time that has passed, or by a commanded one.

        With a commanded one the state is held for the rest.
        """
        elapsed = self.spu.elapsed_tau() if tau is None else tau
        self._moved(elapsed)
        if elapsed > 0:
            self.spu.relax(Label("relax", step), self._relaxation(elapsed, step, phase), tau)

    def _moved(self, tau: float) -> None:
        """The state relaxes for the system in force, if time passes at all."""
        if tau > 0:
            self.relaxed_for = self.in_force

    def _relaxation(self, tau: float, step: int, phase: str) -> Computation:
        kappa0 = self.settings.noise
        seed = self.session.noise_seed("relaxation", step, phase) if kappa0 > 0 else 0
        return Computation(device.settle, tau=tau, kappa0=kappa0, noise_seed=seed)

    def _read(self, step: int) -> Process[Refs]:
        """Measure, once or as the mean of several readings, and send the result to the GPUs."""
        samples, self.ages = self.settings.readout.samples, []
        readings = [(yield from self._measure(step))]
        for index in range(1, samples):
            yield from self._space(step, index)
            readings.append((yield from self._measure(step)))
        if self.read_taken is not None:
            self.read_taken.succeed()
        result = readings[0]
        if len(readings) > 1:
            shape = self.theta[0].value
            average = self.session.backend.evaluate(self.mean, tuple(readings), shape)
            result = average._replace(spans=readings[-1].spans)
        # The mean of S readings of B bits needs B + log2 S bits.
        bits = self.spu.bits("output") + (samples - 1).bit_length()
        return (yield from self.transport.download(step, result, bits, self.spu.loads))

    def _space(self, step: int, index: int) -> Process[None]:
        """Let the state move on by the spacing of two readings.

        A free-running SPU never stops: its state moves by what the clock says, conversion included.
        Otherwise it is held while a reading is converted, and moves by the commanded spacing.
        """
        spacing_tau = self.settings.readout.spacing_tau
        if not self.asynchronous or self.settings.delay_tau is not None:
            yield from self._settle(step, spacing_tau, reading=index)
            return
        left_ps = self.spu.since_ps + self.spu.duration_ps(spacing_tau) - self.session.now_ps()
        label = Label("space readings", step)
        yield from self.machine.pause(self.issuer, label, self.spu.name, left_ps, Token())
        self._relax(step, f"before reading {index}", None)

    def _spread_tau(self) -> float:
        """Time between the first and the last reading of a measurement, as commanded."""
        readout = self.settings.readout
        return float((readout.samples - 1) * readout.spacing_tau)

    def _measure(self, step: int) -> Process[Ref]:
        spu = self.spu
        assert spu.system is not None and spu.state is not None, "installed before it is read"
        args, label, shape = (spu.system, spu.state), Label("measure", step), self.theta[0].value
        self.ages.append(step - 1 - self.relaxed_for)
        return (yield from spu.measure(self.issuer, label, self.read, args, shape))

    def _wait_tau(self) -> float:
        """Time between a switch and the next reading.

        As asked, or what is left of the settle after a forced delay.
        """
        settings = self.settings
        if settings.delay_tau is None:
            return settings.wait_tau
        return settings.settle_tau - settings.delay_tau

    def _rows(self) -> int:
        """Rows of J, of the whole batch."""
        return len(self.asked.shares[0].value.jacobian) * self.group.size

    def _size(self) -> int:
        return self.session.task.layout.size
