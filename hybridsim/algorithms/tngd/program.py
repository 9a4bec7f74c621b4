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

from hybridsim.algorithms.assumptions import analog_assumptions, use_assumptions
from hybridsim.algorithms.base import (
    Columns,
    Direction,
    Process,
)
from hybridsim.algorithms.natural_gradient.exact import fidelity
from hybridsim.algorithms.natural_gradient.linearizer import Linearizer
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import device
from hybridsim.algorithms.tngd.solving import Solving
from hybridsim.circuits import low_rank
from hybridsim.circuits.base import Array, Load, rectangle
from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.link import Message
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.tngd import Tngd as Settings
from hybridsim.tasks.task import Task


class Tngd(Solving):
    """One GPU and an SPU of the machine, the first unless ``place`` says otherwise.

    Of an ensemble the first one's program leads: the others' solve what it asks.
    """

    waits_for_answer = True

    def __init__(self, session: Session[Settings], place: int = 0) -> None:
        super().__init__(session, place)
        self.gpu, self.spu = self.group.gpus[0], self.machine.spus[place]
        self.issuer = self.group.issuers[0]
        settings, node = self.settings, self.spu.node
        self.asynchronous = settings.mode == "asynchronous"
        self._check_delay()
        self._check_buffers()
        drawn = settings.curvature == "sampled_fisher"  # the gradient lies outside of the range
        exact = node.input_bits is None and node.bias_bits is None and not drawn
        # An ideal device is no setting: its keys are those of a computation that knows none.
        built = {} if self.spu.device.ideal else {"device": self.spu.device}
        written = {"age_tau": settings.settle_tau} if self.spu.device.drift > 0 else {}
        self.charge = {"charge": True} if "load_current" in node.imperfections else {}
        self.linearizer = Linearizer(session, settings.curvature, settings.fisher_samples)
        if settings.rounding == "stochastic" and settings.jacobian_upload == "twice":
            written["apart"] = True
        self.upload = Computation(
            device.upload, damping=settings.damping, input_bits=node.input_bits, **built, **written
        )
        self.drive = Computation(device.drive, bias_bits=node.bias_bits, exact=exact, **built)
        self.carry = Computation(device.carry)
        self.read = Computation(device.read, output_bits=node.output_bits, **built)
        self.mean = Computation(device.mean)
        self.fidelity = Computation(fidelity, damping=settings.damping)
        self.asked: Ref  # the linearization that the SPU was last given
        self.sent: Ref  # the same, once it has arrived
        self.seen: Ref | None = None  # the last state that had relaxed: gains are chosen from it
        self.read_ps = self.switched_ps = 0
        self.sender = Issuer()  # the thread of an upload in flight
        self.upload_in_flight: simpy.Process | None = None
        self.in_flight_bytes = self._packed_bytes() if settings.pipeline == "upload" else 0
        self.read_taken: simpy.Event | None = None  # the step's state may change from then on
        self.in_force = self.relaxed_for = 0  # updates before the parameters of these systems
        self.ages: list[int] = []  # of the readings of a step, in updates
        self.members: list[Solving] = [self]
        if settings.spus == "ensemble" and place == 0:
            self.members += [Tngd(session, k) for k in range(1, len(self.machine.spus))]

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of the analog part."""
        found = [*super().assumptions(settings, spec, task), *analog_assumptions(spec)]
        return found + use_assumptions(settings)

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """Only the first is used."""
        return ["TNGD computes on the first GPU; the others draw idle power."]

    def resident_bytes(self, gpu: Gpu) -> int:
        """With what is packed and still on its way while the next system is made."""
        return super().resident_bytes(gpu) + self.in_flight_bytes

    def _packed_bytes(self) -> int:
        """Memory of a system as it is sent, from shapes alone."""
        computation, args = self.linearizer.computation, self.linearizer.operands(1, self.theta[0])
        shapes = Ref(self.session.backend.work(computation, args)[1], b"")
        sending = self._sending(self._load(shapes))
        return -(-sum(min(a.sent, a.entries) * bits for a, bits in sending) // 8)

    def _check_delay(self) -> None:
        delay_tau, spread_tau = self.settings.delay_tau, self._spread_tau()
        if delay_tau is not None and spread_tau > delay_tau:
            raise InputError(
                f"training.algorithm.delay: expected at least the {spread_tau:g} tau over which "
                f"the readings are spread, got {delay_tau:g} tau"
            )

    def _check_buffers(self) -> None:
        buffering = self.spu.node.buffering
        if self.settings.pipeline == "upload" and buffering != "double":
            raise InputError(
                "training.algorithm.pipeline: upload: expected a double-buffered SPU (the state "
                f"relaxes while the next system is written), got {self.spu.name} with "
                f"'{buffering}'"
            )

    # ---------------------------------------------------------------- steps

    def prepare(self) -> Process[None]:
        """An SPU that never stops has its first system before the first step."""
        if self.asynchronous:
            self.asked = yield from self._linearize(1)
            yield from self._give(1)

    def direction(self, step: int) -> Process[Direction]:
        """Synchronous: linearize, upload, settle, read. Asynchronous: wait, then read."""
        if self.asynchronous:
            yield from self._wait(step)
            answer = yield from self._read(step)
        else:
            self.asked = yield from self._linearize(step)
            answer = yield from self._solved(step, self.members)
        found = self.session.diagnose(step, self.fidelity, (self.asked, answer))
        stale = sum(self.ages) / len(self.ages)
        columns: Columns = {"staleness_steps": stale, "delay_ps": 0, **found}
        columns |= self._solving_columns()
        return Direction([answer], self.asked, columns)

    def finish(self, step: int) -> Process[Columns]:
        """Asynchronous: answer the reading with a new system, which takes over when it is there."""
        if not self.asynchronous:
            return {}
        if step < self.session.steps:
            self.asked = yield from self._linearize(step + 1)
            if self.settings.pipeline == "upload":
                return {"delay_ps": (yield from self._answer_in_flight(step))}
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

    def _linearize(self, step: int) -> Process[Ref]:
        label, args = Label("linearize", step), self.linearizer.operands(step, self.theta[0])
        computation = self.linearizer.computation
        result = yield from self.gpu.execute(self.issuer, label, computation, args)
        self.session.check_loss(step, result)
        return result

    def _load(self, linearization: Ref) -> Load:
        """What the circuit takes for a linearization, from its shapes."""
        jacobian, hessian, *_ = linearization.value
        rows, size = jacobian.shape
        return low_rank.load(
            size,
            rows,
            outputs=0 if hessian is None else hessian.shape[-1],
            full_hessian=self.settings.hessian_upload == "full",
            copies=1 if self.settings.jacobian_upload == "once" else 2,
        )

    def _give(self, step: int, packed: Ref | None = None) -> Process[None]:
        """See ``Solving``."""
        if packed is None:
            packed = yield from self._pack(step)
        self._switch(step, *(yield from self._pose(step, packed, self.issuer)))
        if self.seen is None and self.spu.device.headroom > 0:
            yield from self._find_ranges(step)

    def _find_ranges(self, step: int) -> Process[None]:
        """A device that has seen nothing settles once only to show how large its signals are.

        Its gains are then set and it starts again.
        """
        spu, load, tau = self.spu, self.spu.load, self.settings.settle_tau
        relaxation = self._relaxation(tau, step, "ranging")
        self.seen = yield from spu.settle(self.issuer, Label("find ranges", step), tau, relaxation)
        system = yield from spu.program(
            self.issuer, Label("set gains", step), self.upload, (self.sent, self.seen), Load()
        )
        drive = yield from self._convert(step, system, load, self.issuer)
        spu.state = None
        self._switch(step, system, drive, load)

    def _sending(self, load: Load) -> list[tuple[Array, int]]:
        """The arrays that are sent, with the bits of their numbers."""
        found = [(array, self.spu.bits("input")) for array in load.arrays]
        return [*found, (rectangle("gradient", load.cells), self.spu.bits("bias"))]

    def _pack(self, step: int) -> Process[Ref]:
        """Round and pack the arrays on the GPU."""
        sending = self._sending(self._load(self.asked))
        element_bytes = self.group.number_bits // 8
        (packed,) = yield from self.gpu.pack(
            self.issuer, Label("pack", step), (self.asked,), sending, element_bytes
        )
        return packed

    def _pose(self, step: int, packed: Ref, issuer: Issuer) -> Process[tuple[Ref, Ref, Load]]:
        """Send the arrays back to back, write the resistors, convert the drive."""
        spu, load = self.spu, self._load(packed)
        messages = [
            Message(Label(f"upload {array.name}", step), array.sent * bits)
            for array, bits in self._sending(load)
        ]
        route = self.machine.route(self.gpu.name, spu.name)
        self.sent = yield from route.transfer(issuer, messages, packed)
        args: tuple[Ref, ...] = (self.sent,)
        if spu.device.headroom > 0 and self.seen is not None:
            args = (self.sent, self.seen)
        system = yield from spu.program(issuer, Label("program", step), self.upload, args, load)
        return system, (yield from self._convert(step, system, load, issuer)), load

    def _convert(self, step: int, system: Ref, load: Load, issuer: Issuer) -> Process[Ref]:
        """The gradient through the DAC, and onto the cells where they start from it."""
        spu, args = self.spu, (system, self.sent)
        label = Label("convert gradient", step)
        drive = yield from spu.convert_input(issuer, label, self.drive, args, load.cells)
        if self._starts_anew():
            drive = yield from spu.preset(issuer, Label("preset", step), drive, load.cells)
        return drive

    def _answer(self, step: int) -> Process[None]:
        """Upload while the SPU goes on (held meanwhile without a second buffer); switch over."""
        spu, delay = self.spu, self.settings.delay_tau
        packed = yield from self._pack(step + 1)
        if delay is None and spu.node.buffering == "single":
            self._relax(step, "until held", None)
        system, drive, load = yield from self._pose(step + 1, packed, self.issuer)
        if delay is not None:
            left_tau = delay - self._spread_tau()
            left_ps = spu.since_ps + spu.duration_ps(left_tau) - self.session.now_ps()
            system = yield from self.machine.pause(
                self.issuer, Label("forced delay", step), spu.name, left_ps, system, drive
            )
            self._relax(step, "until switched", left_tau)
        elif spu.node.buffering == "double":
            self._relax(step, "until switched", None)
        self._switch(step + 1, system, drive, load)

    def _answer_in_flight(self, step: int) -> Process[int | None]:
        """Hand a new system to the link once the upload before is in force; returns how long that
        one was on its way since its reading.
        """
        packed, before = (yield from self._pack(step + 1)), self.upload_in_flight
        delay_ps, ready_ps = None, self.session.now_ps()
        if before is not None:
            delay_ps = yield before
            if self.session.now_ps() > ready_ps:
                self.issuer.last = self.sender.last
        self.read_taken = self.env.event()
        replacing = self._replace(step + 1, packed, self.read_taken, self.read_ps)
        self.upload_in_flight = self.env.process(replacing)
        return delay_ps

    def _replace(
        self, step: int, packed: Ref, read_taken: simpy.Event, since_ps: int
    ) -> Process[int]:
        """Upload the system of a step and put it in force when its step has read the one before."""
        system, drive, load = yield from self._pose(step, packed, self.sender)
        yield read_taken
        self._relax(step - 1, "until switched", None)
        self._switch(step, system, drive, load)
        return self.session.now_ps() - since_ps

    def _switch(self, step: int, system: Ref, drive: Ref, load: Load) -> None:
        """Put the system of a step in force."""
        starts = self._starts_anew()
        self.spu.install(system, drive, self._start_state(system, drive), load)
        self.in_force, self.switched_ps = step - 1, self.session.now_ps()
        if starts:
            self.relaxed_for = self.in_force

    def _starts_anew(self) -> bool:
        """The next system starts from the gradient, not from what the nodes hold."""
        spu = self.spu
        return self.settings.state == "reset" or spu.state is None or spu.system is None

    def _start_state(self, system: Ref, drive: Ref) -> Ref:
        """The state that a new system starts from: the gradient, or what the nodes hold."""
        spu = self.spu
        if self._starts_anew():
            return drive
        assert spu.state is not None and spu.system is not None
        args = (spu.system, spu.state, system)
        carried = self.session.backend.evaluate(self.carry, args, exact=True)
        return Ref(carried.value, carried.key, spu.state.spans, carried.facts)

    def _settle(self, step: int, tau: float, reading: int) -> Process[Ref]:
        relaxation = self._relaxation(tau, step, f"reading {reading}")
        self._moved(tau)
        self.seen = yield from self.spu.settle(self.issuer, Label("settle", step), tau, relaxation)
        return self.seen

    def _relax(self, step: int, phase: str, tau: float | None) -> None:
        """Move the state by the time that has passed, or by a commanded one.

        With a commanded one the state is held for the rest.
        """
        elapsed = self.spu.elapsed_tau() if tau is None else tau
        self._moved(elapsed)
        if elapsed > 0:
            relaxation = self._relaxation(elapsed, step, phase)
            self.seen = self.spu.relax(Label("relax", step), relaxation, tau)

    def _moved(self, tau: float) -> None:
        """The state relaxes for the system in force, if time passes at all."""
        if tau > 0:
            self.relaxed_for = self.in_force

    def _relaxation(self, tau: float, step: int, phase: str) -> Computation:
        kappa0 = self.settings.noise
        noisy, address = kappa0 > 0 or self.spu.device.thermal > 0, (step, self.solve + phase)
        seed = self.session.noise_seed("relaxation", *address) if noisy else 0
        return Computation(device.settle, tau=tau, kappa0=kappa0, noise_seed=seed, **self.charge)

    def _read(self, step: int) -> Process[Ref]:
        """Measure, once or as the mean of several readings, and send the result to the GPU."""
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
            result = average.at(readings[-1].spans[0])
        # The mean of S readings of B bits needs B + log2 S bits.
        amount = self._size() * (self.spu.bits("output") + (samples - 1).bit_length())
        return (
            yield from self.machine.transfer(
                self.issuer, Label("download", step), self.spu.name, self.gpu.name, result, amount
            )
        )

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
        reading = yield from spu.measure(
            self.issuer, label, self.read, args, self._size(), shape=shape
        )
        if reading.facts.get("retaken"):  # on another range: the numbers are already the second's
            again, size = Label("measure again", step), self._size()
            reading = yield from spu.measure(self.issuer, again, self.read, args, size, shape=shape)
        return reading

    def _wait_tau(self) -> float:
        """Time between a switch and the next reading.

        As asked, or what is left of the settle after a forced delay.
        """
        settings = self.settings
        if settings.delay_tau is None:
            return settings.wait_tau
        return settings.settle_tau - settings.delay_tau

    def _size(self) -> int:
        return self.session.task.layout.size
