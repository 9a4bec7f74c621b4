"""K-FAC's linear algebra on SPUs (TKFAC, arXiv 2502.08603): linear systems (method 2), or inverses
(method 1).

Every factor and its columns have a place (``placement``), in one or several pieces on as many SPUs
(``work``), each in tiles where the factor is larger than the SPU. The GPU that owns the layer joins
the answers.
"""

from __future__ import annotations

from typing import Any

import simpy

from hybridsim.algorithms.base import Columns, Process
from hybridsim.algorithms.kfac import algebra, device
from hybridsim.algorithms.kfac.blocks import Parts, Prepared, results
from hybridsim.algorithms.kfac.jobs import Job, Piece, Placement, columns_of, tile_jobs
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.algorithms.kfac.packing import Packer
from hybridsim.algorithms.kfac.placement import place
from hybridsim.algorithms.kfac.prediction import Predictor
from hybridsim.algorithms.kfac.solving import Address
from hybridsim.algorithms.kfac.work import SpuWork, after
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.settings.kfac import Kfac as Settings

_TRANSPOSE = Computation(algebra.transpose)
_JOIN = Computation(algebra.join_columns)
_RECIPROCAL = Computation(algebra.reciprocal)
_DIVIDE = Computation(algebra.divide)
_APPLY = Computation(algebra.apply_inverses)
_FOLLOWING, _JOIN_TILES = algebra.following_tiles, Computation(algebra.join_tiles)


