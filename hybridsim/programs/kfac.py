"""Thermodynamic K-FAC (arXiv 2502.08603), method 2, dense layers.

U = (G + lambda_g I)⁻¹ DTheta (A + lambda_a I)⁻¹, by columns.

The GPU computes the factors; each layer sends G and the columns of its gradient to one SPU, then A and the rows of the
answer to the next. Factors go to the SPUs in turn; layers run side by side and meet on the links.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import simpy

from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu import Load, Spu
from hybridsim.learning import kfac, optimizers
from hybridsim.operations.ref import Computation, Ref
from hybridsim.physics.dense_circuit import dense_parts
from hybridsim.programs import kronecker
from hybridsim.programs.first_order import update_rule
from hybridsim.programs.session import Session

Steps = Generator[simpy.Event, object, None]
Step = Generator[simpy.Event, object, Ref]
_FACTORS = Computation(kfac.factors)
_JOIN = Computation(kfac.join_directions)
_TRANSPOSE = Computation(kfac.transpose)
_REST = Computation(kronecker.rest)


def run(session: Session) -> Steps:
    """Factors, two solves per layer on the SPUs, Nesterov momentum on the preconditioned gradient."""
    return Kfac(session).run()


class Kfac:
    """One GPU and all SPUs of the machine."""

    def __init__(self, session: Session) -> None:
        algorithm = session.algorithm
        self.session, self.algorithm, self.machine = session, algorithm, session.machine
        self.gpu, self.issuer = session.machine.gpu, Issuer()
        self.layers = kfac.layers(session.task)
        self.average = Computation(kfac.average, decay=algorithm.ema)
        self.shifts = Computation(kfac.damping_terms, damping=algorithm.damping, rule=algorithm.damping_rule)
        self.update = update_rule("nesterov", algorithm)
        self.theta = session.theta
        state = optimizers.initial_state("nesterov", self.theta.value)
        self.optimizer = session.backend.root(state, "optimizer state")

    def run(self) -> Steps:
        """Train."""
        factors: Ref | None = None
        for step in range(1, self.session.steps + 1):
            start_ps = int(self.machine.context.env.now)
            args = (self.session.task_ref, self.theta, self.session.batch(step))
            fresh = yield from self.gpu.execute(self.issuer, Label("factors", step), _FACTORS, args)
            self.session.check_loss(step, fresh)
            factors = yield from self._average(step, factors, fresh)
            directions = yield from self._precondition(step, fresh.pick("gradient"), factors)
            joined = yield from self.gpu.execute(
                self.issuer, Label("join", step), _JOIN, (self.session.task_ref, *directions), synchronous=True
            )
            label, operands = Label("update", step), (self.theta, self.optimizer, joined)
            pair = yield from self.gpu.execute(self.issuer, label, self.update, operands)
            self.theta, self.optimizer = pair.pick(0), pair.pick(1)
            self.session.end_step(step, start_ps, self.theta, fresh, staleness_steps=0, delay_ps=0)

    def _average(self, step: int, old: Ref | None, fresh: Ref) -> Step:
        """Exponential moving average of the factors; the first step has nothing to average with."""
        if old is None:
            return fresh
        label = Label("average factors", step)
        return (yield from self.gpu.execute(self.issuer, label, self.average, (old, fresh)))

    def _precondition(self, step: int, gradient: Ref, factors: Ref) -> Generator[simpy.Event, object, list[Ref]]:
        """All layers side by side."""
        env = self.machine.context.env
        running = [
            env.process(self._layer(step, index, gradient, factors, self.issuer.fork()))
            for index in range(len(self.layers))
        ]
        yield env.all_of(running)
        return [cast("Ref", process.value) for process in running]

    def _layer(self, step: int, index: int, gradient: Ref, factors: Ref, issuer: Issuer) -> Step:
        """Solve against G (one column per input), transpose, solve against A (one column per output)."""
        name, outputs, inputs = self.layers[index]
        pair = (factors.pick("a").pick(name), factors.pick("g").pick(name))
        slice_of = Computation(kfac.slice_gradient, layer=name)
        args = (self.session.task_ref, gradient)
        columns = yield from self.gpu.execute(issuer, Label("slice", step, name), slice_of, args)
        shifts = yield from self.gpu.execute(issuer, Label("damping", step, name), self.shifts, pair)
        for side, size, count in ((1, outputs, inputs), (0, inputs, outputs)):
            spu = self.machine.spus[(2 * index + side) % len(self.machine.spus)]
            columns = yield from self._solve(
                issuer, spu, (step, name, "ag"[side]), pair[side], shifts.pick(side), columns, size, count
            )
            label = Label("transpose", step, name)
            columns = yield from self.gpu.execute(issuer, label, _TRANSPOSE, (columns,), synchronous=True)
        return columns

    def _solve(
        self,
        issuer: Issuer,
        spu: Spu,
        address: tuple[int, str, str],
        factor: Ref,
        shift: Ref,
        columns: Ref,
        size: int,
        count: int,
    ) -> Step:
        """Hold an SPU: send the factor and the columns, write, relax column after column, read back."""
        step, layer, side = address
        yield from spu.device.acquire(issuer)
        bits = size * size * spu.bits("input")
        label = Label(f"upload factor {side}", step, layer)
        sent = yield from self.machine.transfer(issuer, label, self.gpu.name, spu.name, factor, bits)
        system = yield from spu.program(
            issuer,
            Label(f"program {side}", step, layer),
            Computation(kronecker.program, input_bits=spu.node.input_bits),
            (sent, shift),
            _load(size),
            written=size * size,
        )
        answer = yield from self._columns(issuer, spu, address, system, columns, size, count)
        spu.device.release(issuer.last)
        label = Label(f"download {side}", step, layer)
        bits = size * count * spu.bits("output")
        return (yield from self.machine.transfer(issuer, label, spu.name, self.gpu.name, answer, bits, count))

    def _columns(
        self, issuer: Issuer, spu: Spu, address: tuple[int, str, str], system: Ref, columns: Ref, size: int, count: int
    ) -> Step:
        """Right-hand sides in, ``count`` relaxations in a row, solutions out."""
        step, layer, side = address
        algorithm, node = self.algorithm, spu.node
        label = Label(f"upload columns {side}", step, layer)
        bits = size * count * spu.bits("bias")
        sent = yield from self.machine.transfer(issuer, label, self.gpu.name, spu.name, columns, bits, count)
        convert = Computation(kronecker.convert, bias_bits=node.bias_bits)
        label = Label(f"convert {side}", step, layer)
        drive = yield from spu.convert_input(issuer, label, convert, (sent,), size, count)
        spu.install(system, drive, self.session.backend.evaluate(_REST, (drive,)), _load(size))
        seed = self.session.noise_seed("columns", step, layer, side) if algorithm.noise > 0 else 0
        relaxation = Computation(kronecker.settle, tau=algorithm.settle_tau, kappa0=algorithm.noise, noise_seed=seed)
        label = Label(f"settle {side}", step, layer)
        state = yield from spu.settle(issuer, label, algorithm.settle_tau, relaxation, count)
        read = Computation(kronecker.read, output_bits=node.output_bits)
        label = Label(f"measure {side}", step, layer)
        return (yield from spu.measure(issuer, label, read, (state,), size, count, shape=columns.value))


def _load(size: int) -> Load:
    parts = dense_parts(size)
    return Load(size, parts.resistors, parts.amplifiers)
