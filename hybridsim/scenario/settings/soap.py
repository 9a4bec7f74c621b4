"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
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


class Soap(OptimizerSettings):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv 2409.11321).

    The first step moves nothing: it finds the first eigenbases, as the authors' code does.
    """

    kind: Literal["soap"]
    learning_rate: LearningRate = 3e-3
    beta1: FirstBeta = 0.95
    beta2: SecondBeta = 0.95
    shampoo_beta: SecondBeta | None = Field(
        None, description="decay of the preconditioner's statistics; default: beta2"
    )
    epsilon: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01
    basis_every: int = Field(
        10, ge=1, description="steps between two turns of the eigenbases (power iteration and QR)"
    )
    max_dimension: int = Field(
        10_000, ge=1, description="a dimension larger than this keeps its own basis"
    )
    precondition_vectors: bool = Field(
        False, description="parameters with one dimension (biases, norms) have an eigenbasis, too"
    )

    @property
    def telling_steps(self) -> int:
        """Up to the first turn of the bases."""
        return 1 + self.basis_every

    def phase(self, step: int) -> Mapping[str, bool | str]:
        """What becomes of the eigenbases: found at the first step, then turned every so often."""
        if step == 1:
            return {"bases": "found"}
        return {"bases": "turned" if (step - 1) % self.basis_every == 0 else "kept"}
