"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019): torch.optim.AdamW."""

from __future__ import annotations

from torch import Tensor

from hybridsim.algorithms.optimizers import adam
from hybridsim.algorithms.optimizers._moments import decoupled
from hybridsim.algorithms.optimizers.adam import State, start
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout

__all__ = ["State", "start", "update"]


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
    return adam.update(
        decoupled(theta, learning_rate, weight_decay),
        state,
        direction,
        layout=layout,
        learning_rate=learning_rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
    )
