"""How columns are solved on an SPU of K-FAC: settling by a rule, iterative refinement, randomly
rounded programmes.

The columns of a piece share the integrators one after the other. A longer settle of them therefore
starts anew, on the same resistors: under ``settling: agreement`` all columns are driven, relaxed
and read again for twice as long, until the GPU finds two of their readings in agreement. Under
``settling: bits`` the slowest rate is the factor's own damping, which the resistors are given
beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from torch import Tensor

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.group import MEAN
from hybridsim.algorithms.kfac.jobs import Job, Piece
from hybridsim.algorithms.refinement import Shrinking, correct, scaled
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.settling import agree, compare, cut_bits, readings_tau
from hybridsim.circuits.load import rectangle
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.resistor_sets import ResistorSet
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings.kfac import Kfac as Settings

_COMPARE = Computation(compare)
_CORRECT = Computation(correct)


class Address(NamedTuple):
    """Which solve this is: of which step and block, G or A, which tile, and of a stretch in tiles
    its first column; which programme, correction and settle of it.
    """

    step: int
    job: Job
    tile: int = 0
    stretch: int = 0
    programme: int = 0
    correction: int = 0
    settle: int = 0

    def label(self, kind: str) -> Label:
        """The operation's label."""
        return Label(kind, self.step, self.job.block, self.job.side)

    @property
    def place(self) -> tuple[int | str, ...]:
        """The part of the address that every solve has."""
        return self.step, self.job.block, self.job.side, self.tile, self.stretch

    @property
    def solve(self) -> tuple[int, ...]:
        """The part that the first of several has not."""
        found = (self.programme, self.correction, self.settle)
        return found if any(found) else ()


def slowest_rate(shift: Tensor) -> Outcome:
    """A damped factor relaxes at least as fast as its damping, 0-dim, in 1/RC."""
    return Outcome(None, {"slowest": shift})


def residual(
    factor: Tensor,
    shift: Tensor,
    columns: Tensor,
    solution: Tensor,
    *,
    form: Literal["roots", "factors"],
) -> Outcome:
    """B - (A + shift I) X, scaled column by column: see ``refinement.scaled``.

    Args:
        factor: A (n, n), or X with A = XᵀX (``roots``).
        shift: 0-dim.
        columns: B (n, k).
        solution: X (n, k).
        form: what the factor is.
    """
    product = factor.T @ (factor @ solution) if form == "roots" else factor @ solution
    return scaled(columns - product - shift * solution, columns)


_SLOWEST = Computation(slowest_rate)


