"""What the pieces of K-FAC hand to each other, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import simpy

from hybridsim.algorithms.base import Columns, Process
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.hardware.lane import Issuer
from hybridsim.operations.ref import Ref


class Parts(NamedTuple):
    """What a backward pass yields for a block: factors (None on a step without them), mean gradient
    (m, n), and when.
    """

    a: Ref | None
    g: Ref | None
    d: Ref
    ready_ps: int


class Prepared(NamedTuple):
    """A block's preconditioner, from the factors of ``step``: what it is applied with (inverses, or
    what is solved against), and on SPUs the ``system`` that it stands for: factors and shifts.
    """

    step: int
    refs: tuple[Ref, ...]
    system: tuple[Ref, ...] = ()


class Answer(NamedTuple):
    """A block's direction U, the gradient D it answers, and the preconditioner used."""

    block: Block
    direction: Ref
    gradient: Ref
    prepared: Prepared


class Algebra(Protocol):
    """Who does the linear algebra: the GPUs (``digital``) or SPUs (``thermodynamic``)."""

    @property
    def plan(self) -> object:
        """What was decided by the constants of the machine; None: nothing."""

    def begin_step(self) -> None:
        """A new step begins."""

    def prepare(self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer) -> Process[Prepared]:
        """A block's preconditioner from its averaged factors."""

    def apply(
        self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer
    ) -> Process[Ref]:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``."""

    def columns(self) -> Columns:
        """What a step's line of the learning curve says of it."""


def results(
    env: simpy.Environment, running: Sequence[simpy.Event]
) -> Process[list[Any]]:  # Any: whatever the processes return
    """What processes returned, or events were given, when the last is done."""
    yield env.all_of(running)
    return [event.value for event in running]
