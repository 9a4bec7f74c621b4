"""First-order optimizers as pure functions of flat vectors; equal to torch.optim step for step.

Each is ``f(theta, state, direction, **settings) -> Outcome((theta, state))``. ``direction`` stands
for the
gradient: the gradient itself, or what an SPU answered. A state is an immutable pytree; its Python
numbers (the step count and what follows from it) live on the host as in torch.optim, its tensors on
the GPU.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybridsim.outcome import Outcome

OptimizerKind = Literal["sgd", "nesterov", "adam", "nadamw"]


class State(NamedTuple):
    """Step count, first moment (or momentum) and second moment (N,), and NAdam's product of
    momenta.
    """

    step: int = 0
    first: Tensor | None = None
    second: Tensor | None = None
    momentum_product: float = 1.0


def initial_state(kind: OptimizerKind, theta: Tensor) -> State:
    """The state before the first step, for ``theta`` (N,).

    Raises:
        ValueError: unknown kind.
    """
    if kind == "sgd":
        return State()
    if kind == "nesterov":
        return State(first=torch.zeros_like(theta))
    if kind in ("adam", "nadamw"):
        return State(first=torch.zeros_like(theta), second=torch.zeros_like(theta))
    raise ValueError(f"expected sgd, nesterov, adam or nadamw, got {kind!r}")


def sgd(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> Outcome:
    """θ ← θ - η (d + w θ)."""
    direction = _decayed(theta, direction, weight_decay)
    return Outcome((theta.sub(direction, alpha=learning_rate), state._replace(step=state.step + 1)))


def nesterov(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> Outcome:
    """Velocity v ← μ v + d, then θ ← θ - η (d + μ v): torch.optim.SGD(nesterov=True)."""
    direction = _decayed(theta, direction, weight_decay)
    velocity = torch.add(direction, _first(state), alpha=momentum)
    ahead = torch.add(direction, velocity, alpha=momentum)
    state = state._replace(step=state.step + 1, first=velocity)
    return Outcome((theta.sub(ahead, alpha=learning_rate), state))


def adam(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Outcome:
    """θ ← θ - η m̂/(√v̂ + ε) (Kingma & Ba, 2015): torch.optim.Adam."""
    direction = _decayed(theta, direction, weight_decay)
    step = state.step + 1
    first, second = _moments(state, direction, beta1, beta2)
    denominator = _denominator(second, 1 - beta2**step, epsilon)
    theta = torch.addcdiv(theta, first, denominator, value=-learning_rate / (1 - beta1**step))
    return Outcome((theta, State(step, first, second)))


def nadamw(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    learning_rate: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
) -> Outcome:
    """Adam with Nesterov momentum and decoupled weight decay:
    torch.optim.NAdam(decoupled_weight_decay=True).

    μ_t = β₁ (1 - ½ 0.96^(t ψ)), P = μ_1 ... μ_t (Dozat, 2016);
    θ ← θ (1 - η w) - η [(1 - μ_t) d/(1 - P) + μ_(t+1) m/(1 - P μ_(t+1))]/(√v̂ + ε).
    """
    if weight_decay:
        theta = theta.mul(1 - learning_rate * weight_decay)
    step = state.step + 1
    momentum = beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    product = state.momentum_product * momentum
    first, second = _moments(state, direction, beta1, beta2)
    denominator = _denominator(second, 1 - beta2**step, epsilon)
    theta = theta.addcdiv(
        direction, denominator, value=-learning_rate * (1 - momentum) / (1 - product)
    )
    scale = -learning_rate * following / (1 - product * following)
    theta = theta.addcdiv(first, denominator, value=scale)
    return Outcome((theta, State(step, first, second, product)))


def _decayed(theta: Tensor, direction: Tensor, weight_decay: float) -> Tensor:
    return torch.add(direction, theta, alpha=weight_decay) if weight_decay else direction


def _first(state: State) -> Tensor:
    if state.first is None:
        raise ValueError(
            "expected a state of initial_state for this optimizer, got one without momentum"
        )
    return state.first


def _moments(state: State, direction: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Exponential means of the direction and of its square."""
    if state.second is None:
        raise ValueError(
            "expected a state of initial_state for this optimizer, got one without moments"
        )
    first = torch.lerp(_first(state), direction, 1 - beta1)
    second = torch.addcmul(state.second * beta2, direction, direction, value=1 - beta2)
    return first, second


def _denominator(second: Tensor, correction: float, epsilon: float) -> Tensor:
    return (second.sqrt() / correction**0.5).add_(epsilon)
