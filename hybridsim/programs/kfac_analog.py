"""K-FAC's linear algebra on SPUs (TKFAC, arXiv 2502.08603): linear systems (method 2), or inverses (method 1).

Every factor and its columns have a place (``placement``). A piece of work takes a set of resistors (two with double
buffering: one is written while the other settles), sends the factor unless it still stands there, then takes the
integrators for its columns: DAC, relaxation, ADC. The answers go back to the GPU that owns the layer.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import simpy
import torch

from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.resistor_sets import ResistorSet
from hybridsim.hardware.spu import Spu
from hybridsim.learning import kfac, kfac_noise, kfac_parts
from hybridsim.learning.kfac_layers import Block
from hybridsim.operations.ref import Computation, Ref, digest
from hybridsim.programs import kronecker
from hybridsim.programs.kfac_blocks import Parts, Prepared, results
from hybridsim.programs.placement import Job, Piece, Placement, Predict, Prediction, place, tile_jobs
from hybridsim.programs.session import Session

Steps = Generator[simpy.Event, Any, None]
Step = Generator[simpy.Event, Any, Ref]
_REST = Computation(kronecker.rest)
_TRANSPOSE = Computation(kfac.transpose)
_JOIN = Computation(kfac_parts.join_columns)
_RECIPROCAL = Computation(kfac_parts.reciprocal)
_DIVIDE = Computation(kfac.divide)
_APPLY = Computation(kfac_parts.apply_inverses)
_FOLLOWING, _JOIN_TILES = kfac_parts.following_tiles, Computation(kfac_parts.join_tiles)


class Address(NamedTuple):
    """Which solve this is: of which step and block, G or A, which tile."""

    step: int
    job: Job
    tile: int = 0

    def label(self, kind: str) -> Label:
        """The operation's label: its kind, and which factor."""
        return Label(f"{kind} {self.job.side}", self.step, self.job.block)


