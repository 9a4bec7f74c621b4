"""Natural gradient descent on one GPU: x = (A + λI)⁻¹ g by Cholesky, Woodbury or conjugate
gradients.

What TNGD (arXiv 2405.13817) asks an SPU for, computed digitally. ``cholesky`` and ``woodbury``
linearize (J is formed) and solve in one computation. ``cg`` forms neither J nor A: a gradient, then
an iteration after the other, each with a product A p. The host reads the residual of each before it
launches the next, and stops at the tolerance; where nothing is computed (timing-only) a solve takes
all iterations.

What goes wrong in a solve is an event: ``cg breakdown``, a search direction whose curvature is not
positive or a number that is not finite; ``cg divergence``, a residual that has grown by 1e5 (the
default of PETSc's solvers). The solve then ends with the iterate whose residual is smallest, which
may be the one it started from.
"""

from __future__ import annotations

import math

import torch

from hybridsim.algorithms.base import Algorithm, Columns, Direction, Process
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.natural_gradient.linearizer import Linearizer
from hybridsim.algorithms.ngd import conjugate_gradients, direct
from hybridsim.algorithms.ngd.damping import adapt
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.ngd import Ngd as Settings
from hybridsim.tasks.task import Task

_MOST_GROWTH = 1e5
GRADIENT = Computation(gradient)
START = Computation(conjugate_gradients.start)
DIRECT = {"cholesky": Computation(direct.cholesky), "woodbury": Computation(direct.woodbury)}


class Ngd(Algorithm[Settings]):
    """The first GPU of the machine; further ones stay idle."""

    def __init__(self, session: Session[Settings]) -> None:
        super().__init__(session)
        settings, dtype = self.settings, session.task.dtype
        self.gpu, self.issuer = self.group.gpus[0], self.group.issuers[0]
        curvature = {"curvature": settings.curvature}
        if settings.method != "cg":
            self.linearizer = Linearizer(session, settings.curvature, settings.fisher_samples)
        self.resume = Computation(conjugate_gradients.resume, **curvature)
        self.iterate = Computation(conjugate_gradients.iterate, **curvature)
        damping = torch.tensor(settings.damping, dtype=dtype, device=session.theta.value.device)
        self.damping = session.backend.root(damping, "damping", settings.damping)
        self.rule = settings.levenberg_marquardt
        if self.rule is not None:
            factor = self.rule.decay**self.rule.every
            self.adapt = Computation(adapt, **curvature, factor=factor)
        self.tolerance = max(settings.tolerance, torch.finfo(dtype).eps)
        self.waits_for_answer = settings.method == "cg"
        self.before: Ref  # the parameters at which the direction was found
        self.solution: Ref | None = None  # of the step before

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of a solver that is watched."""
        found = super().assumptions(settings, spec, task)
        if settings.method == "cg":
            found.append(
                "Conjugate gradients: the host reads the residual of every iteration before it "
                f"launches the next. Without tensors a solve takes all {settings.iterations}."
            )
        return found

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """Only the first is used."""
        return ["NGD computes on the first GPU; the others draw idle power."]

    def resident_bytes(self, gpu: Gpu) -> int:
        """With what is no operand of the moment: parameters before the step, cg's best iterate and
        last solution.
        """
        kept = int(self.rule is not None)
        if self.settings.method == "cg":
            kept += 1 + self.settings.warm_start
        vector = self.session.task.layout.size * self.session.task.dtype.itemsize
        return super().resident_bytes(gpu) + kept * vector

    def direction(self, step: int) -> Process[Direction]:
        """Linearize and solve; or gradient and iterations."""
        self.before = self.theta[0]
        if self.settings.method == "cg":
            return (yield from self._iterative(step))
        operands = self.linearizer.operands(step, self.theta[0])
        linear = yield from self._execute("linearize", step, self.linearizer.computation, *operands)
        self.session.check_loss(step, linear)
        computation = DIRECT[self.settings.method]
        answer = yield from self._execute("solve", step, computation, linear, self.damping)
        return Direction([answer], linear, {})

    def finish(self, step: int) -> Process[Columns]:
        """Levenberg-Marquardt, every so many steps."""
        if self.rule is None or step % self.rule.every:
            return {}
        task, before, batch = self._operands(step, self.before)
        args = (task, before, self.theta[0], batch, self.damping)
        self.damping = yield from self._execute("adapt damping", step, self.adapt, *args)
        return dict(self.damping.facts)

    # ---------------------------------------------------------------- conjugate gradients

    def _iterative(self, step: int) -> Process[Direction]:
        operands = self._operands(step)
        slope = yield from self._execute("gradient", step, GRADIENT, *operands)
        self.session.check_loss(step, slope)
        system = (*operands, self.damping)
        if self.solution is None:
            state = yield from self._execute("start cg", step, START, slope)
        else:
            args = (*system, slope, self.solution)
            state = yield from self._execute("start cg", step, self.resume, *args)
        state, iterations = yield from self._iterations(step, system, state)
        answer = self.session.backend.pick(state, 0)
        if self.settings.warm_start:
            self.solution = answer
        columns: Columns = {
            "cg_iterations": iterations,
            "cg_residual": state.facts.get("residual"),
        }
        return Direction([answer], slope, columns)

    def _iterations(
        self, step: int, system: tuple[Ref, ...], start: Ref
    ) -> Process[tuple[Ref, int]]:
        """The iterate that a solve ends with, and how many iterations it took."""
        state = best = start
        for iteration in range(self.settings.iterations):
            if _residual(state) <= self.tolerance:
                return state, iteration
            args = (*system, state)
            state = yield from self._execute("cg iteration", step, self.iterate, *args)
            if self._troubled(step, state, start):
                return best, iteration + 1
            if _residual(state) < _residual(best):
                best = state
        return state, self.settings.iterations

    def _troubled(self, step: int, state: Ref, start: Ref) -> bool:
        """Whether an iteration went wrong; if so, an event says how."""
        if not state.facts:  # nothing is computed
            return False
        residual, bent = _residual(state), state.facts["curvature"]
        taken = "the iterate with the smallest residual is taken"
        if not (math.isfinite(residual) and 0 < bent < math.inf):
            kind, value, note = "cg breakdown", bent, "curvature along the search direction"
        elif residual > _MOST_GROWTH * max(_residual(start), 1.0):
            kind, value, note = "cg divergence", residual, "residual over the gradient"
        else:
            return False
        self.session.trace.event(kind, self.gpu.name, step, value=value, note=f"{note}; {taken}")
        return True

    # ---------------------------------------------------------------- operations

    def _operands(self, step: int, theta: Ref | None = None) -> tuple[Ref, Ref, Ref]:
        """Task, parameters (default: the latest) and batch."""
        return self.session.task_ref, theta or self.theta[0], self.session.batch(step)

    def _execute(self, kind: str, step: int, computation: Computation, *args: Ref) -> Process[Ref]:
        """Run on the GPU; an iteration is launched when the host has seen the one before."""
        synchronous = computation is self.iterate
        label = Label(kind, step)
        return (
            yield from self.gpu.execute(
                self.issuer, label, computation, args, synchronous=synchronous
            )
        )


def _residual(state: Ref) -> float:
    """Of an iterate; where nothing is computed it is never small."""
    return float(state.facts.get("residual", math.inf))
