"""A piece of K-FAC's work on one SPU: a set of resistors, a factor, its columns or samples, the
answers.

A piece takes a set of resistors (two with double buffering: one is written while the other
settles), sends the factor unless it still stands there, then takes the integrators for its columns:
DAC, relaxation, ADC. The answers go back to the GPU that owns the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import simpy
import torch

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.kfac import built, device
from hybridsim.algorithms.kfac.blocks import Parts
from hybridsim.algorithms.kfac.jobs import Job, Piece
from hybridsim.algorithms.kfac.solving import Address, Solving
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer
from hybridsim.hardware.resistor_sets import ResistorSet
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.settings.kfac import Kfac as Settings

Solve = tuple[str, tuple[object, ...], int]
"""An SPU, an address without its step, a first column."""


class _Converters(NamedTuple):
    """What an SPU computes at its ends."""

    program: Computation
    convert: Computation
    read: Computation


class SpuWork(Solving):
    """Pieces of work on SPUs.

    ``owner``: the GPU that sends and receives, for each block; ``columns``: how many right-hand
    sides a step has, of all blocks together. ``shifts``: by how much rounding
    last raised the diagonal of each factor, on average over its entries: rounding acts as damping.
    """

    def __init__(self, session: Session[Settings], owner: dict[str, Gpu], columns: int) -> None:
        super().__init__(session, owner, columns)
        self.dtype = str(session.theta.value.dtype).removeprefix("torch.")
        self.shifts: dict[tuple[str, str], float] = {}
        self._systems: dict[bytes, Ref] = {}
        self._converters = {spu.name: self._computations(spu) for spu in self.machine.spus}
        self._relaxations: dict[tuple[str, int, float], Computation] = {}
        self._shapes: dict[tuple[int, int], torch.Tensor] = {}
        # what ranges are chosen from: by SPU and solve, the peak of the last one
        self._peaks: dict[Solve, Ref] = {}
        # the state of discharged capacitors, from which every relaxation starts; and no drive
        self._nothing = session.backend.root(None, "nothing")

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
    ) -> Process[Ref]:
        """Hold a set of resistors: write the factor if it is not there, relax the columns, read
        back.
        """
        answers = []
        for programme in range(self.settings.programmes):
            here = at._replace(programme=programme) if programme else at
            if programme:
                factor = yield from self._repacked(here, piece, factor, issuer)
            answers.append((yield from self._one(here, piece, factor, shift, ready, issuer)))
        return (yield from self._average(at, answers, issuer))

    def _one(
        self,
        at: Address,
        piece: Piece,
        factor: Ref,
        shift: Ref,
        ready: simpy.Event | None,
        issuer: Issuer,
    ) -> Process[Ref]:
        """The answer of one programme."""
        spu, noise = piece.spu, self.settings.method == "noise"
        program = self._rounded(at, self._converters[spu.name].program)
        key = self.session.backend.key(program, (factor, shift))
        count = self.settings.covariance.samples if noise else piece.columns
        with (yield from spu.sets.hold(issuer, key)) as held:
            if held.key != key:
                yield from self._write(at, spu, held, key, program, (factor, shift), issuer)
            if noise:
                answer = yield from self._sample(at, spu, held, issuer)
            else:
                columns = yield from self._columns(at, piece, (factor, shift), ready, issuer)
                if not self.settings.single_reading:
                    system = (factor, shift)
                    return (yield from self._solved(at, piece, held, system, columns, issuer))
                (tau,) = self._times_tau(at, spu, shift)
                answer = yield from self._relaxed(at, piece, held, columns, tau, issuer)
        return (yield from self._download(at, spu, answer, count, issuer))

    def _download(
        self, at: Address, spu: Spu, answer: Ref, count: int, issuer: Issuer
    ) -> Process[Ref]:
        gpu, label = self.owner[at.job.block], at.label("download")
        bits = at.job.size * count * spu.bits("output")
        return (
            yield from self.machine.transfer(issuer, label, spu.name, gpu.name, answer, bits, count)
        )

    def _computations(self, spu: Spu) -> _Converters:
        """Made once: the token of a computation takes as long as an event of the simulation."""
        node, roots = spu.node, self.settings.upload == "activations"
        if self._real(spu):
            drawn = {"device": spu.device}
            zero = {"auto_zero": self.settings.auto_zero}
            network = {} if roots else {"circuit": node.circuit, "dual_rail": node.dual_rail}
            built_by = built.program_roots if roots else built.program
            return _Converters(
                Computation(built_by, input_bits=node.input_bits, **drawn, **network),
                Computation(built.convert, bias_bits=node.bias_bits, **drawn, **zero),
                Computation(
                    built.read, output_bits=node.output_bits, dtype=self.dtype, **drawn, **zero
                ),
            )
        written = device.program_roots if roots else device.program
        return _Converters(
            Computation(written, input_bits=node.input_bits),
            Computation(device.convert, bias_bits=node.bias_bits),
            Computation(device.read, output_bits=node.output_bits, dtype=self.dtype),
        )

    def _write(
        self,
        at: Address,
        spu: Spu,
        held: ResistorSet,
        key: bytes,
        program: Computation,
        args: tuple[Ref, Ref],
        issuer: Issuer,
    ) -> Process[None]:
        """Send a factor (or the raw rows) and write the resistors."""
        gpu, load = self.owner[at.job.block], at.job.load
        bits = sum(array.sent for array in load.arrays) * spu.bits("input")
        payload = after(*args)
        sent = yield from self.machine.transfer(
            issuer, at.label("upload factor"), gpu.name, spu.name, payload, bits
        )
        label, operands = at.label("program"), (sent, args[1])
        held.system = yield from spu.program(
            issuer, label, program, operands, load, known=self._systems
        )
        held.key = key
        if "diagonal_shift" in held.system.facts:
            self.shifts[at.job.block, at.job.side] = held.system.facts["diagonal_shift"]

    def _columns(
        self,
        at: Address,
        piece: Piece,
        system_of: tuple[Ref, Ref],
        ready: simpy.Event | None,
        issuer: Issuer,
    ) -> Process[Ref]:
        """Right-hand sides, at the SPU."""
        if ready is None:
            return self._units(at.job, piece, system_of[0])
        return (yield from self._send(at, piece, system_of, ready, issuer))

    def _relaxed(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        columns: Ref,
        tau: float,
        issuer: Issuer,
    ) -> Process[Ref]:
        """Right-hand sides in, relaxations in a row, solutions out."""
        spu, system, count, first = piece.spu, held.system, piece.columns, piece.first
        solved = count + self.settings.auto_zero
        assert system is not None, "written just now or before"
        convert = self._rounded(at, self._converters[spu.name].convert)
        relaxation, solve = self._relaxation(at, spu, first, tau), self._solve_of(at, spu, first)
        with (yield from spu.integrators.hold(issuer)):
            for past in self._ranges(spu, solve):
                drive = yield from spu.convert_input(
                    issuer, at.label("convert"), convert, (columns, *past()), at.job.size, solved
                )
                label, size = at.label("discharge"), at.job.size
                drive = yield from spu.preset(issuer, label, drive, size, solved)
                spu.install(system, drive, self._nothing, at.job.load)
                state = yield from spu.settle(issuer, at.label("settle"), tau, relaxation, solved)
                self._remember(spu, solve, state)
            return (yield from self._read(at, spu, state, count, solved, issuer))

    def _ranges(self, spu: Spu, solve: Solve) -> list[Callable[[], tuple[Ref, ...]]]:
        """For each pass of a solve, where it finds what its ranges are chosen from.

        One pass; two where nothing is known of the factor on this SPU yet and ranges are chosen
        from the past: the first finds the range, and is paid as any.
        """
        if not self._real(spu):
            return [tuple]

        def past() -> tuple[Ref, ...]:
            return (self._peaks.get(solve, self._nothing),)

        return [past] if solve in self._peaks or spu.device.headroom == 0 else [past, past]

    def _remember(self, spu: Spu, solve: Solve, state: Ref) -> None:
        if self._real(spu) and spu.device.headroom > 0:
            peak = self.session.backend.pick(state, "peak")
            self._peaks[solve] = peak

    @staticmethod
    def _solve_of(at: Address, spu: Spu, first: int) -> Solve:
        """A solve as it comes again in every step."""
        return spu.name, at[1:], first

    def _relaxation(self, at: Address, spu: Spu, first: int, tau: float) -> Computation:
        """How columns from ``first`` on settle; but for its noise alike in every step and block."""
        settings, alike = self.settings, (spu.name, first, tau)
        if alike not in self._relaxations:
            run = {"tau": tau, "kappa0": settings.noise, "noise_seed": 0, "first": first}
            self._relaxations[alike] = (
                Computation(built.settle, **run, device=spu.device, auto_zero=settings.auto_zero)
                if self._real(spu)
                else Computation(device.settle, **run)
            )
        return self._relaxations[alike].but(noise_seed=self._noise_seed(at, spu))

    def _send(
        self,
        at: Address,
        piece: Piece,
        system_of: tuple[Ref, Ref],
        ready: simpy.Event,
        issuer: Issuer,
    ) -> Process[Ref]:
        """The piece's columns of the gradient, once it is ``ready``, to the SPU."""
        parts: Parts = yield ready
        issuer.waited_from(parts.ready_ps, self.session.now_ps())
        last, count, spu = piece.first + piece.columns, piece.columns, piece.spu
        columns = after(self.session.backend.columns(parts.d, piece.first, last), *system_of)
        gpu, label = self.owner[at.job.block], at.label("upload columns")
        bits = at.job.size * count * spu.bits("bias")
        return (
            yield from self.machine.transfer(
                issuer, label, gpu.name, spu.name, columns, bits, count
            )
        )

    def _units(self, job: Job, piece: Piece, factor: Ref) -> Ref:
        """Unit columns: they need not be sent."""
        units = Computation(device.units, first=piece.first, count=piece.columns, dtype=self.dtype)
        shape = self._shape(job.size, piece.columns)
        return self.session.backend.evaluate(units, (factor,), shape)

    def _sample(self, at: Address, spu: Spu, held: ResistorSet, issuer: Issuer) -> Process[Ref]:
        """An SPU at rest, without a drive: let its noise settle, then sample it."""
        settings, system, sampling = self.settings, held.system, self.settings.covariance
        assert system is not None, "written just now or before"
        run = {
            "samples": sampling.samples,
            "spacing_tau": sampling.spacing_tau,
            "settle_tau": settings.settle_tau,
            "kappa0": settings.noise,
            "noise_seed": self._noise_seed(at, spu),
        }
        relaxation = (
            Computation(built.sample, **run, device=spu.device)
            if self._real(spu)
            else Computation(device.sample, **run)
        )
        tau = settings.settle_tau + (sampling.samples - 1) * sampling.spacing_tau
        solve = self._solve_of(at, spu, 0)
        with (yield from spu.integrators.hold(issuer)):
            for past in self._ranges(spu, solve):
                (drive,) = past() or (self._nothing,)
                label, size = at.label("discharge"), at.job.size
                nothing = yield from spu.preset(issuer, label, self._nothing, size)
                spu.install(system, drive, nothing, at.job.load)
                state = yield from spu.settle(issuer, at.label("settle"), tau, relaxation)
                self._remember(spu, solve, state)
            number = sampling.samples
            return (yield from self._read(at, spu, state, number, number, issuer))

    def _read(
        self, at: Address, spu: Spu, state: Ref, count: int, read_out: int, issuer: Issuer
    ) -> Process[Ref]:
        """``count`` answers from ``read_out`` columns."""
        read = self._converters[spu.name].read
        shape, size = self._shape(at.job.size, count), at.job.size
        return (
            yield from spu.measure(
                issuer, at.label("measure"), read, (state,), size, read_out, shape
            )
        )

    def _noise_seed(self, at: Address, spu: Spu) -> int:
        if self.settings.noise == 0 and spu.device.thermal == 0:
            return 0
        return self.session.noise_seed("columns", *at.place, *at.solve)

    def _real(self, spu: Spu) -> bool:
        """Whether anything of the device is not ideal, or is asked of it that ideal ones do not do:
        its load current, a circuit without summing amplifiers, a column of zeros.
        """
        node = spu.node
        loaded = "load_current" in node.imperfections
        special = node.circuit != "summing" or self.settings.auto_zero
        return not spu.device.ideal or loaded or special

    def _shape(self, size: int, count: int) -> torch.Tensor:
        """What stands for an answer where nothing is computed."""
        if (size, count) not in self._shapes:
            empty = torch.empty(size, count, dtype=getattr(torch, self.dtype), device="meta")
            self._shapes[size, count] = self.session.backend.shapes.meta(empty)
        return self._shapes[size, count]


def after(payload: Ref, *others: Ref) -> Ref:
    """A payload that is sent once other things, which it is used with, are there too."""
    spans = set(payload.spans).union(*[ref.spans for ref in others])
    return payload.at(*sorted(spans))
