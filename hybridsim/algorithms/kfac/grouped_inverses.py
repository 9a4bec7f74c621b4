"""K-FAC's inverses on the GPUs, factors in groups: batched, or by Newton–Schulz, or both.

A group is what one call inverts: the factors of equal order that a GPU owns, or a single one.
Blocks hand in their damped factors; who completes a group has it inverted, the others wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import simpy

from hybridsim.algorithms.base import Columns, Process
from hybridsim.algorithms.kfac import algebra, inverses
from hybridsim.algorithms.kfac.blocks import Parts, Prepared, results
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.algorithms.session import Session
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.settings.kfac import Kfac as Settings

_APPLY = Computation(algebra.apply_inverses)
_BEGIN, _RESUME = Computation(inverses.begin), Computation(inverses.resume)
_ITERATE = Computation(inverses.iterate)


class Member(NamedTuple):
    """A factor, ``side`` a or g, of a block."""

    block: str
    side: str


class _Group:
    """What is inverted together, on ``gpu``; of each step what has been handed in.

    ``newest`` inverts what was last complete.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.members: list[Member] = []
        self.handed_in: dict[int, dict[Member, Ref]] = {}
        self.done: dict[int, simpy.Event] = {}
        self.newest: simpy.Process | None = None

    def label(self, operation: str, step: int) -> Label:
        """Of an operation on all members; the member's own where there is one."""
        if len(self.members) > 1:
            return Label(operation, step)
        return Label(operation, step, *self.members[0])


class GroupedInverses:
    """Damping, then inverses group by group (``inverses``)."""

    plan: object = None

    def __init__(
        self, session: Session[Settings], blocks: Sequence[Block], owner: dict[str, Gpu]
    ) -> None:
        settings = session.settings
        self.env, self.trace = session.machine.context.env, session.trace
        self.backend, self.owner, self.settings = session.backend, owner, settings.inversion
        self._damp = Computation(algebra.damp, damping=settings.damping, rule=settings.damping_rule)
        self._cholesky = Computation(inverses.cholesky_inverses, damping=settings.damping)
        self._groups: dict[Member, _Group] = {}
        self._columns: Columns = {}
        by_order: dict[tuple[str, int], _Group] = {}
        for block in blocks:
            gpu = owner[block.name]
            for side, order in zip("ag", (block.inputs, block.outputs), strict=True):
                if side == "a" and block.diagonal:
                    continue
                group = _Group(gpu)
                if settings.inversion.batched:
                    group = by_order.setdefault((gpu.name, order), group)
                group.members.append(Member(block.name, side))
                self._groups[group.members[-1]] = group

    def begin_step(self) -> None:
        """Nothing is forgotten."""

    def columns(self) -> Columns:
        """Residual, iterations and fallbacks of Newton–Schulz since the last line."""
        found, self._columns = self._columns, {}
        return found

    def prepare(self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer) -> Process[Prepared]:
        """Inverses of the damped factors; of a diagonal one together with its damping."""
        label = Label("damping", step, block.name)
        both = yield from self.owner[block.name].execute(issuer, label, self._damp, (a, g))
        damped = {side: self.backend.pick(both, k) for k, side in enumerate("ag")}
        members = [Member(block.name, side) for side in damped]
        grouped = [member for member in members if member in self._groups]
        waiting = [self._hand_in(step, m, damped[m.side], issuer) for m in grouped]
        answers = yield from results(self.env, waiting)
        found: dict[Member, Ref] = dict(zip(grouped, answers, strict=True))
        return Prepared(step, tuple(self._own(m, found, damped[m.side]) for m in members))

    def apply(
        self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer
    ) -> Process[Ref]:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``."""
        parts: Parts = yield ready
        label, args = Label("precondition", step, block.name), (*prepared.refs, parts.d)
        return (yield from self.owner[block.name].execute(issuer, label, _APPLY, args))

    def _own(self, member: Member, found: dict[Member, Ref], reciprocal: Ref) -> Ref:
        if member not in found:
            return reciprocal
        return self.backend.pick(found[member], self._groups[member].members.index(member))

    def _hand_in(self, step: int, member: Member, damped: Ref, issuer: Issuer) -> simpy.Event:
        """What happens when the inverses of a member's group are there; its value are these."""
        group = self._groups[member]
        done = group.done.setdefault(step, self.env.event())
        handed_in = group.handed_in.setdefault(step, {})
        handed_in[member] = damped
        if len(handed_in) == len(group.members):
            args = tuple(handed_in[one] for one in group.members)
            del group.handed_in[step], group.done[step]
            group.newest = self.env.process(
                self._invert(group, step, args, group.newest, issuer.fork(), done)
            )
        return done

    def _invert(
        self,
        group: _Group,
        step: int,
        damped: tuple[Ref, ...],
        before: simpy.Process | None,
        issuer: Issuer,
        done: simpy.Event,
    ) -> Process[Ref]:
        """Inverses (k, n, n) in the order of the group's members."""
        found = None
        if self.settings.kind == "newton_schulz":
            found = yield from self._newton_schulz(group, step, damped, before, issuer)
        if found is None:
            label = group.label("invert", step)
            found = yield from group.gpu.execute(issuer, label, self._cholesky, damped)
        done.succeed(found)
        return found

    def _newton_schulz(
        self,
        group: _Group,
        step: int,
        damped: tuple[Ref, ...],
        before: simpy.Process | None,
        issuer: Issuer,
    ) -> Process[Ref | None]:
        """As ``_invert``; None where the tolerance was not reached.

        The host reads the residual before each iteration. It ends early where the residual no
        longer falls: rounding has the last word then. Without numbers it takes all iterations.
        """
        settings, gpu = self.settings, group.gpu
        computation, args = _BEGIN, damped
        if before is not None and settings.warm_start:
            inverses_before: Ref = yield before
            computation, args = _RESUME, (inverses_before, *damped)
        state = yield from gpu.execute(
            issuer, group.label("Newton-Schulz start", step), computation, args
        )
        label, iterations = group.label("Newton-Schulz", step), 0
        last: float | None = math.inf
        residual: float | None = state.facts.get("residual")
        while iterations < settings.iterations and (
            residual is None or last is None or settings.tolerance < residual < last
        ):
            state = yield from gpu.execute(issuer, label, _ITERATE, (state,), synchronous=True)
            last, residual = residual, state.facts.get("residual")
            iterations += 1
        if residual is None:
            return self.backend.pick(state, 1)
        reached = residual <= settings.tolerance
        self._note(iterations, residual, reached)
        if reached:
            return self.backend.pick(state, 1)
        note = f"residual of Newton-Schulz after {iterations} iterations; inverted by Cholesky"
        layer = group.members[0].block if len(group.members) == 1 else ""
        self.trace.event("fallback", gpu.name, step, layer=layer, value=residual, note=note)
        return None

    def _note(self, iterations: int, residual: float, reached: bool) -> None:
        found = self._columns
        worst = max(found.get("inverse_residual", 0.0), residual)
        # a residual that is no number is the worst
        found["inverse_residual"] = residual if math.isnan(residual) else worst
        found["inverse_iterations"] = max(found.get("inverse_iterations", 0), iterations)
        found["inverse_fallbacks"] = found.get("inverse_fallbacks", 0) + (not reached)
