"""Stochastic gradient descent with Nesterov momentum."""

from __future__ import annotations

from typing import Literal

from hybridsim.scenario.settings.base import (
    CoupledWeightDecay,
    LearningRate,
    Momentum,
    OptimizerSettings,
)


class Nesterov(OptimizerSettings):
    """SGD with Nesterov momentum, as torch.optim.SGD(nesterov=True)."""

    kind: Literal["nesterov"]
    learning_rate: LearningRate
    momentum: Momentum = 0.9
    weight_decay: CoupledWeightDecay = 0.0
