"""What the settings of algorithms and of optimizers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridsim.scenario.fields import Strict

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
Damping = Annotated[float, Field(gt=0, description="lambda, added to the curvature")]


class AlgorithmSettings(Strict):
    """Settings of what trains; a subclass has ``kind: Literal[...]``, the name of its module."""

    kind: str
    if TYPE_CHECKING:
        learning_rate: float  # every algorithm has one; an optimizer under update: does without

    @property
    def needs_spu(self) -> bool:
        """Whether it cannot run without an analog processor."""
        return False

    @property
    def reads_clock(self) -> bool:
        """Whether numbers depend on how long operations take."""
        return False


class OptimizerSettings(AlgorithmSettings):
    """Settings of a first-order optimizer.

    It trains by itself on the gradient, with the field ``learning_rate``; or under ``update:`` of
    another algorithm on the direction that this one found, with its learning rate. Every other
    field but ``kind`` is a keyword argument of the function ``update`` of
    ``hybridsim/algorithms/optimizers/<kind>.py``, and so is what ``phase`` returns.
    """

    def phase(self, step: int) -> Mapping[str, bool | str]:
        """What else ``update`` is told of a step, counted from 1: such as whether it renews a
        preconditioner, and so costs more. Steps of one phase cost the same.
        """
        return {}


if TYPE_CHECKING:
    Update = OptimizerSettings