class Solving(ABC):
    """Columns on SPUs, in terms of what a piece of work knows to do once.

    Attributes:
        session: what it works with.
        owner: the GPU that sends and receives, for each block.
    """

    def __init__(self, session: Session[Settings], owner: dict[str, Gpu], columns: int) -> None:
        self.session, self.settings, self.machine = session, session.settings, session.machine
        self.owner, self._solves = owner, columns * session.settings.solves_of_each
        form = "roots" if self.settings.upload == "activations" else "factors"
        self._residual = Computation(residual, form=form)

    @abstractmethod
    def _relaxed(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        columns: Ref,
        tau: float,
        issuer: Issuer,
    ) -> Process[Ref]:
        """Drive, relax and read columns that are at the SPU."""

    @abstractmethod
    def _download(
        self, at: Address, spu: Spu, answer: Ref, count: int, issuer: Issuer
    ) -> Process[Ref]:
        """Send what was read to the GPU."""

    # ---------------------------------------------------------------- settling

    def _times_tau(self, at: Address, spu: Spu, shift: Ref) -> list[float]:
        """Times of the readings of a solve, each from its start."""
        settings, slowest = self.settings, None
        if settings.settling.rule == "bits":
            rate = self.session.backend.evaluate(_SLOWEST, (shift,), exact=True)
            slowest = rate.facts.get("slowest")
        bits = cut_bits(settings, settings.settle_tau, slowest)
        if bits is not None:
            note = "bits of the slowest mode, where settle cuts its time short"
            self._event("short settle", at, spu, bits, note)
        return readings_tau(settings, settings.settle_tau, slowest, self._solves)

    def _settled(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        shift: Ref,
        columns: Ref,
        issuer: Issuer,
    ) -> Process[Ref]:
        """Relax as long as the rule says; the last reading, on the GPU."""
        spu = piece.spu
        first, *others = self._times_tau(at, spu, shift)
        answer = yield from self._reading(at, piece, held, columns, first, issuer)
        apart: float | None = None
        for number, tau in enumerate(others, start=1):
            here = at._replace(settle=number)
            reading = yield from self._reading(here, piece, held, columns, tau, issuer)
            args = (answer, reading)
            compared = yield from self._compute(at, "compare readings", _COMPARE, args, issuer)
            answer, apart = reading, compared.facts.get("disagreement")
            if agree(self.settings, apart):
                return answer
        if apart is not None:
            note = "difference of the last two readings, over the last one"
            self._event("no agreement", at, spu, apart, note)
        return answer

    def _reading(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        columns: Ref,
        tau: float,
        issuer: Issuer,
    ) -> Process[Ref]:
        """A settle and its reading, on the GPU."""
        state = yield from self._relaxed(at, piece, held, columns, tau, issuer)
        return (yield from self._download(at, piece.spu, state, piece.columns, issuer))

    # ---------------------------------------------------------------- refinement

    def _solved(
        self,
        at: Address,
        piece: Piece,
        held: ResistorSet,
        system: tuple[Ref, Ref],
        columns: Ref,
        issuer: Issuer,
    ) -> Process[Ref]:
        """Settle, then refine as long as residuals shrink; the resistors are kept meanwhile."""
        pick, watch = self.session.backend.pick, Shrinking(self.session.task.dtype)
        answer = yield from self._settled(at, piece, held, system[1], columns, issuer)
        before = answer
        for correction in range(1, self.settings.refinement + 1):
            here, args = at._replace(correction=correction), (*system, columns, answer)
            left = yield from self._compute(at, "residual", self._residual, args, issuer)
            if not watch.shrinks(left):
                if watch.note:
                    self._event("refinement ends", at, piece.spu, watch.left, watch.note)
                return before
            before = answer
            sent = yield from self._send_residual(at, piece, pick(left, 0), issuer)
            found = yield from self._settled(here, piece, held, system[1], sent, issuer)
            added = (answer, found, pick(left, 1))
            answer = yield from self._compute(at, "add correction", _CORRECT, added, issuer)
        return answer

    def _send_residual(
        self, at: Address, piece: Piece, columns: Ref, issuer: Issuer
    ) -> Process[Ref]:
        """Pack columns and send them to the SPU."""
        gpu, spu, entries = self.owner[at.job.block], piece.spu, at.job.size * piece.columns
        bits, element_bytes = spu.bits("bias"), self.session.theta.value.element_size()
        sending = [(rectangle("columns", entries), bits)]
        (packed,) = yield from gpu.pack(
            issuer, at.label("pack residual"), (columns,), sending, element_bytes
        )
        label, count = at.label("upload residual"), piece.columns
        return (
            yield from self.machine.transfer(
                issuer, label, gpu.name, spu.name, packed, entries * bits, count
            )
        )

    # ---------------------------------------------------------------- programmes

    def _rounded(self, at: Address, computation: Computation) -> Computation:
        """A computation that rounds, as this programme does."""
        if self.settings.rounding == "nearest":
            return computation
        end, solve = computation.function.__name__, (at.programme, at.correction)
        seed = self.session.noise_seed("rounding", end, *at.place, *solve)
        return computation.but(rounding_seed=seed)

    def _repacked(self, at: Address, piece: Piece, factor: Ref, issuer: Issuer) -> Process[Ref]:
        """Round and pack a factor and its columns once more, for a further programme."""
        spu, columns = piece.spu, rectangle("columns", at.job.size * piece.columns)
        sending = [(array, spu.bits("input")) for array in at.job.load.arrays]
        if self.settings.method == "solves":
            sending.append((columns, spu.bits("bias")))
        (packed,) = yield from self.owner[at.job.block].pack(
            issuer, at.label("pack programme"), (factor,), sending,
            self.session.theta.value.element_size(),
        )  # fmt: skip
        return packed

    def _average(self, at: Address, answers: list[Ref], issuer: Issuer) -> Process[Ref]:
        """The mean of the answers of all programmes."""
        if len(answers) == 1:
            return answers[0]
        return (yield from self._compute(at, "average answers", MEAN, tuple(answers), issuer))

    # ---------------------------------------------------------------- operations

    def _compute(
        self,
        at: Address,
        kind: str,
        computation: Computation,
        args: tuple[Ref, ...],
        issuer: Issuer,
    ) -> Process[Ref]:
        """On the GPU, of what has come from an SPU."""
        gpu, label = self.owner[at.job.block], at.label(kind)
        return (yield from gpu.execute(issuer, label, computation, args, synchronous=True))

    def _event(self, kind: str, at: Address, spu: Spu, value: float, note: str) -> None:
        self.session.trace.event(
            kind, spu.name, at.step, layer=at.job.block, value=value, note=note
        )
