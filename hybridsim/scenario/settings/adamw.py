"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

from __future__ import annotations

from typing import Literal

from hybridsim.scenario.settings.base import (
    Epsilon,
    FirstBeta,
    LearningRate,
    OptimizerSettings,
    SecondBeta,
    WeightDecay,
)


class AdamW(OptimizerSettings):
    """As torch.optim.AdamW."""

    kind: Literal["adamw"]
    learning_rate: LearningRate = 1e-3
    beta1: FirstBeta = 0.9
    beta2: SecondBeta = 0.999
    epsilon: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01
