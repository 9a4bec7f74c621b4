"""Stochastic gradient descent with Nesterov momentum: torch.optim.SGD(nesterov=True)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import coupled
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout


class State(NamedTuple):
    """Velocity (N,)."""

    velocity: Tensor


def start(theta: Tensor, *, layout: Layout) -> State:
    """No velocity."""
    return State(torch.zeros_like(theta))


def update(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> Outcome:
    """Velocity v ← μ v + d + w θ, then θ ← θ - η (d + w θ + μ v), for θ and d (N,)."""
    direction = coupled(theta, direction, weight_decay)
    velocity = torch.add(direction, state.velocity, alpha=momentum)
    ahead = torch.add(direction, velocity, alpha=momentum)
    return Outcome((theta.sub(ahead, alpha=learning_rate), State(velocity)))
