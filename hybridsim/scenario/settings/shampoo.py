"""Shampoo: a preconditioner for each dimension of a parameter (Gupta, Koren & Singer, 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from hybridsim.scenario.settings.base import (
    LearningRate,
    Momentum,
    OptimizerSettings,
    SecondBeta,
    WeightDecay,
)


class Shampoo(OptimizerSettings):
    """A preconditioner for each dimension of a parameter (Gupta et al., arXiv 1802.09568), with
    momentum, grafting and decaying statistics as in Anil et al., arXiv 2002.09018.
    """

    kind: Literal["shampoo"]
    learning_rate: LearningRate
    momentum: Momentum = 0.9
    beta2: float = Field(
        1.0, gt=0, le=1, description="decay of the statistics; 1: their sum, as in the paper"
    )
    epsilon: float = Field(1e-6, gt=0, description="added to the statistics before the root")
    root_every: int = Field(
        20, ge=1, description="T2: steps between two computations of the inverse roots"
    )
    max_dimension: int = Field(
        1200, ge=1, description="of a dimension larger than this only the diagonal is kept"
    )
    grafting: Literal["none", "sgd", "adagrad", "adam"] = Field(
        "adam",
        description="whose step gives each parameter's step its length, the direction being "
        "Shampoo's; none, as in the paper, steps far along what old roots have not seen",
    )
    grafting_beta2: SecondBeta = Field(
        0.999, description="decay of the second moment under grafting: adam"
    )
    grafting_epsilon: float = Field(
        1e-8, gt=0, description="added to the root under grafting: adagrad or adam"
    )
    weight_decay: WeightDecay = 0.0

    def phase(self, step: int) -> Mapping[str, bool | str]:
        """Whether the inverse roots are computed anew: at the first step, then every so often."""
        return {"renew": (step - 1) % self.root_every == 0}