class Thermodynamic:
    """Preconditioning by SPUs. ``jobs``: by block and side, ``owner``: whose each block is."""

    def __init__(
        self, session: Session[Settings], jobs: dict[str, dict[str, Job]], owner: dict[str, Gpu]
    ) -> None:
        self.session, self.settings, self.machine = session, session.settings, session.machine
        self.env, self.backend = session.machine.context.env, session.backend
        self.jobs, self.owner = jobs, owner
        settings = self.settings
        columns = columns_of(jobs)
        self.placement: Placement = {}
        for gpu in session.machine.gpus:
            own = [
                job for name, sides in jobs.items() if owner[name] is gpu for job in sides.values()
            ]
            if own:
                self.placement |= place(
                    own,
                    session.machine.spus_of(gpu),
                    settings.placement,
                    Predictor(session.machine, settings, gpu, columns),
                    tiling=settings.tiling,
                    chained=settings.method == "solves",
                )
        self._shifts = Computation(
            algebra.damping_terms,
            damping=settings.damping,
            rule=settings.damping_rule,
            form="roots" if settings.upload == "activations" else "factors",
        )
        self.work = SpuWork(session, owner, columns)
        self.packer = Packer(session, owner, self.placement)

    @property
    def plan(self) -> object:
        """Which SPU solves what."""
        return {
            place: tuple((p.spu.name, p.first, p.columns, p.tiles) for p in pieces)
            for place, pieces in self.placement.items()
        }

    def begin_step(self) -> None:
        """Forget what was computed once for several SPUs."""
        self.work.begin_step()

    def columns(self) -> Columns:
        """By how much rounding raises the diagonals, on average over the factors that stand in
        SPUs.
        """
        shifts = self.work.shifts.values()
        return {"rounding_shift": sum(shifts) / len(shifts)} if shifts else {}

    def prepare(self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer) -> Process[Prepared]:
        """Damping, packing for the SPUs, and under method 1 the inverses."""
        gpu, jobs = self.owner[block.name], self.jobs[block.name].values()
        label = Label("damping", step, block.name)
        # queued at the same time, neither needs the other
        shifts, (a, g) = yield from self._both(
            gpu.execute(issuer.fork(), label, self._shifts, (a, g)),
            self.packer.factors(step, jobs, (a, g), issuer.fork()),
        )
        system = (a, g, self.backend.pick(shifts, 0), self.backend.pick(shifts, 1))
        if self.settings.method == "solves":
            return Prepared(step, system, system)
        inverses = yield from self._both(
            self._inverse(step, block, "a", a, self.backend.pick(shifts, 0), issuer.fork()),
            self._inverse(step, block, "g", g, self.backend.pick(shifts, 1), issuer.fork()),
        )
        return Prepared(step, tuple(inverses), system)

    def apply(
        self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer
    ) -> Process[Ref]:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``; what is known before it may be sent before
        it.
        """
        gpu = self.owner[block.name]
        if self.settings.method != "solves":
            parts: Parts = yield ready
            label, args = Label("precondition", step, block.name), (*prepared.refs, parts.d)
            return (yield from gpu.execute(issuer, label, _APPLY, args, synchronous=True))
        a, g, shift_a, shift_g = prepared.refs
        rows = yield from self._solve(step, block, "g", g, shift_g, ready, issuer)
        if block.diagonal:
            label = Label("divide", step, block.name)
            rows = yield from gpu.execute(issuer, label, _DIVIDE, (rows, a, shift_a))
            return (
                yield from gpu.execute(
                    issuer, Label("transpose", step, block.name), _TRANSPOSE, (rows,)
                )
            )
        return (yield from self._solve(step, block, "a", a, shift_a, self._known(rows), issuer))

    # ---------------------------------------------------------------- method 2

    def _solve(
        self,
        step: int,
        block: Block,
        side: str,
        factor: Ref,
        shift: Ref,
        ready: simpy.Event,
        issuer: Issuer,
    ) -> Process[Ref]:
        """The transposed solutions of a factor's columns, all pieces side by side."""
        job, gpu = self.jobs[block.name][side], self.owner[block.name]
        packed = self.packer.columns(step, job, ready, after(factor, shift), issuer.fork())
        running = [
            self.env.process(
                self._piece(Address(step, job), piece, factor, shift, given, issuer.fork())
            )
            for piece in self.placement[block.name, side]
            for given in [packed if len(piece.tiles) == 1 else ready]
        ]
        answers = tuple((yield from results(self.env, running)))
        label = Label("transpose", step, block.name)
        return (yield from gpu.execute(issuer, label, _TRANSPOSE, answers, synchronous=True))

    def _piece(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, ready: simpy.Event, issuer: Issuer
    ) -> Process[Ref]:
        """A stretch of columns on one SPU, in tiles where the factor is too large for it."""
        last = piece.first + piece.columns
        if len(piece.tiles) == 1:
            return (yield from self.work.solve(at, piece, factor, shift, ready, issuer))
        parts: Parts = yield ready
        at = at._replace(stretch=piece.first)
        return (
            yield from self._tiles(
                at, piece, factor, shift, self.backend.columns(parts.d, piece.first, last), issuer
            )
        )

    def _tiles(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, columns: Ref, issuer: Issuer
    ) -> Process[Ref]:
        """Block elimination, one tile after the other (see ``algebra``)."""
        job = tile_jobs(at.job, piece.tiles)[at.tile]._replace(columns=columns.value.shape[1])
        gpu, size = self.owner[job.block], piece.tiles[at.tile]
        tile = at._replace(job=job._replace(size=size))
        if at.tile == len(piece.tiles) - 1:
            whole = piece._replace(first=0, columns=columns.value.shape[1])
            return (yield from self._solve_tile(tile, whole, (factor, columns), shift, issuer))
        label, first = (
            Label("cut tile", at.step, job.block),
            Computation(algebra.first_tile, size=size),
        )
        pair = yield from gpu.execute(issuer, label, first, (after(factor, shift), columns))
        count = self.backend.pick(pair, 1).value.shape[1]
        whole = piece._replace(first=0, columns=count)
        cut = (self.backend.pick(pair, 0), self.backend.pick(pair, 1))
        solved = yield from self._solve_tile(tile, whole, cut, shift, issuer)
        label, following = (
            Label("Schur complement", at.step, job.block),
            Computation(_FOLLOWING, size=size),
        )
        rest = yield from gpu.execute(
            issuer, label, following, (factor, columns, solved), synchronous=True
        )
        below = at._replace(tile=at.tile + 1)
        answer = yield from self._tiles(
            below, piece, self.backend.pick(rest, 0), shift, self.backend.pick(rest, 1), issuer
        )
        label = Label("join tiles", at.step, job.block)
        return (
            yield from gpu.execute(issuer, label, _JOIN_TILES, (solved, answer), synchronous=True)
        )

    def _solve_tile(
        self, at: Address, piece: Piece, tile: tuple[Ref, Ref], shift: Ref, issuer: Issuer
    ) -> Process[Ref]:
        """Pack a tile (matrix, columns), and solve it on its SPU."""
        job = at.job._replace(columns=piece.columns)
        matrix, columns = yield from self.packer.tile(at.step, job, piece, tile, issuer)
        return (yield from self.work.solve(at, piece, matrix, shift, self._known(columns), issuer))

    def _known(self, columns: Ref) -> simpy.Event:
        return self.env.event().succeed(Parts(None, None, columns, self.session.now_ps()))

    # ---------------------------------------------------------------- method 1

    def _inverse(
        self, step: int, block: Block, side: str, factor: Ref, shift: Ref, issuer: Issuer
    ) -> Process[Ref]:
        """A damped factor's inverse by unit columns, or from the covariance of the noise."""
        gpu, label = self.owner[block.name], Label("inverse", step, block.name, side)
        if side == "a" and block.diagonal:
            return (yield from gpu.execute(issuer, label, _RECIPROCAL, (factor, shift)))
        at, pieces = Address(step, self.jobs[block.name][side]), self.placement[block.name, side]
        running = [
            self.env.process(self._inverse_piece(at, piece, factor, shift, issuer.fork()))
            for piece in pieces
        ]
        answers = tuple((yield from results(self.env, running)))
        if self.settings.method == "noise":
            covariance = Computation(algebra.covariance, kappa0=self.settings.noise)
            return (yield from gpu.execute(issuer, label, covariance, answers, synchronous=True))
        if len(answers) == 1:
            found: Ref = answers[0]
            return found
        return (yield from gpu.execute(issuer, label, _JOIN, answers, synchronous=True))

    def _inverse_piece(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, issuer: Issuer
    ) -> Process[Ref]:
        if len(piece.tiles) == 1:
            return (yield from self.work.solve(at, piece, factor, shift, None, issuer))
        units = Computation(
            device.units, first=piece.first, count=piece.columns, dtype=self.work.dtype
        )
        gpu, label = self.owner[at.job.block], at.label("unit columns")
        columns = yield from gpu.execute(issuer, label, units, (factor,))
        return (
            yield from self._tiles(
                at._replace(stretch=piece.first), piece, factor, shift, columns, issuer
            )
        )

    def _both(self, *steps: Process[Any]) -> Process[list[Any]]:  # Any: what each step gives
        return (yield from results(self.env, [self.env.process(step) for step in steps]))
