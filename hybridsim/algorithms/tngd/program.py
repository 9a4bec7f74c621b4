"""Thermodynamic natural gradient descent (arXiv 2405.13817), synchronous and asynchronous.

The GPU sends Jacobian, loss Hessian and gradient; the SPU relaxes towards ``(Jᵀ H J / b + lambda
I)⁻¹ g``; the GPU reads the state and updates. Synchronous: the SPU is held from the reading to the
next start. Asynchronous: it relaxes without pause, and the delay between a reading and the upload
that answers it emerges from GPU and link times, or is forced. ``staleness_steps`` counts the
updates between the parameters that the state last relaxed for and those it moves.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.natural_gradient.exact import fidelity
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import device
from hybridsim.circuits.low_rank_dissipation import fisher_parts, ggn_parts
from hybridsim.errors import InputError
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu import Load
from hybridsim.operations.ref import Computation, Ref

Steps = Generator[simpy.Event, object, None]
Step = Generator[simpy.Event, object, Ref]


def run(session: Session) -> Steps:
    """Train in the mode that the algorithm names."""
    program = Tngd(session)
    return (
        program.asynchronous()
        if session.algorithm.mode == "asynchronous"
        else program.synchronous()
    )


class Tngd:
    """One GPU and the first SPU of the machine; further SPUs stay idle."""

    def __init__(self, session: Session) -> None:
        algorithm = session.algorithm
        self.session, self.algorithm, self.issuer = session, algorithm, Issuer()
        self.machine, self.gpu, self.spu = (
            session.machine,
            session.machine.gpu,
            session.machine.spus[0],
        )
        self.linearize = Computation(linearize, curvature=algorithm.curvature)
        node = self.spu.node
        exact = node.input_bits is None and node.bias_bits is None
        self.upload = Computation(
            device.upload, damping=algorithm.damping, input_bits=node.input_bits
        )
        self.drive = Computation(device.drive, bias_bits=node.bias_bits, exact=exact)
        self.carry = Computation(device.carry)
        self.read = Computation(device.read, output_bits=node.output_bits)
        self.mean = Computation(device.mean)
        layout = session.task.layout
        self.update = optimizers.rule(algorithm.update, algorithm.learning_rate, layout)
        self.fidelity = Computation(fidelity, damping=algorithm.damping)
        if algorithm.delay_tau is not None and self._spread_tau() > algorithm.delay_tau:
            raise InputError(
                f"training.algorithm.delay: expected at least the {self._spread_tau():g} tau "
                "over which the readings are "
                f"spread, got {algorithm.delay_tau:g} tau"
            )
        self.theta = session.theta
        state = optimizers.start(algorithm.update, self.theta.value, layout)
        self.optimizer = session.backend.root(state, "optimizer state")

    # ---------------------------------------------------------------- programs

    def synchronous(self) -> Steps:
        """Linearize, upload, settle, read, update; one after the other."""
        for step in range(1, self.session.steps + 1):
            start_ps = self._now()
            linearization = yield from self._linearize(step)
            system, drive, load = yield from self._upload(step, linearization)
            self.spu.install(system, drive, self._start_state(system, drive), load)
            yield from self._settle(step, self.algorithm.settle_tau, reading=0)
            direction = yield from self._read(step)
            yield from self._update(step, direction)
            self._end_step(step, start_ps, linearization, direction, staleness_steps=0, delay_ps=0)

    def asynchronous(self) -> Steps:
        """Read while the SPU relaxes; answer with a new system, which takes over when its upload is
        complete.
        """
        linearization = yield from self._linearize(1)
        system, drive, load = yield from self._upload(1, linearization)
        self.spu.install(system, drive, self._start_state(system, drive), load)
        for step in range(1, self.session.steps + 1):
            start_ps = self._now()
            wait_tau = self._wait_tau()
            yield from self.machine.pause(
                self.issuer,
                Label("wait", step),
                self.spu.name,
                self.spu.duration_ps(wait_tau),
                *self._in_force(),
            )
            read_ps = self._now()
            self._relax(
                step, "before reading", wait_tau if self.algorithm.delay_tau is not None else None
            )
            direction = yield from self._read(step)
            yield from self._update(step, direction)
            answered, delay_ps = linearization, None
            if step < self.session.steps:
                linearization = yield from self._linearize(step + 1)
                yield from self._answer(step, linearization)
                delay_ps = self._now() - read_ps
            elif self.algorithm.delay_tau is None:
                self._relax(step, "until the end", None)
            fresh = wait_tau > 0 or self.algorithm.state == "reset"
            stale = 0 if fresh else min(1, step - 1)
            self._end_step(
                step, start_ps, answered, direction, staleness_steps=stale, delay_ps=delay_ps
            )

    # ---------------------------------------------------------------- phases

    def _end_step(
        self, step: int, start_ps: int, asked: Ref, answer: Ref, **columns: int | None
    ) -> None:
        """Write the step, with how well the reading solves the system last asked for."""
        found = self.session.diagnose(step, self.fidelity, (asked, answer))
        self.session.end_step(step, start_ps, self.theta, asked, **columns, **found)

    def _linearize(self, step: int) -> Step:
        args = (self.session.task_ref, self.theta, self.session.batch(step))
        result = yield from self.gpu.execute(
            self.issuer, Label("linearize", step), self.linearize, args
        )
        self.session.check_loss(step, result)
        return result

    def _upload(
        self, step: int, linearization: Ref
    ) -> Generator[simpy.Event, object, tuple[Ref, Ref, Load]]:
        """Send the arrays one after the other, write the resistors, convert the drive."""
        jacobian, hessian, gradient = linearization.value[:3]
        rows, size = jacobian.shape
        outputs = hessian.shape[-1] if hessian is not None else 0
        parts = ggn_parts(rows // outputs, outputs, size) if outputs else fisher_parts(rows, size)
        load = Load(size, parts.resistors, parts.amplifiers)
        bits = self._array_bits(rows, size, outputs)
        sent = linearization
        for kind, amount in (*bits.items(), ("upload gradient", size * self.spu.bits("bias"))):
            sent = yield from self.machine.transfer(
                self.issuer, Label(kind, step), self.gpu.name, self.spu.name, sent, amount
            )
        system = yield from self.spu.program(
            self.issuer,
            Label("program", step),
            self.upload,
            (sent,),
            load,
            written=self._written(rows, size, outputs),
        )
        drive = yield from self.spu.convert_input(
            self.issuer, Label("convert gradient", step), self.drive, (system, sent), size
        )
        return system, drive, load

    def _array_bits(self, rows: int, size: int, outputs: int) -> dict[str, int]:
        """Bits on the wire per array; J travels once (and fans out to both arrays) or twice, H_L in
        blocks or full.
        """
        bits = self.spu.bits("input")
        copies = 1 if self.algorithm.jacobian_upload == "once" else 2
        sent = {"upload jacobian": copies * rows * size * bits}
        if outputs:
            width = rows if self.algorithm.hessian_upload == "full" else outputs
            sent["upload hessian"] = rows * width * bits
        return sent

    def _written(self, rows: int, size: int, outputs: int) -> int:
        """Resistors that a new system sets: J in both arrays, and what is sent of H."""
        width = rows if outputs and self.algorithm.hessian_upload == "full" else outputs
        return 2 * rows * size + rows * width

    def _answer(self, step: int, linearization: Ref) -> Steps:
        """Upload while the SPU goes on (held meanwhile without a second buffer), then switch
        over.
        """
        spu, delay = self.spu, self.algorithm.delay_tau
        if delay is None and spu.node.buffering == "single":
            self._relax(step, "until held", None)
        system, drive, load = yield from self._upload(step + 1, linearization)
        if delay is not None:
            left_tau = delay - self._spread_tau()
            left_ps = spu.since_ps + spu.duration_ps(left_tau) - self._now()
            system = yield from self.machine.pause(
                self.issuer, Label("forced delay", step), spu.name, left_ps, system, drive
            )
            self._relax(step, "until switched", left_tau)
        elif spu.node.buffering == "double":
            self._relax(step, "until switched", None)
        spu.install(system, drive, self._start_state(system, drive), load)

    def _start_state(self, system: Ref, drive: Ref) -> Ref:
        """The state that a new system starts from: the gradient, or what the nodes hold."""
        spu = self.spu
        if self.algorithm.state == "reset" or spu.state is None or spu.system is None:
            return drive
        carried = self.session.backend.evaluate(self.carry, (spu.system, spu.state, system))
        return Ref(carried.value, carried.key, spu.state.spans, carried.facts)

    def _settle(self, step: int, tau: float, reading: int) -> Step:
        relaxation = self._relaxation(tau, step, f"reading {reading}")
        return (yield from self.spu.settle(self.issuer, Label("settle", step), tau, relaxation))

    def _relax(self, step: int, phase: str, tau: float | None) -> None:
        """Move the state by the time that has passed, or by a commanded one (the state is held for
        the rest).
        """
        elapsed = self.spu.elapsed_tau() if tau is None else tau
        if elapsed > 0:
            commanded_ps = None if tau is None else self.spu.duration_ps(tau)
            self.spu.relax(
                Label("relax", step), self._relaxation(elapsed, step, phase), commanded_ps
            )

    def _relaxation(self, tau: float, step: int, phase: str) -> Computation:
        kappa0 = self.algorithm.noise
        seed = self.session.noise_seed("relaxation", step, phase) if kappa0 > 0 else 0
        return Computation(device.settle, tau=tau, kappa0=kappa0, noise_seed=seed)

    def _read(self, step: int) -> Step:
        """Measure, once or as the mean of several readings, and send the result to the GPU."""
        samples = self.algorithm.readout.samples
        readings = [(yield from self._measure(step))]
        for index in range(1, samples):
            yield from self._space(step, index)
            readings.append((yield from self._measure(step)))
        result = readings[0]
        if len(readings) > 1:
            average = self.session.backend.evaluate(self.mean, tuple(readings), self.theta.value)
            result = average.at(readings[-1].spans[0])
        # The mean of S readings of B bits needs B + log2 S bits.
        amount = self._size() * (self.spu.bits("output") + (samples - 1).bit_length())
        return (
            yield from self.machine.transfer(
                self.issuer, Label("download", step), self.spu.name, self.gpu.name, result, amount
            )
        )

    def _space(self, step: int, index: int) -> Steps:
        """Let the state move on by the spacing of two readings.

        A free-running SPU never stops: its state moves by what the clock says, conversion included.
        Otherwise it is held while a reading is converted, and moves by the commanded spacing.
        """
        spacing_tau = self.algorithm.readout.spacing_tau
        if self.algorithm.mode == "synchronous" or self.algorithm.delay_tau is not None:
            yield from self._settle(step, spacing_tau, reading=index)
            return
        left_ps = self.spu.since_ps + self.spu.duration_ps(spacing_tau) - self._now()
        yield from self.machine.pause(
            self.issuer, Label("space readings", step), self.spu.name, left_ps
        )
        self._relax(step, f"before reading {index}", None)

    def _spread_tau(self) -> float:
        """Time between the first and the last reading of a measurement, as commanded."""
        return float((self.algorithm.readout.samples - 1) * self.algorithm.readout.spacing_tau)

    def _measure(self, step: int) -> Step:
        spu = self.spu
        assert spu.system is not None and spu.state is not None
        args, label = (spu.system, spu.state), Label("measure", step)
        return (
            yield from spu.measure(
                self.issuer, label, self.read, args, self._size(), shape=self.theta.value
            )
        )

    def _update(self, step: int, direction: Ref) -> Steps:
        args = (self.theta, self.optimizer, direction)
        label = Label("update", step)
        pair = yield from self.gpu.execute(self.issuer, label, self.update, args, synchronous=True)
        self.theta, self.optimizer = pair.pick(0), pair.pick(1)

    def _wait_tau(self) -> float:
        """Time between a switch and the next reading: what is left of the settle after a forced
        delay, or as asked.
        """
        algorithm = self.algorithm
        wait: Any = algorithm.wait_tau
        return float(
            wait if algorithm.delay_tau is None else algorithm.settle_tau - algorithm.delay_tau
        )

    def _in_force(self) -> tuple[Ref, ...]:
        return () if self.spu.system is None else (self.spu.system,)

    def _size(self) -> int:
        return self.session.task.layout.size

    def _now(self) -> int:
        return int(self.machine.context.env.now)
