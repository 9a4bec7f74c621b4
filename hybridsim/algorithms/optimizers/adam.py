"""Adam (Kingma & Ba, 2015): torch.optim.Adam."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import adam_step, coupled, moments
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout


class State(NamedTuple):
    """Steps taken, first and second moment (N,)."""

    step: int
    first: Tensor
    second: Tensor


def start(theta: Tensor, *, layout: Layout) -> State:
    """Moments zero."""
    return State(0, torch.zeros_like(theta), torch.zeros_like(theta))


def update(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Outcome:
    """θ ← θ - η m̂/(√v̂ + ε) with the moments m, v of d + w θ, for θ and d (N,)."""
    direction = coupled(theta, direction, weight_decay)
    step = state.step + 1
    first, second = moments(state.first, state.second, direction, beta1, beta2)
    theta = adam_step(
        theta,
        first,
        second,
        step,
        learning_rate=learning_rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
    )
    return Outcome((theta, State(step, first, second)))
