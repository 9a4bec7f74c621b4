"""How a synchronous step's system is solved: settling by a rule, iterative refinement, randomly
rounded programmes, an ensemble of SPUs, calibration of offsets.

What one SPU does of it, in terms of what the program knows to do once: give it a system, settle,
read. Everything is priced as it happens; what the GPU decides by (two readings agree, a residual
has grown) it computes first, from readings that were sent to it.

Iterative refinement: x ← x + SPU(g - A x), A x by one product on the GPU (``refinement``).

Averaging over randomly rounded programmes takes the error of rounding from ε to ε/√K + O(ε²) (arXiv
2401.16231).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hybridsim.algorithms.base import Algorithm, Columns, Process
from hybridsim.algorithms.group import MEAN
from hybridsim.algorithms.natural_gradient import products
from hybridsim.algorithms.natural_gradient.linearization import Curvature, Linearization
from hybridsim.algorithms.refinement import Shrinking, correct, scaled
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.settling import agree, compare, cut_bits, readings_tau
from hybridsim.algorithms.tngd import device
from hybridsim.circuits.base import rectangle
from hybridsim.hardware import collective
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu import Spu
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


class Solving(Algorithm[Settings]):
    """Solves of one SPU; ``place`` numbers it in an ensemble.

    Attributes:
        gpu: sends systems and takes readings.
        issuer: its thread of control.
        spu: relaxes.
        asked: the linearization that the SPU is given.
        upload: what the SPU makes of a system that it is sent.
        drive: what it makes of the gradient.
        solve: which of a step's solves this is, in the address of its noise.
    """

    gpu: Gpu
    issuer: Issuer
    spu: Spu
    asked: Ref
    upload: Computation
    drive: Computation

    def __init__(self, session: Session[Settings], place: int = 0) -> None:
        super().__init__(session)
        settings, theta = self.settings, session.theta.value
        self.place, self.solve = place, ""
        fixed = self.machine.spus[place].device.headroom > 0
        self._residual = Computation(residual, curvature=settings.curvature, fixed=fixed)
        damping = torch.tensor(settings.damping, dtype=theta.dtype, device=theta.device)
        self._damping = session.backend.root(damping, "damping", settings.damping)
        self._columns: Columns = {}  # of the step's line of the learning curve
        self._offset: Ref | None = None  # as last calibrated

    # ---------------------------------------------------------------- what a program knows to do

    @abstractmethod
    def _pack(self, step: int) -> Process[Ref]:
        """Round and pack the system that was asked last on the GPU."""

    @abstractmethod
    def _give(self, step: int, packed: Ref | None = None) -> Process[None]:
        """Give the SPU the system that was asked last, and put it in force; ``packed`` where that
        is done.
        """

    @abstractmethod
    def _settle(self, step: int, tau: float, reading: int) -> Process[Ref]:
        """Relax for a commanded time."""

    @abstractmethod
    def _read(self, step: int) -> Process[Ref]:
        """Measure, and send the result to the GPU."""

    # ---------------------------------------------------------------- a step

    def _solved(self, step: int, members: Sequence[Solving]) -> Process[Ref]:
        """The answer of a step on the GPU: of one SPU, or the mean over an ensemble."""
        self._columns, packed = {}, None
        if len(members) > 1 and self._alike(members):
            packed = yield from self._pack(step)
        for member in members[1:]:
            member.asked, member.theta, member.issuer = self.asked, self.theta, self.issuer.fork()
        found = yield from collective.side_by_side(
            self.env,
            [member.issuer for member in members],
            [member._answers(step, packed) for member in members],
        )
        answers = tuple(answer for one in found for answer in one)
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

    def _answers(self, step: int, packed: Ref | None) -> Process[list[Ref]]:
        """The answers of one SPU, one for each programme."""
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
        return Computation(made.function, **made.settings | {"rounding_seed": seed})

    def _enter(self, programme: int, correction: int = 0) -> None:
        """Name the solve that follows; the first one of the first SPU has no name."""
        address = {"member": self.place, "programme": programme, "correction": correction}
        self.solve = "".join(f"{name} {number}, " for name, number in address.items() if number)

    # ---------------------------------------------------------------- settling

    def _settled(self, step: int) -> Process[Ref]:
        """Relax as long as the rule says; the last reading, on the GPU."""
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
            answer, apart = reading, compared.facts.get("disagreement")
            if agree(settings, apart):
                return answer
        if apart is not None:
            note = "difference of the last two readings, over the last one"
            self._event("no agreement", step, apart, note)
        return answer

    # ---------------------------------------------------------------- calibration

    def _calibrate(self, step: int, answer: Ref) -> Process[None]:
        """Solve for the gradient with its sign reversed: the two answers differ by their signs but
        for what offsets make of them.
        """
        spu, system, load = self.spu, self.spu.system, self.spu.load
        assert system is not None, "it was solved just now"
        reverse, args = (
            Computation(device.drive_reversed, **self.drive.settings),
            (system, self.asked),
        )
        label = Label("convert reversed gradient", step)
        drive = yield from spu.convert_input(self.issuer, label, reverse, args, load.cells)
        drive = yield from spu.preset(self.issuer, Label("preset", step), drive, load.cells)
        spu.install(system, drive, drive, load)
        self.solve += "reversed, "
        backward = yield from self._settled(step)
        self._offset = yield from self._compute(step, "find offset", _OFFSET, answer, backward)
        self._columns["offset_share"] = self._offset.facts.get("offset")

    def _calibrated(self, step: int, answer: Ref) -> Process[Ref]:
        """An answer without the offset that was found last."""
        if self._offset is None:
            return answer
        return (yield from self._compute(step, "subtract offset", _SUBTRACT, answer, self._offset))

    # ---------------------------------------------------------------- refinement

    def _refined(self, step: int, programme: int, answer: Ref) -> Process[Ref]:
        """Iterative refinement, as long as residuals shrink."""
        pick, watch, before = self.session.backend.pick, Shrinking(self.session.task.dtype), answer
        operands = (self.session.task_ref, self.theta[0], self.session.batch(step))
        gradient = pick(self.asked, Linearization._fields.index("gradient"))
        for correction in range(1, self.settings.refinement + 1):
            args = (*operands, self._damping, gradient, answer)
            left = yield from self._compute(step, "residual", self._residual, *args)
            if not watch.shrinks(left):
                if watch.note:
                    self._event("refinement ends", step, watch.left, watch.note)
                return before
            self._columns["refinement_residual"], before = left.facts.get("residual"), answer
            yield from self._drive(step, pick(left, 0), programme, correction)
            self._enter(programme, correction)
            found = yield from self._settled(step)
            found = yield from self._calibrated(step, found)
            scale = pick(left, 1)
            answer = yield from self._compute(
                step, "add correction", _CORRECT, answer, found, scale
            )
        return answer

    def _drive(self, step: int, vector: Ref, *solve: int) -> Process[None]:
        """Send a vector to drive the system that is in force; the state starts at rest."""
        spu, size = self.spu, self.session.task.layout.size
        system, state, load, bits = spu.system, spu.state, spu.load, spu.bits("bias")
        assert system is not None and state is not None, "it was solved just now"
        sending = [(rectangle("residual", size), bits)]
        (packed,) = yield from self.gpu.pack(
            self.issuer, Label("pack residual", step), (vector,), sending,
            self.group.number_bits // 8,
        )  # fmt: skip
        sent = yield from self.machine.transfer(
            self.issuer, Label("upload residual", step), self.gpu.name, spu.name, packed,
            size * bits,
        )  # fmt: skip
        settings = {name: s for name, s in self.drive.settings.items() if name != "exact"}
        driving = self._rounded(Computation(device.drive_vector, **settings), step, *solve)
        drive = yield from spu.convert_input(
            self.issuer,
            Label("convert residual", step),
            driving,
            (system, self.asked, sent),
            load.cells,
        )
        drive = yield from spu.preset(self.issuer, Label("discharge", step), drive, load.cells)
        rest = self.session.backend.evaluate(_REST, (system, state), exact=True)
        spu.install(system, drive, rest, load)

    def _compute(self, step: int, kind: str, computation: Computation, *args: Ref) -> Process[Ref]:
        """On the GPU, of what has come from an SPU."""
        return (
            yield from self.gpu.execute(
                self.issuer, Label(kind, step), computation, args, synchronous=True
            )
        )

    def _event(self, kind: str, step: int, value: float, note: str) -> None:
        self.session.trace.event(kind, self.spu.name, step, value=value, note=note)
