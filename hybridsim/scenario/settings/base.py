"""What the settings of algorithms and of optimizers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Short, Strict, complain

LearningRate = Annotated[float, Field(gt=0, description="step size eta")]
FirstBeta = Annotated[float, Field(ge=0, lt=1, description="decay of the first moment")]
SecondBeta = Annotated[float, Field(ge=0, lt=1, description="decay of the second moment")]
Momentum = Annotated[float, Field(ge=0, lt=1, description="momentum")]
Epsilon = Annotated[float, Field(gt=0, description="added to the root of the second moment")]
CoupledWeightDecay = Annotated[
    float, Field(ge=0, description="w: w theta is added to the gradient (L2)")
]
WeightDecay = Annotated[
    float, Field(ge=0, description="w, decoupled: theta shrinks by eta w; 0 under update:")
]
Noise = Annotated[
    float,
    Field(ge=0, description="injected noise kappa0: the stationary covariance is kappa0 A^-1"),
]
Curvature = Literal["ggn", "empirical_fisher", "sampled_fisher"]
FisherSamples = Annotated[
    int,
    Field(
        ge=1,
        le=10_000,
        description="labels drawn for each loss term, under curvature: sampled_fisher; b times as "
        "many rows",
    ),
]
Damping = Annotated[float, Field(gt=0, description="lambda, added to the curvature")]


class Schedule(Strict):
    """How the learning rate changes over the steps: a linear warm-up, then one of three ways."""

    kind: Literal["constant", "cosine", "linear"] = Field(
        description="after the warm-up: constant; cosine, half a period of it; linear, in "
        "proportion to the steps left"
    )
    warmup_steps: int = Field(0, ge=0, description="W: step k <= W has k/W of the learning rate")
    steps: int | None = Field(
        None, ge=1, description="step at which the final rate is reached; default: training.steps"
    )
    final: float = Field(
        0.0, ge=0, le=1, description="share of the learning rate from there on; not if constant"
    )

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Schedule:
        if self.steps is not None and self.warmup_steps >= self.steps:
            expected = f"fewer than the {self.steps} steps of the schedule"
            complain([Complaint(("warmup_steps",), expected, str(self.warmup_steps))])
        return self


class AlgorithmSettings(Strict):
    """Settings of what trains; a subclass has ``kind: Literal[...]``, the name of its module."""

    kind: str
    schedule: Annotated[Schedule, Short("kind")] | None = Field(
        None, description="of the learning rate, over the steps; default: constant"
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="largest norm of the direction that the optimizer takes for the gradient; an "
        "optimizer by itself takes the gradient; default: never clipped",
    )
    if TYPE_CHECKING:
        learning_rate: float  # every algorithm has one; an optimizer under update: does without

    @property
    def needs_spu(self) -> bool:
        """Whether it cannot run without an analog processor."""
        return False

    @property
    def one_gpu(self) -> bool:
        """Whether it computes on the first GPU alone."""
        return False

    @property
    def reads_clock(self) -> bool:
        """Whether numbers depend on how long operations take."""
        return False

    @property
    def telling_steps(self) -> int:
        """So many steps show all that a step can take of memory: the optimizer's phases."""
        update: AlgorithmSettings | None = getattr(self, "update", None)
        return 2 if update is None else update.telling_steps


TRAINING = ("learning_rate", "schedule", "clip_norm")
"""Fields of what trains that an optimizer under ``update:`` does without."""


class OptimizerSettings(AlgorithmSettings):
    """Settings of a first-order optimizer.

    It trains by itself on the gradient, with the fields of ``TRAINING``; or under ``update:`` of
    another algorithm on the direction that this one found, with its. Every other field but ``kind``
    is a keyword argument of the function ``update`` of
    ``hybridsim/algorithms/optimizers/<kind>.py``, and so is what ``phase`` returns.
    """

    def phase(self, step: int) -> Mapping[str, bool | str]:
        """What else ``update`` is told of a step, counted from 1: such as whether it renews a
        preconditioner, and so costs more. Steps of one phase cost the same.
        """
        return {}


if TYPE_CHECKING:
    Update = OptimizerSettings
