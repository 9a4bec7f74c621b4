"""Thermodynamic natural gradient descent (arXiv 2405.13817)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Strict, Tau, complain
from hybridsim.scenario.quantity import Raw, format_quantity
from hybridsim.scenario.settings.base import AlgorithmSettings, Damping, LearningRate, Noise

if TYPE_CHECKING:  # the package resolves it, once every optimizer is found
    from hybridsim.scenario.settings.base import Update


class Readout(Strict):
    """What one measurement is: the mean of some samples."""

    samples: int = Field(1, ge=1, le=10_000, description="samples averaged in one measurement")
    spacing_tau: Tau = Field(1.0, alias="spacing", description="time between two of them")


class Regularisation(Strict):
    """What is added to the quadratic model, by a non-linear element in every cell."""

    kind: Literal["quartic"] = Field(
        description="1/4 q sum x_j^4: a current q x^3 in every cell (arXiv 2502.08603, appendix A)"
    )
    strength: float = Field(gt=0, description="q, in the units in which A and x are given")


def _without_default(schema: dict[str, Raw]) -> None:
    """The default depends on another field."""
    schema.pop("default", None)


class Tngd(AlgorithmSettings):
    """Thermodynamic natural gradient descent (arXiv 2405.13817).

    The SPU relaxes dx = -(A x - g) dtau + sqrt(2 kappa0) dW with A = J'HJ/b + lambda I;
    then theta <- theta - eta x.
    """

    kind: Literal["tngd"]
    learning_rate: LearningRate = 0.1
    damping: Damping = 0.1
    settle_tau: Tau = Field(
        50.0, alias="settle", description="analog time of one step in units of RC; 0 is SGD"
    )
    mode: Literal["synchronous", "asynchronous"] = Field(
        "synchronous",
        description="synchronous: GPU and SPU wait for each other; "
        "asynchronous: the SPU never stops",
    )
    state: Literal["reset", "kept"] = Field(
        "reset",
        description="each step starts from g, or where the last ended; default: reset in "
        "synchronous mode, kept in asynchronous mode",
        json_schema_extra=_without_default,
    )
    update: Update = Field(
        "sgd",
        validate_default=True,
        description="the optimizer that takes the thermodynamic direction for the gradient; "
        "adam: TNGD-Adam",
    )
    curvature: Literal["ggn", "empirical_fisher"] = Field(
        "ggn", description="which curvature is uploaded"
    )
    jacobian_upload: Literal["once", "twice"] = Field(
        "once", description="J serves both arrays, or is sent to each"
    )
    hessian_upload: Literal["block_diagonal", "full"] = Field(
        "block_diagonal",
        description="what of the loss Hessian crosses the link: its blocks, or the full array; "
        "every entry, as the paper counts",
    )
    regularisation: Regularisation | None = Field(
        None,
        description="the step minimises 1/2 x'Ax - g'x and this; default: nothing, a linear system",
    )
    noise: Noise = 0.0
    readout: Readout = Field(
        default_factory=lambda: Readout.model_validate({}), description="what one measurement is"
    )
    delay_tau: Tau | None = Field(
        None,
        alias="delay",
        description="asynchronous: forced time t_d from the first reading to the system that "
        "answers it; else it emerges",
    )
    wait_tau: Tau = Field(
        0.0,
        alias="wait",
        description="asynchronous: time between the swap to a new system and the measurement; "
        "under a forced delay it is settle - delay",
    )

    @property
    def strength(self) -> float:
        """Strength q of the quartic term, 0 without."""
        return 0.0 if self.regularisation is None else self.regularisation.strength

    @property
    def needs_spu(self) -> bool:
        """Always: the direction is the answer of an SPU."""
        return True

    @property
    def one_gpu(self) -> bool:
        """Always the first."""
        return True

    @property
    def reads_clock(self) -> bool:
        """An SPU that never stops relaxes for as long as the others take."""
        return self.mode == "asynchronous"

    @model_validator(mode="before")
    @classmethod
    def _default_state(cls, value: Raw) -> Raw:
        """A device that never stops keeps its state unless told otherwise."""
        if isinstance(value, dict) and value.get("mode") == "asynchronous" and "state" not in value:
            return {**value, "state": "kept"}
        return value

    @model_validator(mode="after")
    def _cross_fields(self) -> Tngd:
        complaints = []
        if self.mode == "synchronous" and self.delay_tau is not None:
            complaints.append(
                self._complaint("delay", "no delay in synchronous mode", self.delay_tau)
            )
        if self.mode == "synchronous" and self.wait_tau:
            complaints.append(self._complaint("wait", "no wait in synchronous mode", self.wait_tau))
        if self.delay_tau is not None and self.delay_tau > self.settle_tau:
            expected = f"at most the settling time {format_quantity(self.settle_tau, 'tau')}"
            complaints.append(self._complaint("delay", expected, self.delay_tau))
        complain(complaints)
        return self

    @staticmethod
    def _complaint(key: str, expected: str, value_tau: float) -> Complaint:
        return Complaint((key,), expected, repr(format_quantity(value_tau, "tau")))