class Analog:
    """Preconditioning by SPUs. ``spus``: those of each GPU, ``owner``: which GPU each block belongs to."""

    def __init__(self, session: Session, jobs: dict[str, dict[str, Job]], owner: dict[str, Gpu]) -> None:
        self.session, self.algorithm, self.machine = session, session.algorithm, session.machine
        self.env = session.machine.context.env
        self.jobs, self.owner = jobs, owner
        self.placement: Placement = {}
        for gpu in session.machine.gpus:
            own = [job for name, sides in jobs.items() if owner[name] is gpu for job in sides.values()]
            if own:
                spus, rule = session.machine.spus_of(gpu), self.algorithm.placement
                self.placement |= place(own, spus, rule, self._predict(gpu), tiling=self.algorithm.tiling)
        form = "roots" if self.algorithm.upload == "activations" else "factors"
        self._shifts = Computation(
            kfac.damping_terms, damping=self.algorithm.damping, rule=self.algorithm.damping_rule, form=form
        )
        self._systems: dict[bytes, Ref] = {}
        self.dtype = str(session.theta.value.dtype).removeprefix("torch.")

    def begin_step(self) -> None:
        """Forget the systems of the step before; those that SPUs still hold stay with them."""
        self._systems.clear()

    def prepare(self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer) -> Generator[Any, Any, Prepared]:
        """Damping, and under method 1 the inverses."""
        gpu = self.owner[block.name]
        shifts = yield from gpu.execute(issuer, Label("damping", step, block.name), self._shifts, (a, g))
        if self.algorithm.method == "solves":
            return Prepared(step, (a, g, shifts.pick(0), shifts.pick(1)))
        inverses = yield from self._both(
            self._inverse(step, block, "a", a, shifts.pick(0), issuer.fork()),
            self._inverse(step, block, "g", g, shifts.pick(1), issuer.fork()),
        )
        return Prepared(step, tuple(inverses))

    def apply(self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer) -> Step:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``; what is known before it may be sent before it."""
        gpu = self.owner[block.name]
        if self.algorithm.method != "solves":
            parts: Parts = yield ready
            label, args = Label("precondition", step, block.name), (*prepared.refs, parts.d)
            return (yield from gpu.execute(issuer, label, _APPLY, args, synchronous=True))
        a, g, shift_a, shift_g = prepared.refs
        rows = yield from self._solve(step, block, "g", g, shift_g, ready, issuer)
        if block.diagonal:
            label = Label("divide", step, block.name)
            rows = yield from gpu.execute(issuer, label, _DIVIDE, (rows, a, shift_a))
            return (yield from gpu.execute(issuer, Label("transpose", step, block.name), _TRANSPOSE, (rows,)))
        return (yield from self._solve(step, block, "a", a, shift_a, self._known(rows), issuer))

    # ---------------------------------------------------------------- method 2

    def _solve(
        self, step: int, block: Block, side: str, factor: Ref, shift: Ref, ready: simpy.Event, issuer: Issuer
    ) -> Step:
        """The transposed solutions of a factor's columns, all pieces side by side."""
        job, gpu = self.jobs[block.name][side], self.owner[block.name]
        running = [
            self.env.process(self._piece(Address(step, job), piece, factor, shift, ready, issuer.fork()))
            for piece in self.placement[block.name, side]
        ]
        answers = tuple((yield from results(self.env, running)))
        label = Label("transpose", step, block.name)
        return (yield from gpu.execute(issuer, label, _TRANSPOSE, answers, synchronous=True))

    def _piece(self, at: Address, piece: Piece, factor: Ref, shift: Ref, ready: simpy.Event, issuer: Issuer) -> Step:
        """A stretch of columns on one SPU, in tiles where the factor is too large for it."""
        last = piece.first + piece.columns
        if len(piece.tiles) == 1:
            return (yield from self._on_spu(at, piece, factor, shift, ready, issuer))
        parts: Parts = yield ready
        return (yield from self._tiles(at, piece, factor, shift, self._cut(parts.d, piece.first, last), issuer))

    def _tiles(self, at: Address, piece: Piece, factor: Ref, shift: Ref, columns: Ref, issuer: Issuer) -> Step:
        """Block elimination, one tile after the other (see ``kfac_parts``)."""
        job = tile_jobs(at.job, piece.tiles)[at.tile]._replace(columns=columns.value.shape[1])
        gpu, size = self.owner[job.block], piece.tiles[at.tile]
        tile = Address(at.step, job._replace(size=size), at.tile)
        if at.tile == len(piece.tiles) - 1:
            whole = piece._replace(first=0, columns=columns.value.shape[1])
            return (yield from self._on_spu(tile, whole, factor, shift, self._known(columns), issuer))
        label, first = Label("cut tile", at.step, job.block), Computation(kfac_parts.first_tile, size=size)
        pair = yield from gpu.execute(issuer, label, first, (factor, columns))
        count = pair.pick(1).value.shape[1]
        whole = piece._replace(first=0, columns=count)
        solved = yield from self._on_spu(tile, whole, pair.pick(0), shift, self._known(pair.pick(1)), issuer)
        label, following = Label("Schur complement", at.step, job.block), Computation(_FOLLOWING, size=size)
        rest = yield from gpu.execute(issuer, label, following, (factor, columns, solved), synchronous=True)
        below = at._replace(tile=at.tile + 1)
        answer = yield from self._tiles(below, piece, rest.pick(0), shift, rest.pick(1), issuer)
        label = Label("join tiles", at.step, job.block)
        return (yield from gpu.execute(issuer, label, _JOIN_TILES, (solved, answer), synchronous=True))

    def _known(self, columns: Ref) -> simpy.Event:
        return self.env.event().succeed(Parts(None, None, columns, int(self.env.now)))

    # ---------------------------------------------------------------- method 1

    def _inverse(self, step: int, block: Block, side: str, factor: Ref, shift: Ref, issuer: Issuer) -> Step:
        """A damped factor's inverse by unit columns, or from the covariance of the noise."""
        gpu, label = self.owner[block.name], Label(f"inverse {side}", step, block.name)
        if side == "a" and block.diagonal:
            return (yield from gpu.execute(issuer, label, _RECIPROCAL, (factor, shift)))
        at, pieces = Address(step, self.jobs[block.name][side]), self.placement[block.name, side]
        running = [self.env.process(self._inverse_piece(at, piece, factor, shift, issuer.fork())) for piece in pieces]
        answers = tuple((yield from results(self.env, running)))
        if self.algorithm.method == "noise":
            covariance = Computation(kfac_noise.covariance, kappa0=self.algorithm.noise)
            return (yield from gpu.execute(issuer, label, covariance, answers, synchronous=True))
        if len(answers) == 1:
            return answers[0]
        return (yield from gpu.execute(issuer, label, _JOIN, answers, synchronous=True))

    def _inverse_piece(self, at: Address, piece: Piece, factor: Ref, shift: Ref, issuer: Issuer) -> Step:
        if len(piece.tiles) == 1:
            return (yield from self._on_spu(at, piece, factor, shift, None, issuer))
        units = Computation(kronecker.units, first=piece.first, count=piece.columns, dtype=self.dtype)
        gpu, label = self.owner[at.job.block], at.label("unit columns")
        columns = yield from gpu.execute(issuer, label, units, (factor,))
        return (yield from self._tiles(at, piece, factor, shift, columns, issuer))

    def _both(self, *steps: Step) -> Generator[Any, Any, list[Ref]]:
        return (yield from results(self.env, [self.env.process(step) for step in steps]))

    # ---------------------------------------------------------------- one SPU

    def _on_spu(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, ready: simpy.Event | None, issuer: Issuer
    ) -> Step:
        """Hold a set of resistors: write the factor if it is not there, relax the columns, read back."""
        spu, gpu = piece.spu, self.owner[at.job.block]
        program = self._program(spu)
        key = self.session.backend.key(program, (factor, shift))
        held = yield from spu.sets.acquire(issuer, key)
        if held.key != key:
            yield from self._write(at, spu, held, key, program, (factor, shift), issuer)
        if self.algorithm.method == "noise":
            count = self.algorithm.covariance.samples
            answer = yield from self._sample(at, spu, held, issuer)
        else:
            count = piece.columns
            answer = yield from self._columns(at, piece, held, (factor, shift), ready, issuer)
        spu.device.release(issuer.last)
        spu.sets.release(held, issuer.last)
        bits = at.job.size * count * spu.bits("output")
        return (yield from self.machine.transfer(issuer, at.label("download"), spu.name, gpu.name, answer, bits, count))

    def _program(self, spu: Spu) -> Computation:
        written = kronecker.program_roots if self.algorithm.upload == "activations" else kronecker.program
        return Computation(written, input_bits=spu.node.input_bits)

    def _write(
        self, at: Address, spu: Spu, held: ResistorSet, key: bytes, program: Computation, args: tuple[Ref, Ref],
        issuer: Issuer,
    ) -> Steps:  # fmt: skip
        """Send a factor (or the raw rows) and write the resistors."""
        gpu, job = self.owner[at.job.block], at.job
        bits = job.numbers * spu.bits("input")
        payload = _after(*args)
        sent = yield from self.machine.transfer(issuer, at.label("upload factor"), gpu.name, spu.name, payload, bits)
        label, operands = at.label("program"), (sent, args[1])
        held.system = yield from spu.program(
            issuer, label, program, operands, job.load, written=job.load.resistors, known=self._systems
        )
        held.key = key

    def _columns(
        self, at: Address, piece: Piece, held: ResistorSet, system_of: tuple[Ref, Ref], ready: simpy.Event | None,
        issuer: Issuer,
    ) -> Step:  # fmt: skip
        """Right-hand sides in (unit columns need not be sent), relaxations in a row, solutions out."""
        spu, job, algorithm, system = piece.spu, at.job, self.algorithm, held.system
        assert system is not None, "written just now or before"
        if ready is not None:
            parts: Parts = yield ready
            issuer.waited_from(parts.ready_ps, int(self.env.now))
            columns = _after(self._cut(parts.d, piece.first, piece.first + piece.columns), *system_of)
            bits = job.size * piece.columns * spu.bits("bias")
            gpu, label = self.owner[job.block], at.label("upload columns")
            columns = yield from self.machine.transfer(issuer, label, gpu.name, spu.name, columns, bits, piece.columns)
        else:
            units = Computation(kronecker.units, first=piece.first, count=piece.columns, dtype=self.dtype)
            shape = self._shape(job.size, piece.columns)
            columns = self.session.backend.evaluate(units, system_of[:1], shape)
        yield from spu.device.acquire(issuer)
        convert = Computation(kronecker.convert, bias_bits=spu.node.bias_bits)
        drive = yield from spu.convert_input(issuer, at.label("convert"), convert, (columns,), job.size, piece.columns)
        spu.install(system, drive, self.session.backend.evaluate(_REST, (drive,)), job.load)
        relaxation = Computation(
            kronecker.settle, tau=algorithm.settle_tau, kappa0=algorithm.noise, noise_seed=self._noise_seed(at),
            first=piece.first,
        )  # fmt: skip
        state = yield from spu.settle(issuer, at.label("settle"), algorithm.settle_tau, relaxation, piece.columns)
        return (yield from self._read(at, spu, state, piece.columns, issuer))

    def _sample(self, at: Address, spu: Spu, held: ResistorSet, issuer: Issuer) -> Step:
        """An SPU at rest, without a drive: let its noise settle, then sample it."""
        algorithm, system, sampling = self.algorithm, held.system, self.algorithm.covariance
        assert system is not None, "written just now or before"
        yield from spu.device.acquire(issuer)
        none = self.session.backend.root(None, "no drive")
        spu.install(system, none, none, at.job.load)
        relaxation = Computation(
            kronecker.sample, samples=sampling.samples, spacing_tau=sampling.spacing_tau,
            settle_tau=algorithm.settle_tau, kappa0=algorithm.noise, noise_seed=self._noise_seed(at),
        )  # fmt: skip
        tau = algorithm.settle_tau + (sampling.samples - 1) * sampling.spacing_tau
        state = yield from spu.settle(issuer, at.label("settle"), tau, relaxation)
        return (yield from self._read(at, spu, state, sampling.samples, issuer))

    def _read(self, at: Address, spu: Spu, state: Ref, count: int, issuer: Issuer) -> Step:
        read = Computation(kronecker.read, output_bits=spu.node.output_bits, dtype=self.dtype)
        shape, size = self._shape(at.job.size, count), at.job.size
        return (yield from spu.measure(issuer, at.label("measure"), read, (state,), size, count, shape))

    def _noise_seed(self, at: Address) -> int:
        if self.algorithm.noise == 0:
            return 0
        return self.session.noise_seed("columns", at.step, at.job.block, at.job.side, at.tile)

    def _cut(self, columns: Ref, first: int, last: int) -> Ref:
        """Some of the columns: which of them are sent costs the GPU nothing."""
        if (first, last) == (0, columns.value.shape[1]):
            return columns
        value = columns.value[:, first:last]
        if not self.session.backend.tensors:
            value = self.session.backend.shapes.meta(value)
        return Ref(value, digest(columns.key, f"columns {first}:{last}".encode()), columns.spans)

    def _shape(self, size: int, count: int) -> torch.Tensor:
        """What stands for an answer where nothing is computed."""
        empty = torch.empty(size, count, dtype=getattr(torch, self.dtype), device="meta")
        shape: torch.Tensor = self.session.backend.shapes.meta(empty)
        return shape

    # ---------------------------------------------------------------- prediction

    def _predict(self, gpu: Gpu) -> Predict:
        """Time of a job on an SPU without waiting."""
        algorithm, machine = self.algorithm, self.machine

        def predict(job: Job, spu: Spu) -> Prediction:
            tau, sent = algorithm.settle_tau, job.numbers * spu.bits("input")
            if algorithm.method == "solves":
                sent += job.size * job.columns * spu.bits("bias")
            if algorithm.method == "noise":
                tau = (tau + (job.columns - 1) * algorithm.covariance.spacing_tau) / job.columns
            device_ps = spu.service_ps(
                job.load, job.columns, tau, written=job.load.resistors, converted=algorithm.method != "noise"
            )
            up, down = machine.route(gpu.name, spu.name), machine.route(spu.name, gpu.name)
            link_ps = up.occupancy_ps(sent) + down.occupancy_ps(job.size * job.columns * spu.bits("output"))
            return Prediction(device_ps, link_ps + up.latency_ps + down.latency_ps)

        return predict


def _after(payload: Ref, *others: Ref) -> Ref:
    """A payload that is sent once other things, which it is used with, are there too."""
    return payload._replace(spans=tuple(sorted({span for ref in (payload, *others) for span in ref.spans})))
