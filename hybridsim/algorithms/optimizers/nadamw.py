"""Adam with Nesterov momentum (Dozat, 2016): torch.optim.NAdam(decoupled_weight_decay=True)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import decoupled, denominator, moments
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout


class State(NamedTuple):
    """Steps taken, first and second moment (N,), and the product of the momenta up to here."""

    step: int
    first: Tensor
    second: Tensor
    momentum_product: float


def start(theta: Tensor, *, layout: Layout) -> State:
    """Moments zero."""
    return State(0, torch.zeros_like(theta), torch.zeros_like(theta), 1.0)


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
    momentum_decay: float = 4e-3,
) -> Outcome:
    """One step, for θ and d (N,).

    μ_t = β₁ (1 - ½ 0.96^(t ψ)), P = μ_1 ... μ_t;
    θ ← θ (1 - η w) - η [(1 - μ_t) d/(1 - P) + μ_(t+1) m/(1 - P μ_(t+1))]/(√v̂ + ε).
    """
    theta = decoupled(theta, learning_rate, weight_decay)
    step = state.step + 1
    momentum = beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    product = state.momentum_product * momentum
    first, second = moments(state.first, state.second, direction, beta1, beta2)
    below = denominator(second, 1 - beta2**step, epsilon)
    theta = theta.addcdiv(direction, below, value=-learning_rate * (1 - momentum) / (1 - product))
    scale = -learning_rate * following / (1 - product * following)
    theta = theta.addcdiv(first, below, value=scale)
    return Outcome((theta, State(step, first, second, product)))
