"""K-FAC's linear algebra on SPUs (TKFAC, arXiv 2502.08603): linear systems (method 2), or inverses
(method 1).

Every factor and its columns have a place (``placement``), in one or several pieces on as many SPUs
(``work``), each in tiles where the factor is larger than the SPU. The GPU that owns the layer joins
the answers.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from hybridsim.algorithms.kfac import algebra, device
from hybridsim.algorithms.kfac.blocks import Parts, Predictor, Prepared, results
from hybridsim.algorithms.kfac.jobs import Job, Piece, Placement, tile_jobs
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.algorithms.kfac.placement import place
from hybridsim.algorithms.kfac.work import Address, SpuWork, after
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Computation, Ref

Step = Generator[simpy.Event, Any, Ref]
_TRANSPOSE = Computation(algebra.transpose)
_JOIN = Computation(algebra.join_columns)
_RECIPROCAL = Computation(algebra.reciprocal)
_DIVIDE = Computation(algebra.divide)
_APPLY = Computation(algebra.apply_inverses)
_FOLLOWING, _JOIN_TILES = algebra.following_tiles, Computation(algebra.join_tiles)


class Analog:
    """Preconditioning by SPUs. ``jobs``: by block and side, ``owner``: which GPU each block belongs
    to.
    """

    def __init__(
        self, session: Session, jobs: dict[str, dict[str, Job]], owner: dict[str, Gpu]
    ) -> None:
        self.session, self.algorithm, self.machine = session, session.algorithm, session.machine
        self.env = session.machine.context.env
        self.jobs, self.owner = jobs, owner
        self.placement: Placement = {}
        for gpu in session.machine.gpus:
            own = [
                job for name, sides in jobs.items() if owner[name] is gpu for job in sides.values()
            ]
            if own:
                spus, rule = session.machine.spus_of(gpu), self.algorithm.placement
                self.placement |= place(
                    own,
                    spus,
                    rule,
                    Predictor(session.machine, self.algorithm, gpu),
                    tiling=self.algorithm.tiling,
                    chained=self.algorithm.method == "solves",
                )
        form = "roots" if self.algorithm.upload == "activations" else "factors"
        self._shifts = Computation(
            algebra.damping_terms,
            damping=self.algorithm.damping,
            rule=self.algorithm.damping_rule,
            form=form,
        )
        self.work = SpuWork(session, owner)

    def begin_step(self) -> None:
        """Forget what was computed once for several SPUs."""
        self.work.begin_step()

    def rounding(self) -> dict[str, float]:
        """By how much rounding raises the diagonals, on average over the factors that stand in
        SPUs.
        """
        shifts = self.work.shifts.values()
        return {"rounding_shift": sum(shifts) / len(shifts)} if shifts else {}

    def prepare(
        self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer
    ) -> Generator[Any, Any, Prepared]:
        """Damping, and under method 1 the inverses."""
        gpu = self.owner[block.name]
        shifts = yield from gpu.execute(
            issuer, Label("damping", step, block.name), self._shifts, (a, g)
        )
        system = (a, g, shifts.pick(0), shifts.pick(1))
        if self.algorithm.method == "solves":
            return Prepared(step, system, system)
        inverses = yield from self._both(
            self._inverse(step, block, "a", a, shifts.pick(0), issuer.fork()),
            self._inverse(step, block, "g", g, shifts.pick(1), issuer.fork()),
        )
        return Prepared(step, tuple(inverses), system)

    def apply(
        self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer
    ) -> Step:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``; what is known before it may be sent before
        it.
        """
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
    ) -> Step:
        """The transposed solutions of a factor's columns, all pieces side by side."""
        job, gpu = self.jobs[block.name][side], self.owner[block.name]
        running = [
            self.env.process(
                self._piece(Address(step, job), piece, factor, shift, ready, issuer.fork())
            )
            for piece in self.placement[block.name, side]
        ]
        answers = tuple((yield from results(self.env, running)))
        label = Label("transpose", step, block.name)
        return (yield from gpu.execute(issuer, label, _TRANSPOSE, answers, synchronous=True))

    def _piece(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, ready: simpy.Event, issuer: Issuer
    ) -> Step:
        """A stretch of columns on one SPU, in tiles where the factor is too large for it."""
        last = piece.first + piece.columns
        if len(piece.tiles) == 1:
            return (yield from self.work.solve(at, piece, factor, shift, ready, issuer))
        parts: Parts = yield ready
        at = at._replace(stretch=piece.first)
        return (
            yield from self._tiles(
                at, piece, factor, shift, self.work.cut(parts.d, piece.first, last), issuer
            )
        )

    def _tiles(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, columns: Ref, issuer: Issuer
    ) -> Step:
        """Block elimination, one tile after the other (see ``algebra``)."""
        job = tile_jobs(at.job, piece.tiles)[at.tile]._replace(columns=columns.value.shape[1])
        gpu, size = self.owner[job.block], piece.tiles[at.tile]
        tile = at._replace(job=job._replace(size=size))
        if at.tile == len(piece.tiles) - 1:
            whole = piece._replace(first=0, columns=columns.value.shape[1])
            return (
                yield from self.work.solve(tile, whole, factor, shift, self._known(columns), issuer)
            )
        label, first = (
            Label("cut tile", at.step, job.block),
            Computation(algebra.first_tile, size=size),
        )
        pair = yield from gpu.execute(issuer, label, first, (after(factor, shift), columns))
        count = pair.pick(1).value.shape[1]
        whole = piece._replace(first=0, columns=count)
        solved = yield from self.work.solve(
            tile, whole, pair.pick(0), shift, self._known(pair.pick(1)), issuer
        )
        label, following = (
            Label("Schur complement", at.step, job.block),
            Computation(_FOLLOWING, size=size),
        )
        rest = yield from gpu.execute(
            issuer, label, following, (factor, columns, solved), synchronous=True
        )
        below = at._replace(tile=at.tile + 1)
        answer = yield from self._tiles(below, piece, rest.pick(0), shift, rest.pick(1), issuer)
        label = Label("join tiles", at.step, job.block)
        return (
            yield from gpu.execute(issuer, label, _JOIN_TILES, (solved, answer), synchronous=True)
        )

    def _known(self, columns: Ref) -> simpy.Event:
        return self.env.event().succeed(Parts(None, None, columns, int(self.env.now)))

    # ---------------------------------------------------------------- method 1

    def _inverse(
        self, step: int, block: Block, side: str, factor: Ref, shift: Ref, issuer: Issuer
    ) -> Step:
        """A damped factor's inverse by unit columns, or from the covariance of the noise."""
        gpu, label = self.owner[block.name], Label(f"inverse {side}", step, block.name)
        if side == "a" and block.diagonal:
            return (yield from gpu.execute(issuer, label, _RECIPROCAL, (factor, shift)))
        at, pieces = Address(step, self.jobs[block.name][side]), self.placement[block.name, side]
        running = [
            self.env.process(self._inverse_piece(at, piece, factor, shift, issuer.fork()))
            for piece in pieces
        ]
        answers = tuple((yield from results(self.env, running)))
        if self.algorithm.method == "noise":
            covariance = Computation(algebra.covariance, kappa0=self.algorithm.noise)
            return (yield from gpu.execute(issuer, label, covariance, answers, synchronous=True))
        if len(answers) == 1:
            return answers[0]
        return (yield from gpu.execute(issuer, label, _JOIN, answers, synchronous=True))

    def _inverse_piece(
        self, at: Address, piece: Piece, factor: Ref, shift: Ref, issuer: Issuer
    ) -> Step:
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

    def _both(self, *steps: Step) -> Generator[Any, Any, list[Ref]]:
        return (yield from results(self.env, [self.env.process(step) for step in steps]))
