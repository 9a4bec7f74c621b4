"""Adam (Kingma & Ba, 2015)."""

from __future__ import annotations

from typing import Literal

from hybridsim.scenario.settings.base import (
    CoupledWeightDecay,
    Epsilon,
    FirstBeta,
    LearningRate,
    OptimizerSettings,
    SecondBeta,
)


class Adam(OptimizerSettings):
    """As torch.optim.Adam."""

    kind: Literal["adam"]
    learning_rate: LearningRate = 1e-3
    beta1: FirstBeta = 0.9
    beta2: SecondBeta = 0.999
    epsilon: Epsilon = 1e-8
    weight_decay: CoupledWeightDecay = 0.0
