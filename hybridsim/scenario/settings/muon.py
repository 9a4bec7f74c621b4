"""Muon (Jordan et al., 2024) on hidden matrices, AdamW (Loshchilov & Hutter, 2019) elsewhere."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hybridsim.scenario.settings.base import (
    Epsilon,
    FirstBeta,
    LearningRate,
    Momentum,
    OptimizerSettings,
    SecondBeta,
    WeightDecay,
)


class Muon(OptimizerSettings):
    """As torch.optim.Muon on hidden matrices and torch.optim.AdamW on all other parameters.

    Muon takes the two-dimensional weights of linear layers that are neither an embedding nor the
    head, which is the linear layer whose weight comes last in the network. AdamW takes the head,
    embeddings, convolutions, biases, norms and whatever else there is; so it takes everything in a
    network without a hidden linear layer.
    """

    kind: Literal["muon"]
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.1
    momentum: Momentum = 0.95
    nesterov: bool = Field(True, description="Muon's momentum looks one step ahead")
    ns_steps: int = Field(5, ge=1, le=99, description="Newton-Schulz iterations, in bf16")
    ns_coefficients: tuple[float, float, float] = Field(
        (3.4445, -4.7750, 2.0315),
        strict=False,
        description="a, b, c of an iteration: X <- a X + (b X X' + c (X X')^2) X",
    )
    epsilon: float = Field(
        1e-7, gt=0, description="least norm that a matrix is divided by before the iterations"
    )
    adjust_lr: Literal["original", "match_rms_adamw"] = Field(
        "original",
        description="factor on the learning rate of an m x n matrix; original: sqrt(max(1, m/n)); "
        "match_rms_adamw: 0.2 sqrt(max(m, n))",
    )
    beta1: FirstBeta = Field(0.9, description="AdamW: decay of the first moment")
    beta2: SecondBeta = Field(0.999, description="AdamW: decay of the second moment")
    adamw_epsilon: Epsilon = Field(
        1e-8, description="AdamW: added to the root of the second moment"
    )
    adamw_learning_rate: LearningRate | None = Field(
        None,
        description="AdamW: step size for all but the hidden matrices (head, embeddings, "
        "convolutions, biases, norms; everything where no hidden linear layer is); default: Muon's",
    )
