"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Literal

from hybridsim.scenario.settings.base import CoupledWeightDecay, LearningRate, OptimizerSettings


class Sgd(OptimizerSettings):
    """theta <- theta - eta g."""

    kind: Literal["sgd"]
    learning_rate: LearningRate
    weight_decay: CoupledWeightDecay = 0.0
