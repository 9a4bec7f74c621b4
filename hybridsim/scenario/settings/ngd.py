"""Natural gradient descent on the GPU alone: explicit, Woodbury, or by conjugate gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Strict, complain
from hybridsim.scenario.settings.base import (
    AlgorithmSettings,
    Curvature,
    Damping,
    FisherSamples,
    LearningRate,
)

if TYPE_CHECKING:  # the package resolves it, once every optimizer is found
    from hybridsim.scenario.settings.base import Update


class LevenbergMarquardt(Strict):
    """lambda follows the ratio of actual to predicted reduction of the loss (Martens & Grosse 2015,
    section 6.5; Martens 2010: every 1, decay 2/3).
    """

    every: int = Field(5, ge=1, description="T1: steps between two changes of lambda")
    decay: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="omega: decay^every multiplies lambda where the ratio is above 3/4, "
        "and divides it where it is below 1/4",
    )


class Ngd(AlgorithmSettings):
    """Natural gradient descent, digital: (A + lambda I) x = g with A = J'HJ/b, on the first GPU."""

    kind: Literal["ngd"]
    learning_rate: LearningRate = 0.1
    damping: Damping = 0.1
    levenberg_marquardt: LevenbergMarquardt | None = Field(
        None, description="adapts lambda from step to step; default: it is fixed"
    )
    method: Literal["cholesky", "cg", "woodbury"] = Field(
        "woodbury",
        description="cholesky: A (N, N) is formed and factorised; cg: conjugate gradients, A only "
        "as products with vectors; woodbury: the system of J's rows",
    )
    curvature: Curvature = Field("ggn", description="what A is")
    fisher_samples: FisherSamples = 1
    iterations: int = Field(
        50, ge=1, le=1_000_000, description="most iterations of a solve, under method: cg"
    )
    tolerance: float = Field(
        1e-3,
        ge=0,
        lt=1,
        description="cg stops at |r| <= tolerance |g|; below the rounding of the task's precision "
        "it stops there",
    )
    warm_start: bool = Field(
        False, description="cg starts from the last step's solution rather than from zero"
    )
    update: Update = Field(
        "sgd",
        validate_default=True,
        description="the optimizer that takes the natural gradient for the gradient",
    )

    @model_validator(mode="after")
    def _formed_rows(self) -> Ngd:
        """Drawn rows are formed: there are no products with the curvature of drawn labels."""
        if self.curvature == "sampled_fisher" and self.method == "cg":
            complain([Complaint(("method",), "cholesky or woodbury (sampled_fisher)", "'cg'")])
        if self.curvature == "sampled_fisher" and self.levenberg_marquardt is not None:
            expected = "none under curvature: sampled_fisher"
            complain([Complaint(("levenberg_marquardt",), expected, "one")])
        return self

    @property
    def one_gpu(self) -> bool:
        """Always the first."""
        return True
