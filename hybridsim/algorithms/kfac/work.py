"""A piece of K-FAC's work on one SPU: a set of resistors, a factor, its columns or samples, the
answers.

A piece takes a set of resistors (two with double buffering: one is written while the other
settles), sends the factor unless it still stands there, then takes the integrators for its columns:
DAC, relaxation, ADC. The answers go back to the GPU that owns the layer.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import simpy
import torch

from hybridsim.algorithms.kfac import device
from hybridsim.algorithms.kfac.blocks import Parts
from hybridsim.algorithms.kfac.jobs import Job, Piece
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.resistor_sets import ResistorSet
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Computation, Ref, digest

Steps = Generator[simpy.Event, Any, None]
Step = Generator[simpy.Event, Any, Ref]
_REST = Computation(device.rest)


class Address(NamedTuple):
    """Which solve this is: of which step and block, G or A, which tile, and of a stretch in tiles
    its first column.
    """

    step: int
    job: Job
    tile: int = 0
    stretch: int = 0

    def label(self, kind: str) -> Label:
        """The operation's label: its kind, and which factor."""
        return Label(f"{kind} {self.job.side}", self.step, self.job.block)


class SpuWork:
    """Pieces of work on SPUs.

    ``owner``: the GPU that sends and receives, for each block. ``shifts``: by how much rounding
    last raised the diagonal of each factor, on average over its entries: rounding acts as damping.
    """

    def __init__(self, session: Session, owner: dict[str, Gpu]) -> None:
        self.session, self.algorithm, self.machine = session, session.algorithm, session.machine
        self.owner = owner
        self.dtype = str(session.theta.value.dtype).removeprefix("torch.")
        self.shifts: dict[tuple[str, str], float] = {}
        self._systems: dict[bytes, Ref] = {}

    def begin_step(self) -> None:
        """Forget the systems of the step before; those that SPUs still hold stay with them."""
        self._systems.clear()

    def solve(
        self,
        at: Address,
        piece: Piece,
        factor: Ref,
        shift: Ref,
        ready: simpy.Event | None,
        issuer: Issuer,
    ) -> Step:
        """Hold a set of resistors: write the factor if it is not there, relax the columns, read
        back.
        """
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
        return (
            yield from self.machine.transfer(
                issuer, at.label("download"), spu.name, gpu.name, answer, bits, count
            )
        )

    def _program(self, spu: Spu) -> Computation:
        written = device.program_roots if self.algorithm.upload == "activations" else device.program
        return Computation(written, input_bits=spu.node.input_bits)

    def _write(
        self,
        at: Address,
        spu: Spu,
        held: ResistorSet,
        key: bytes,
        program: Computation,
        args: tuple[Ref, Ref],
        issuer: Issuer,
    ) -> Steps:
        """Send a factor (or the raw rows) and write the resistors."""
        gpu, job = self.owner[at.job.block], at.job
        bits = job.numbers * spu.bits("input")
        payload = after(*args)
        sent = yield from self.machine.transfer(
            issuer, at.label("upload factor"), gpu.name, spu.name, payload, bits
        )
        label, operands = at.label("program"), (sent, args[1])
        held.system = yield from spu.program(
            issuer,
            label,
            program,
            operands,
            job.load,
            written=job.load.resistors,
            known=self._systems,
        )
        held.key = key
        if "diagonal_shift" in held.system.facts:
            self.shifts[job.block, job.side] = held.system.facts["diagonal_shift"]

    def _columns(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        system_of: tuple[Ref, Ref],
        ready: simpy.Event | None,
        issuer: Issuer,
    ) -> Step:
        """Right-hand sides in (unit columns need not be sent), relaxations in a row, solutions
        out.
        """
        spu, job, algorithm, system = piece.spu, at.job, self.algorithm, held.system
        assert system is not None, "written just now or before"
        if ready is not None:
            parts: Parts = yield ready
            issuer.waited_from(parts.ready_ps, self.machine.context.now_ps())
            columns = after(self.cut(parts.d, piece.first, piece.first + piece.columns), *system_of)
            bits = job.size * piece.columns * spu.bits("bias")
            gpu, label = self.owner[job.block], at.label("upload columns")
            columns = yield from self.machine.transfer(
                issuer, label, gpu.name, spu.name, columns, bits, piece.columns
            )
        else:
            units = Computation(
                device.units, first=piece.first, count=piece.columns, dtype=self.dtype
            )
            shape = self._shape(job.size, piece.columns)
            columns = self.session.backend.evaluate(units, system_of[:1], shape)
        yield from spu.device.acquire(issuer)
        convert = Computation(device.convert, bias_bits=spu.node.bias_bits)
        drive = yield from spu.convert_input(
            issuer, at.label("convert"), convert, (columns,), job.size, piece.columns
        )
        spu.install(system, drive, self.session.backend.evaluate(_REST, (drive,)), job.load)
        relaxation = Computation(
            device.settle,
            tau=algorithm.settle_tau,
            kappa0=algorithm.noise,
            noise_seed=self._noise_seed(at),
            first=piece.first,
        )
        state = yield from spu.settle(
            issuer, at.label("settle"), algorithm.settle_tau, relaxation, piece.columns
        )
        return (yield from self._read(at, spu, state, piece.columns, issuer))

    def _sample(self, at: Address, spu: Spu, held: ResistorSet, issuer: Issuer) -> Step:
        """An SPU at rest, without a drive: let its noise settle, then sample it."""
        algorithm, system, sampling = self.algorithm, held.system, self.algorithm.covariance
        assert system is not None, "written just now or before"
        yield from spu.device.acquire(issuer)
        none = self.session.backend.root(None, "no drive")
        spu.install(system, none, none, at.job.load)
        relaxation = Computation(
            device.sample,
            samples=sampling.samples,
            spacing_tau=sampling.spacing_tau,
            settle_tau=algorithm.settle_tau,
            kappa0=algorithm.noise,
            noise_seed=self._noise_seed(at),
        )
        tau = algorithm.settle_tau + (sampling.samples - 1) * sampling.spacing_tau
        state = yield from spu.settle(issuer, at.label("settle"), tau, relaxation)
        return (yield from self._read(at, spu, state, sampling.samples, issuer))

    def _read(self, at: Address, spu: Spu, state: Ref, count: int, issuer: Issuer) -> Step:
        read = Computation(device.read, output_bits=spu.node.output_bits, dtype=self.dtype)
        shape, size = self._shape(at.job.size, count), at.job.size
        return (
            yield from spu.measure(issuer, at.label("measure"), read, (state,), size, count, shape)
        )

    def _noise_seed(self, at: Address) -> int:
        if self.algorithm.noise == 0:
            return 0
        return self.session.noise_seed(
            "columns", at.step, at.job.block, at.job.side, at.tile, at.stretch
        )

    def cut(self, columns: Ref, first: int, last: int) -> Ref:
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


def after(payload: Ref, *others: Ref) -> Ref:
    """A payload that is sent once other things, which it is used with, are there too."""
    return payload._replace(
        spans=tuple(sorted({span for ref in (payload, *others) for span in ref.spans}))
    )
