"""What optimizers have in common: weight decay, and exponential means of the direction."""

from __future__ import annotations

import torch
from torch import Tensor


def coupled(theta: Tensor, direction: Tensor, weight_decay: float) -> Tensor:
    """Direction d + w theta: weight decay as a term of the loss (L2)."""
    return torch.add(direction, theta, alpha=weight_decay) if weight_decay else direction


def decoupled(theta: Tensor, learning_rate: float, weight_decay: float) -> Tensor:
    """Parameters theta (1 - eta w) (Loshchilov & Hutter, 2019)."""
    return theta.mul(1 - learning_rate * weight_decay) if weight_decay else theta


def moments(
    first: Tensor, second: Tensor, direction: Tensor, beta1: float, beta2: float
) -> tuple[Tensor, Tensor]:
    """Means m = beta1 m + (1 - beta1) d and v = beta2 v + (1 - beta2) d^2, elementwise."""
    first = torch.lerp(first, direction, 1 - beta1)
    return first, torch.addcmul(second * beta2, direction, direction, value=1 - beta2)


def denominator(second: Tensor, correction: float, epsilon: float) -> Tensor:
    """Root sqrt(v / c) + epsilon, with v's correction c = 1 - beta2^t for its start at zero."""
    root: Tensor = second.sqrt() / correction**0.5
    return root.add_(epsilon)


def adam_step(
    theta: Tensor,
    first: Tensor,
    second: Tensor,
    step: int,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> Tensor:
    """Parameters theta - eta m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + epsilon), t = ``step``."""
    below = denominator(second, 1 - beta2**step, epsilon)
    return torch.addcdiv(theta, first, below, value=-learning_rate / (1 - beta1**step))
