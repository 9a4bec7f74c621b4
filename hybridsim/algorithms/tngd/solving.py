"""How a synchronous step's system is solved: settling by a rule, iterative refinement, randomly
rounded programmes, an ensemble of SPUs, calibration of offsets.

What the SPUs that hold one system do of it, in terms of ``phases``: give, settle, read. Everything
is priced as it happens; what the GPUs decide by (two readings agree, a residual has grown) they
compute first, from readings that were sent to them: with several GPUs each of them, alike.

Iterative refinement: x ← x + SPU(g - A x), A x by one product on the GPU (``refinement``).

Averaging over randomly rounded programmes takes the error of rounding from ε to ε/√K + O(ε²) (arXiv
2401.16231).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hybridsim.algorithms.base import Columns, Process
from hybridsim.algorithms.group import MEAN, Refs
from hybridsim.algorithms.natural_gradient import products
from hybridsim.algorithms.natural_gradient.linearization import GRADIENT, Curvature
from hybridsim.algorithms.refinement import Shrinking, correct, scaled
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.settling import agree, compare, cut_bits, readings_tau
from hybridsim.algorithms.tngd import device
from hybridsim.algorithms.tngd.phases import Phases
from hybridsim.algorithms.tngd.transport import Packed
from hybridsim.hardware import collective
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings.tngd import Tngd as Settings
from hybridsim.tasks.task import Batch, Task

_COMPARE = Computation(compare)
_CORRECT = Computation(correct)
_REST = Computation(device.rest)


def residual(
    task: Task,
    theta: Tensor,
    batch: Batch,
    damping: Tensor,
    gradient: Tensor,
    solution: Tensor,
    *,
    curvature: Curvature,
    fixed: bool = False,
) -> Outcome:
    """What x leaves, g - (A + λI) x (N,), scaled (``refinement.scaled``).

    A residual may lie where A is small, and its answer reach max |r|/λ. Where the device's ranges
    are ``fixed`` by what it has seen, it is scaled to no more than λ max |x|, so that its answer
    stays within that of x.
    """
    left = products.residual(task, theta, batch, damping, gradient, solution, curvature=curvature)
    return scaled(left, gradient, damping * solution.abs().amax() if fixed else None)


def offset(forward: Tensor, backward: Tensor) -> Outcome:
    """What offsets make of answers (N,): (x + y)/2 for the answers x and y to g and -g.

    Returns:
        Outcome(o, {"offset"}): ‖o‖/‖x - o‖.
    """
    found, apart = (forward + backward) / 2, (forward - backward) / 2
    size = torch.linalg.vector_norm(apart)
    share = torch.where(size == 0, 0.0, torch.linalg.vector_norm(found) / size)
    return Outcome(found, {"offset": share})


def subtract(answer: Tensor, offset: Tensor) -> Outcome:
    """An answer without what offsets make of it."""
    return Outcome(answer - offset)


_OFFSET = Computation(offset)
_SUBTRACT = Computation(subtract)


class Solving(Phases):
    """Solves of the SPUs that hold one system; ``place`` numbers them in an ensemble."""

    def __init__(self, session: Session[Settings], place: int = 0) -> None:
        super().__init__(session, place)
        settings, theta = self.settings, session.theta.value
        fixed = self.spu.device.headroom > 0
        self._residual = Computation(residual, curvature=settings.curvature, fixed=fixed)
        damping = torch.tensor(settings.damping, dtype=theta.dtype, device=theta.device)
        self._damping = session.backend.root(damping, "damping", settings.damping)
        self._columns: Columns = {}  # of the step's line of the learning curve
        self._offset: Refs | None = None  # as last calibrated

    # ---------------------------------------------------------------- a step

    def _solved(self, step: int, members: Sequence[Solving]) -> Process[Refs]:
        """The answer of a step on the GPUs: of one system, or the mean over an ensemble."""
        self._columns, packed = {}, None
        if len(members) > 1 and self._alike(members):
            packed = yield from self._pack(step)
        for member in members[1:]:
            member.asked, member.theta = self.asked, self.theta
            member.group.issuers[:] = self.group.fork().issuers
        found = yield from collective.side_by_side(
            self.env,
            [member.issuer for member in members],
            [member._answers(step, packed) for member in members],
        )
        answers = [answer for one in found for answer in one]
        if len(answers) == 1:
            return answers[0]
        return (yield from self._compute(step, "average answers", MEAN, *answers))

    def _solving_columns(self) -> Columns:
        """What a step's line of the learning curve says of it."""
        return self._columns

    def _alike(self, members: Sequence[Solving]) -> bool:
        """Whether one packing serves all of an ensemble."""
        ends = {tuple(member.spu.bits(end) for end in ("input", "bias")) for member in members}
        return self.settings.rounding == "nearest" and len(ends) == 1

    def _answers(self, step: int, packed: Packed | None) -> Process[list[Refs]]:
        """The answers to one system, one for each programme."""
        found = []
        for programme in range(self.settings.programmes):
            self._round(step, programme)
            self._enter(programme)
            yield from self._give(step, packed)
            answer = yield from self._settled(step)
            every = self.settings.calibration_every
            if every is not None and (step - 1) % every == 0 and programme == 0:
                yield from self._calibrate(step, answer)
            answer = yield from self._calibrated(step, answer)
            found.append((yield from self._refined(step, programme, answer)))
        return found

    def _round(self, step: int, programme: int) -> None:
        """How the next programme is rounded."""
        self.upload, self.drive = (
            self._rounded(made, step, programme) for made in (self.upload, self.drive)
        )

    def _rounded(self, made: Computation, step: int, *solve: int) -> Computation:
        """A computation that rounds, as this solve does."""
        if self.settings.rounding == "nearest":
            return made
        end = made.function.__name__
        seed = self.session.noise_seed("rounding", end, step, self.place, *solve)
        return made.but(rounding_seed=seed)

    def _enter(self, programme: int, correction: int = 0) -> None:
        """Name the solve that follows; the first one of the first SPU has no name."""
        address = {"member": self.place, "programme": programme, "correction": correction}
        self.solve = "".join(f"{name} {number}, " for name, number in address.items() if number)

    # ---------------------------------------------------------------- settling

    def _settled(self, step: int) -> Process[Refs]:
        """Relax as long as the rule says; the last reading, on the GPUs."""
        settings, first = self.settings, self.solve
        known = settings.damping
        times = readings_tau(settings, settings.settle_tau, known, settings.solves_of_each)
        bits = cut_bits(settings, settings.settle_tau, known)
        if bits is not None:
            note = "bits of the slowest mode, where settle cuts its time short"
            self._event("short settle", step, bits, note)
        yield from self._settle(step, times[0], reading=0)
        answer = yield from self._read(step)
        apart: float | None = None
        for index, (before, total) in enumerate(pairwise(times), start=1):
            self.solve = f"{first}stretch {index}, "
            yield from self._settle(step, total - before, reading=0)
            reading = yield from self._read(step)
            compared = yield from self._compute(step, "compare readings", _COMPARE, answer, reading)
            answer, apart = reading, compared[0].facts.get("disagreement")
            if agree(settings, apart):
                return answer
        if apart is not None:
            note = "difference of the last two readings, over the last one"
            self._event("no agreement", step, apart, note)
        return answer

    # ---------------------------------------------------------------- calibration

    def _calibrate(self, step: int, answer: Refs) -> Process[None]:
        """Solve for the gradient with its sign reversed: the two answers differ by their signs but
        for what offsets make of them.
        """
        spu, system, loads = self.spu, self.spu.system, self.spu.loads
        assert system is not None, "it was solved just now"
        reverse = Computation(device.drive_reversed, **self.drive.settings)
        label, args = Label("convert reversed gradient", step), (system, self.asked.whole)
        drive = yield from spu.convert_input(self.issuer, label, reverse, args, loads)
        drive = yield from spu.preset(self.issuer, Label("preset", step), drive, loads)
        self._install(system, drive, drive, loads)
        self.solve += "reversed, "
        backward = yield from self._settled(step)
        self._offset = yield from self._compute(step, "find offset", _OFFSET, answer, backward)
        self._columns["offset_share"] = self._offset[0].facts.get("offset")

    def _calibrated(self, step: int, answer: Refs) -> Process[Refs]:
        """An answer without the offset that was found last."""
        if self._offset is None:
            return answer
        return (yield from self._compute(step, "subtract offset", _SUBTRACT, answer, self._offset))

    # ---------------------------------------------------------------- refinement

    def _refined(self, step: int, programme: int, answer: Refs) -> Process[Refs]:
        """Iterative refinement on one GPU, as long as residuals shrink."""
        pick, watch, before = self.session.backend.pick, Shrinking(self.session.task.dtype), answer
        fixed = (self.session.task_ref, *self.theta, self.session.batch(step), self._damping)
        for correction in range(1, self.settings.refinement + 1):
            operands = ([ref] for ref in (*fixed, pick(self.asked.whole, GRADIENT)))
            (left,) = yield from self._compute(step, "residual", self._residual, *operands, answer)
            if not watch.shrinks(left):
                if watch.note:
                    self._event("refinement ends", step, watch.left, watch.note)
                return before
            self._columns["refinement_residual"], before = left.facts.get("residual"), answer
            yield from self._drive(step, pick(left, 0), programme, correction)
            self._enter(programme, correction)
            found = yield from self._settled(step)
            found = yield from self._calibrated(step, found)
            scale = [pick(left, 1)]
            answer = yield from self._compute(
                step, "add correction", _CORRECT, answer, found, scale
            )
        return answer

    def _drive(self, step: int, vector: Ref, *solve: int) -> Process[None]:
        """Send a vector to drive the system that is in force; the state starts at rest."""
        spu, loads, system, state = self.spu, self.spu.loads, self.spu.system, self.spu.state
        assert system is not None and state is not None, "it was solved just now"
        sent = yield from self.transport.send(step, "residual", vector, loads)
        settings = {name: s for name, s in self.drive.settings.items() if name != "exact"}
        driving = self._rounded(Computation(device.drive_vector, **settings), step, *solve)
        label, args = Label("convert residual", step), (system, self.asked.whole, sent)
        drive = yield from spu.convert_input(self.issuer, label, driving, args, loads)
        drive = yield from spu.preset(self.issuer, Label("discharge", step), drive, loads)
        rest = self.session.backend.evaluate(_REST, (system, state), exact=True)
        self._install(system, drive, rest, loads)

    def _compute(
        self, step: int, kind: str, computation: Computation, *args: Refs
    ) -> Process[Refs]:
        """On the GPUs, of what has come from SPUs."""
        each = list(zip(*args, strict=True))
        return (
            yield from self.group.replicate(Label(kind, step), computation, each, synchronous=True)
        )

    def _event(self, kind: str, step: int, value: float, note: str) -> None:
        self.session.trace.event(kind, self.spu.name, step, value=value, note=note)
