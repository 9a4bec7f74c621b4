"""Adam with Nesterov momentum (Dozat, 2016) and decoupled weight decay."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hybridsim.scenario.settings.base import (
    Epsilon,
    FirstBeta,
    LearningRate,
    OptimizerSettings,
    SecondBeta,
    WeightDecay,
)


class NAdamW(OptimizerSettings):
    """As torch.optim.NAdam(decoupled_weight_decay=True)."""

    kind: Literal["nadamw"]
    learning_rate: LearningRate = 1e-3
    beta1: FirstBeta = 0.9
    beta2: SecondBeta = 0.999
    epsilon: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01
    momentum_decay: float = Field(4e-3, ge=0, description="psi, how fast the momentum grows")
