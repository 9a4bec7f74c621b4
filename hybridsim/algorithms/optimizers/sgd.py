"""Stochastic gradient descent: torch.optim.SGD."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hybridsim.algorithms.optimizers._moments import coupled
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout


class State(NamedTuple):
    """Nothing."""


def start(theta: Tensor, *, layout: Layout) -> State:
    """The state before the first step."""
    return State()


def update(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> Outcome:
    """θ ← θ - η (d + w θ), for θ and d (N,)."""
    direction = coupled(theta, direction, weight_decay)
    return Outcome((theta.sub(direction, alpha=learning_rate), state))
