"""Thermodynamic natural gradient descent (arXiv 2405.13817), synchronous and asynchronous.

The GPU sends Jacobian, loss Hessian and gradient; the SPU relaxes towards ``(Jᵀ H J / b + lambda
I)⁻¹ g``; the GPU reads the state and updates. Synchronous: the SPU is held from the reading to the
next start. Asynchronous: it relaxes without pause, and the delay between a reading and the upload
that answers it emerges from GPU and link times, or is forced.

Two columns of the learning curve tell how old a direction is. ``staleness_steps``: the updates
between the parameters whose system the state last relaxed for (by any time at all; a reset state is
as fresh as its gradient) and those that it moves, on average over the readings of a step.
``delay_ps``: clock time from the first reading of a step to the instant at which the system that
answers it is in force; 0 where the SPU is held meanwhile, nothing at the last step. A forced delay
is analog time from the first reading on; the clock shows more where GPU and link take longer or
readings are converted, the state being held meanwhile.
"""

from __future__ import annotations

from hybridsim.algorithms.base import (
    ANALOG_ASSUMPTIONS,
    Algorithm,
    Columns,
    Direction,
    Process,
    ideal_bits,
)
from hybridsim.algorithms.natural_gradient.exact import fidelity, quartic_fidelity
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import device, diagnosis
from hybridsim.circuits import low_rank
from hybridsim.circuits.base import Array, Load, rectangle
from hybridsim.errors import InputError
from hybridsim.hardware.lane import Label
from hybridsim.hardware.link import Message
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.tngd import Tngd as Settings
from hybridsim.tasks.task import Task

SPLITTING = ("splitting_error", "splitting_steps")
QUARTIC_ASSUMPTION = (
    "A cell's quartic element draws exactly q x³ at no static power, the same in every cell."
)


