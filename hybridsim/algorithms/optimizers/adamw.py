"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019): torch.optim.AdamW."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import adam_step, decoupled, moments
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
    weight_decay: float = 0.01,
) -> Outcome:
    """θ ← θ (1 - η w) - η m̂/(√v̂ + ε) with the moments m, v of d, for θ and d (N,)."""
    step = state.step + 1
    first, second = moments(state.first, state.second, direction, beta1, beta2)
    theta = adam_step(
        decoupled(theta, learning_rate, weight_decay),
        first,
        second,
        step,
        learning_rate=learning_rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
    )
    return Outcome((theta, State(step, first, second)))
