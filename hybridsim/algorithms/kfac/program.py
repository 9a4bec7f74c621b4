"""K-FAC on one or several GPUs, its linear algebra digital or on SPUs (Martens & Grosse 2015;
TKFAC, arXiv 2502.08603).

A step: every GPU runs forward and backward passes over its share of the batch; gradients and
factors are averaged over the GPUs; each block's factors enter a moving average, its preconditioner
is made by the GPU that owns it (with its SPUs) and applied to the block's gradient; the directions
are gathered, and every GPU updates its copy of the parameters. With one GPU and pipelining a block
goes on as soon as its backward pass has run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import simpy

from hybridsim.algorithms.assumptions import analog_assumptions, use_assumptions
from hybridsim.algorithms.base import (
    Algorithm,
    Columns,
    Direction,
    Process,
)
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.kfac import algebra
from hybridsim.algorithms.kfac.blocks import Algebra, Answer, Parts, Prepared, results
from hybridsim.algorithms.kfac.diagnosis import error_split
from hybridsim.algorithms.kfac.digital import Digital
from hybridsim.algorithms.kfac.factors import factors, gradient_parts
from hybridsim.algorithms.kfac.fidelity import preconditioning_fidelity
from hybridsim.algorithms.kfac.grouped_inverses import GroupedInverses
from hybridsim.algorithms.kfac.jobs import jobs_of, rows_of
from hybridsim.algorithms.kfac.layers import Block, blocks, layers
from hybridsim.algorithms.kfac.ownership import owners, owners_of_solves
from hybridsim.algorithms.kfac.thermodynamic import Thermodynamic
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.kfac import Kfac as Settings
from hybridsim.tasks.task import Task


class Kfac(Algorithm[Settings]):
    """All GPUs and SPUs of the machine."""

    def __init__(self, session: Session[Settings]) -> None:
        super().__init__(session)
        settings = self.settings
        self.blocks = blocks(session.task, sharing=settings.sharing)
        form: Literal["roots", "factors"] = (
            "roots" if settings.upload == "activations" else "factors"
        )
        self.factors = Computation(
            factors,
            fisher=settings.fisher,
            sharing=settings.sharing,
            samples=settings.fisher_samples,
            form=form,
        )
        self.gradient = Computation(gradient_parts, sharing=settings.sharing)
        self.form = form
        self.fidelity = Computation(preconditioning_fidelity, form=form)
        self.average = Computation(algebra.average, decay=settings.ema)
        self.join = Computation(algebra.join, sharing=settings.sharing, kl_clip=settings.kl_clip)
        self.owner: dict[str, Gpu]
        self.algebra = self._algebra(self._rows() if form == "roots" else {})
        self.averaging: dict[str, simpy.Process] = {}
        self.preconditioners: dict[str, simpy.Process] = {}

    def _algebra(self, rows: dict[str, tuple[int, int]]) -> Algebra:
        """Who inverts or solves, once it is known whose each block is."""
        if not self.settings.thermodynamic:
            self.owner = owners(self.machine, self.blocks)
            if self.settings.inversion.direct:
                return Digital(self.settings, self.owner)
            return GroupedInverses(self.session, self.blocks, self.owner)
        node = self.machine.spus[0].node  # the scenario has one circuit
        rails = 2 if node.dual_rail else 1
        jobs = jobs_of(self.blocks, self.settings, rows, node.circuit, rails)
        self.owner = owners_of_solves(self.machine, jobs, self.settings)
        found = Thermodynamic(self.session, jobs, self.owner)
        self.session.notes["placement"] = rows_of(found.placement)
        return found

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of the analog part where there is one."""
        found = super().assumptions(settings, spec, task)
        if settings.fisher == "type2" and task.terms > 1:
            found.append(
                f"fisher: type2 backpropagates all {task.terms} loss terms of an example at once: "
                "where a position influences several, G keeps cross terms between them, which the "
                "GGN has not (as curvlinops does); type2_per_term has none."
            )
        found += [
            f"{layer.module} and {layer.head.module} have one weight: its factors are those of "
            "both uses added, each by its partial trace; what uses do to each other is left aside."
            for layer in layers(task, settings.sharing)
            if layer.head is not None
        ]
        if not settings.thermodynamic:
            return found
        found += [
            *analog_assumptions(spec),
            *use_assumptions(settings),
            "A factor is sent as its triangle, n (n + 1)/2 numbers, to every SPU that solves its "
            "columns, also over a shared wire; its damping and unit columns cost no transfer.",
        ]
        if settings.method == "noise":
            found.append("Samples of the noise are converted after the trajectory, not during it.")
        return found

    @property
    def plan(self) -> object:
        """Which GPU owns which block, and which SPU solves what."""
        if self.algebra.plan is None:  # owners are found by the orders of factors
            return None
        return {name: gpu.name for name, gpu in self.owner.items()}, self.algebra.plan

    def resident_bytes(self, gpu: Gpu) -> int:
        """With what stays between steps with the owner of a block: averages, inverses if any."""
        kept = (self.settings.ema > 0) + (self.settings.method != "solves")
        numbers = sum(
            block.outputs**2 + (block.inputs if block.diagonal else block.inputs**2)
            for block in self.blocks
            if self.owner[block.name] is gpu
        )
        return super().resident_bytes(gpu) + kept * numbers * self.group.number_bits // 8

    def direction(self, step: int) -> Process[Direction]:
        """Gradients and factors, the blocks' preconditioned gradients, joined on every GPU."""
        settings = self.settings
        self.algebra.begin_step()
        fresh, renewed = (
            (step - 1) % every == 0 for every in (settings.factors_every, settings.inverses_every)
        )
        ready = {block.name: self.env.event() for block in self.blocks}
        issuers = self._issuers()
        # in the order in which backward passes reach them, and so does what is sent early
        running = [
            self.env.process(
                self._block(step, block, ready[block.name], fresh, renewed, issuers[block.name])
            )
            for block in reversed(self.blocks)
        ]
        found, loss = yield from self._differentiate(step, fresh, ready)
        answers: list[Answer] = yield from results(self.env, running)
        directions = {answer.block.name: answer.direction for answer in answers}
        joined = yield from self._join(step, found, directions)
        stale = max(step - answer.prepared.step for answer in answers)
        columns = {"staleness_steps": stale, "delay_ps": 0, **self._fidelity(step, answers)}
        columns |= self.algebra.columns()
        return Direction(joined, loss, columns)

    # ---------------------------------------------------------------- gradients and factors

    def _differentiate(
        self, step: int, fresh: bool, ready: dict[str, simpy.Event]
    ) -> Process[tuple[Refs, Token]]:
        """Forward and backward passes on every GPU, then what they found averaged; blocks hear when
        they are ready.
        """
        group = self.group
        operands = list(
            zip(
                group.everywhere(self.session.task_ref), self.theta, group.shards(step), strict=True
            )
        )
        if not fresh:
            found = yield from group.each(Label("gradient", step), self.gradient, operands)
        elif group.size == 1 and self.settings.pipelining:
            args = (*operands[0], self._draw(step, 0))
            reached = self._announcer(ready)
            staged = group.gpus[0].execute_stages(
                group.issuers[0], lambda name: _stage_label(step, name), self.factors, args, reached
            )
            found = yield from group.together([staged])
        else:
            args_each = [(*operand, self._draw(step, k)) for k, operand in enumerate(operands)]
            found = yield from group.each(Label("factors", step), self.factors, args_each)
        loss = group.loss(found)
        self.session.check_loss(step, loss)
        label = Label("all-reduce gradient and factors" if fresh else "all-reduce gradient", step)
        found = yield from group.all_reduce(label, found, self._bits(fresh))
        place = {gpu.name: k for k, gpu in enumerate(group.gpus)}
        for block in self.blocks:
            if not ready[block.name].triggered:
                result = found[place[self.owner[block.name].name]]
                ready[block.name].succeed(self._parts(result, block.name, fresh))
        return found, loss

    def _parts(self, result: Ref, name: str, fresh: bool) -> Parts:
        pick = self.session.backend.pick
        a, g = (pick(pick(result, side), name) if fresh else None for side in "ag")
        return Parts(a, g, pick(pick(result, "d"), name), self.session.now_ps())

    def _announcer(self, ready: dict[str, simpy.Event]) -> Callable[[str, Ref], None]:
        """A block is ready when its stage has ended."""

        def reached(stage: str, result: Ref) -> None:
            if stage in ready and not ready[stage].triggered:
                ready[stage].succeed(self._parts(result, stage, fresh=True))

        return reached

    def _draw(self, step: int, shard: int) -> Ref:
        """Where drawn labels come from: by seed and step, whichever GPU draws them."""
        drawn = self.settings.fisher == "mc"
        seed = self.session.noise_seed("labels", step) if drawn else 0
        return self.session.draw(seed, (shard, self.group.size))

    def _bits(self, fresh: bool) -> int:
        """Size of what is averaged: the gradient, and factors as triangles."""
        numbers = self.session.task.layout.size
        if fresh:
            numbers += sum(
                n if b.diagonal and side else _triangle(n)
                for b in self.blocks
                for side, n in enumerate((b.outputs, b.inputs))
            )
        return numbers * self.group.number_bits

    # ---------------------------------------------------------------- blocks

    def _issuers(self) -> dict[str, Issuer]:
        """A thread for each block, on the GPU that owns it."""
        place = {gpu.name: k for k, gpu in enumerate(self.group.gpus)}
        return {
            name: self.group.issuers[place[gpu.name]].fork() for name, gpu in self.owner.items()
        }

    def _block(
        self,
        step: int,
        block: Block,
        ready: simpy.Event,
        fresh: bool,
        renewed: bool,
        issuer: Issuer,
    ) -> Process[Answer]:
        """A block's direction; with ``stale`` from the preconditioner before the one that is being
        made.
        """
        used = self.preconditioners.get(block.name)
        if fresh:
            before = self.averaging.get(block.name)
            self.averaging[block.name] = self.env.process(
                self._average(step, block, before, ready, issuer.fork())
            )
        if renewed:
            process = self.env.process(
                self._prepare(step, block, self.averaging[block.name], issuer.fork())
            )
            self.preconditioners[block.name] = process
            if used is None or not self.settings.stale:
                used = process
        assert used is not None, "the first step renews"
        prepared: Prepared = yield used
        direction = yield from self.algebra.apply(step, block, prepared, ready, issuer)
        parts: Parts = yield ready
        return Answer(block, direction, parts.d, prepared)

    def _average(
        self,
        step: int,
        block: Block,
        before: simpy.Process | None,
        ready: simpy.Event,
        issuer: Issuer,
    ) -> Process[tuple[Ref, Ref]]:
        """Exponential moving average of a block's factors; the first have nothing to be averaged
        with.
        """
        parts: Parts = yield ready
        assert parts.a is not None and parts.g is not None, "a step with factors"
        if before is None or not self.settings.ema:
            return parts.a, parts.g
        old: tuple[Ref, Ref] = yield before
        label, args = Label("average factors", step, block.name), (*old, parts.a, parts.g)
        both = yield from self.owner[block.name].execute(issuer, label, self.average, args)
        return self.session.backend.pick(both, 0), self.session.backend.pick(both, 1)

    def _prepare(
        self, step: int, block: Block, averaging: simpy.Process, issuer: Issuer
    ) -> Process[Prepared]:
        a, g = yield averaging
        return (yield from self.algebra.prepare(step, block, a, g, issuer))

    # ---------------------------------------------------------------- directions

    def _join(self, step: int, found: Refs, directions: dict[str, Ref]) -> Process[Refs]:
        """Gather the directions, and join them with what is not preconditioned."""
        group, backend = self.group, self.session.backend
        ordered = [directions[block.name] for block in self.blocks]
        if group.size > 1:
            owned = [[b for b in self.blocks if self.owner[b.name] is gpu] for gpu in group.gpus]
            bits = [sum(b.outputs * b.inputs for b in own) * group.number_bits for own in owned]
            tokens = [_together([directions[b.name] for b in own]) for own in owned]
            gathered = yield from group.all_gather(Label("gather directions", step), tokens, bits)
            spans = _together(gathered).spans
            ordered = [ref.at(*(spans or ref.spans)) for ref in ordered]
        gradients = [backend.pick(result, "gradient") for result in found]
        rate = self.session.number(self.settings.learning_rate * self.session.factor(step))
        args = [(self.session.task_ref, gradient, rate, *ordered) for gradient in gradients]
        return (yield from group.replicate(Label("join", step), self.join, args))

    def _fidelity(self, step: int, answers: list[Answer]) -> Columns:
        """How far the answers of SPUs are from the exact solutions of what they were asked.

        A diagnostic: costs no simulated time.
        """
        if not self.settings.thermodynamic:
            return {}
        operands = [ref for a in answers for ref in (*a.prepared.system, a.gradient, a.direction)]
        found = self.session.diagnose(step, self.fidelity, tuple(operands))
        node, device = self.machine.spus[0].node, self.machine.spus[0].device
        alike = self.settings.one_settle and self.settings.settling.rule == "fixed"
        if self.settings.method == "solves" and alike and not device.ideal:
            split = Computation(
                error_split,
                form=self.form,
                tau=self.settings.settle_tau,
                input_bits=node.input_bits,  # of the first SPU: what others round otherwise
                bias_bits=node.bias_bits,  # counts as their devices'
                output_bits=node.output_bits,
                circuit=node.circuit,
                dual_rail=node.dual_rail,
            )
            found |= self.session.diagnose(step, split, tuple(operands))
        return found

    # ---------------------------------------------------------------- sizes

    def _rows(self) -> dict[str, tuple[int, int]]:
        """Rows of raw activations and gradients of each block, from shapes alone."""
        args = (self.session.task_ref, self.session.theta, self.session.batch(1), self._draw(1, 0))
        _, value = self.session.backend.work(self.factors, args)
        return {b.name: (len(value["a"][b.name]), len(value["g"][b.name])) for b in self.blocks}


def _stage_label(step: int, stage: str) -> Label:
    if stage in ("forward", "rest"):
        return Label("forward" if stage == "forward" else "gather gradient", step)
    return Label("backward and factors", step, stage)


def _together(refs: list[Ref] | list[Token]) -> Token:
    """An order alone: after all of these."""
    return Token(tuple(sorted({span for ref in refs for span in ref.spans})))


def _triangle(order: int) -> int:
    return order * (order + 1) // 2