class Tngd(Algorithm[Settings]):
    """One GPU and the first SPU of the machine; further ones stay idle."""

    waits_for_answer = True

    def __init__(self, session: Session[Settings]) -> None:
        super().__init__(session)
        self.gpu, self.spu = self.group.gpus[0], self.machine.spus[0]
        self.issuer = self.group.issuers[0]
        settings, node = self.settings, self.spu.node
        self.asynchronous = settings.mode == "asynchronous"
        self._check_delay()
        exact = node.input_bits is None and node.bias_bits is None
        self.linearize = Computation(linearize, curvature=settings.curvature)
        self.upload = Computation(
            device.upload, damping=settings.damping, input_bits=node.input_bits
        )
        self.drive = Computation(device.drive, bias_bits=node.bias_bits, exact=exact)
        self.carry = Computation(device.carry)
        self.read = Computation(device.read, output_bits=node.output_bits)
        self.mean = Computation(device.mean)
        self.fidelity = Computation(fidelity, damping=settings.damping)
        if settings.strength > 0:
            run = {"damping": settings.damping, "strength": settings.strength}
            self.fidelity = Computation(quartic_fidelity, **run)
        self.asked: Ref  # the linearization that the SPU was last given
        self.read_ps = 0
        self.in_force = self.relaxed_for = 0  # updates before the parameters of these systems
        self.ages: list[int] = []  # of the readings of a step, in updates
        self.began: Ref  # the state with which the system in force began
        self.moved_tau = 0.0  # since then
        self.readings: list[tuple[float, Ref]] = []  # of a step: when and what

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of the analog part."""
        return [
            *super().assumptions(settings, spec, task),
            *ANALOG_ASSUMPTIONS,
            *ideal_bits(spec),
            *([QUARTIC_ASSUMPTION] if settings.strength > 0 else []),
        ]

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """Only the first is used."""
        return ["TNGD computes on the first GPU; the others draw idle power."]

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
            self.asked = yield from self._linearize(1)
            yield from self._give(1)

    def direction(self, step: int) -> Process[Direction]:
        """Synchronous: linearize, upload, settle, read. Asynchronous: wait, then read."""
        if self.asynchronous:
            yield from self._wait(step)
        else:
            self.asked = yield from self._linearize(step)
            yield from self._give(step)
            yield from self._settle(step, self.settings.settle_tau, reading=0)
        answer = yield from self._read(step)
        found = self.session.diagnose(step, self.fidelity, (self.asked, answer))
        found |= self._split_error(step, answer)
        stale = sum(self.ages) / len(self.ages)
        columns: Columns = {"staleness_steps": stale, "delay_ps": 0, **found}
        if self.settings.strength > 0:
            assert self.spu.state is not None, "it was read"
            columns |= {name: self.spu.state.facts.get(name) for name in SPLITTING}
        return Direction([answer], self.asked, columns)

    def _split_error(self, step: int, answer: Ref) -> Columns:
        """What of an imperfect device's error is due to what."""
        spu, settings = self.spu, self.settings
        if spu.device.ideal:
            return {}
        assert spu.system is not None and spu.drive is not None, "it was read"
        split = Computation(
            diagnosis.diagnose,
            damping=settings.damping,
            taus=tuple(tau for tau, _ in self.readings),
            input_bits=spu.node.input_bits,
            bias_bits=spu.node.bias_bits,
            reset=settings.state == "reset",
            strength=settings.strength,
        )
        states = (state for _, state in self.readings)
        args = (self.asked, answer, spu.system, spu.drive, self.began, *states)
        return self.session.diagnose(step, split, args)

    def finish(self, step: int) -> Process[Columns]:
        """Asynchronous: answer the reading with a new system, which takes over when it is there."""
        if not self.asynchronous:
            return {}
        if step < self.session.steps:
            self.asked = yield from self._linearize(step + 1)
            yield from self._answer(step)
            return {"delay_ps": self.session.now_ps() - self.read_ps}
        if self.settings.delay_tau is None:
            self._relax(step, "until the end", None)
        return {"delay_ps": None}

    def _wait(self, step: int) -> Process[None]:
        """Let the SPU relax until it is read."""
        wait_tau, spu = self._wait_tau(), self.spu
        assert spu.system is not None, "installed before the first step"
        pause_ps = spu.duration_ps(wait_tau)
        yield from self.machine.pause(
            self.issuer, Label("wait", step), spu.name, pause_ps, spu.system
        )
        self.read_ps = self.session.now_ps()
        forced = self.settings.delay_tau is not None
        self._relax(step, "before reading", wait_tau if forced else None)

    # ---------------------------------------------------------------- phases

    def _linearize(self, step: int) -> Process[Ref]:
        args = (self.session.task_ref, self.theta[0], self.session.batch(step))
        result = yield from self.gpu.execute(
            self.issuer, Label("linearize", step), self.linearize, args
        )
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
            on_site=self.settings.strength > 0,
        )

    def _give(self, step: int) -> Process[None]:
        """Give the SPU the system that was asked last, and put it in force."""
        packed = yield from self._pack(step)
        self._switch(step, *(yield from self._pose(step, packed)))

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

    def _pose(self, step: int, packed: Ref) -> Process[tuple[Ref, Ref, Load]]:
        """Send the arrays back to back, write the resistors, convert the drive."""
        spu, load = self.spu, self._load(packed)
        messages = [
            Message(Label(f"upload {array.name}", step), array.sent * bits)
            for array, bits in self._sending(load)
        ]
        route = self.machine.route(self.gpu.name, spu.name)
        sent = yield from route.transfer(self.issuer, messages, packed)
        system = yield from spu.program(
            self.issuer, Label("program", step), self.upload, (sent,), load
        )
        label = Label("convert gradient", step)
        drive = yield from spu.convert_input(
            self.issuer, label, self.drive, (system, sent), load.cells
        )
        return system, drive, load

    def _answer(self, step: int) -> Process[None]:
        """Upload while the SPU goes on (held meanwhile without a second buffer); switch over."""
        spu, delay = self.spu, self.settings.delay_tau
        packed = yield from self._pack(step + 1)
        if delay is None and spu.node.buffering == "single":
            self._relax(step, "until held", None)
        system, drive, load = yield from self._pose(step + 1, packed)
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

    def _switch(self, step: int, system: Ref, drive: Ref, load: Load) -> None:
        """Put the system of a step in force."""
        starts = self.settings.state == "reset" or self.spu.system is None
        self.spu.install(system, drive, self._start_state(system, drive), load)
        assert self.spu.state is not None, "installed now"
        self.began, self.moved_tau = self.spu.state, 0.0
        self.in_force = step - 1
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
        self.moved_tau += tau
        if tau > 0:
            self.relaxed_for = self.in_force

    def _relaxation(self, tau: float, step: int, phase: str) -> Computation:
        kappa0 = self.settings.noise
        seed = self.session.noise_seed("relaxation", step, phase) if kappa0 > 0 else 0
        run = {"tau": tau, "kappa0": kappa0, "noise_seed": seed}
        if self.settings.strength > 0:
            return Computation(device.settle_quartic, **run, strength=self.settings.strength)
        return Computation(device.settle, **run)

    def _read(self, step: int) -> Process[Ref]:
        """Measure, once or as the mean of several readings, and send the result to the GPU."""
        samples, self.ages, self.readings = self.settings.readout.samples, [], []
        readings = [(yield from self._measure(step))]
        for index in range(1, samples):
            yield from self._space(step, index)
            readings.append((yield from self._measure(step)))
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
        self.readings.append((self.moved_tau, spu.state))
        return (
            yield from spu.measure(self.issuer, label, self.read, args, self._size(), shape=shape)
        )

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
