"""Thermodynamic natural gradient descent (arXiv 2405.13817)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Strict, Tau, complain
from hybridsim.scenario.quantity import Raw, format_quantity
from hybridsim.scenario.settings.analog import AnalogSettings
from hybridsim.scenario.settings.base import (
    Curvature,
    Damping,
    FisherSamples,
    LearningRate,
    Noise,
)

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


class Tngd(AnalogSettings):
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
    curvature: Curvature = Field("ggn", description="which curvature is uploaded")
    fisher_samples: FisherSamples = 1
    jacobian_upload: Literal["once", "twice"] = Field(
        "once",
        description="J serves both arrays, or is sent to each; under rounding: stochastic they are "
        "rounded alike, or apart, which leaves no bias",
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
    spus: Literal["first", "ensemble", "split", "iterated"] = Field(
        "first",
        description="first: the others stay idle; ensemble: every SPU solves the same system, the "
        "answers are averaged on the GPU; split: all hold one system together, each its share of "
        "the parameters, with analog lines between neighbours; iterated: without such lines, each "
        "solves the block of its share in turn (Gauss-Seidel over the link)",
    )
    sweeps: int = Field(
        4, ge=1, le=100_000, description="iterated: how often every SPU solves, settle each time"
    )
    noise: Noise = 0.0
    readout: Readout = Field(
        default_factory=lambda: Readout.model_validate({}), description="what one measurement is"
    )
    calibration_every: int | None = Field(
        None,
        ge=1,
        description="steps between two calibrations, from the first step on: the gradient is "
        "solved for once more with its sign reversed, and half the sum of both answers, which "
        "offsets make, is subtracted from all answers until the next; default: never",
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
    pipeline: Literal["none", "upload"] = Field(
        "none",
        description="asynchronous: none: a reading waits until the system that answers the one "
        "before is in force; upload: it is taken, and the next linearization begins, while that "
        "system is still on its way (double buffering)",
    )

    @property
    def split_by_effect(self) -> bool:
        """Whether an answer's error is: it is one settle's, of the newest system that was asked."""
        alone = self.spus in ("first", "split") and self.calibration_every is None
        return alone and self.one_settle and self.pipeline == "none"

    @property
    def strength(self) -> float:
        """Strength q of the quartic term, 0 without."""
        return 0.0 if self.regularisation is None else self.regularisation.strength

    @property
    def needs_spu(self) -> bool:
        """Always: the direction is the answer of an SPU."""
        return True

    @property
    def reads_clock(self) -> bool:
        """An SPU that never stops relaxes for as long as the others take."""
        return self.mode == "asynchronous"

    @property
    def relaxes_while_written(self) -> bool:
        """Whether an SPU goes on, if it can, while its next system is on its way."""
        return self.mode == "asynchronous" and self.delay_tau is None

    @model_validator(mode="before")
    @classmethod
    def _default_state(cls, value: Raw) -> Raw:
        """A device that never stops keeps its state unless told otherwise."""
        if isinstance(value, dict) and value.get("mode") == "asynchronous" and "state" not in value:
            return {**value, "state": "kept"}
        return value

    @model_validator(mode="after")
    def _cross_fields(self) -> Tngd:
        complaints = self.complaints_of_programmes()
        if self.mode == "asynchronous":
            complaints += self.complaints_of_use("in asynchronous mode")
            if self.spus == "ensemble":
                expected = "first or split in asynchronous mode"
                complaints.append(Complaint(("spus",), expected, repr(self.spus)))
        elif self.state == "kept" and (self.refinement or self.calibration_every):
            by = "refinement" if self.refinement else "calibration_every"
            expected = f"reset under {by} (the state that is kept would be another one's)"
            complaints.append(Complaint(("state",), expected, "'kept'"))
        if self.calibration_every and self.mode == "asynchronous":
            expected = "never in asynchronous mode"
            complaints.append(
                Complaint(("calibration_every",), expected, str(self.calibration_every))
            )
        if self.calibration_every and self.settling.rule == "agreement":
            expected = "another rule under calibration_every (offsets settle as long as answers)"
            complaints.append(Complaint(("settling",), expected, "'agreement'"))
        if self.refinement and self.regularisation:
            expected = "0 under regularisation (residuals are those of the linear system)"
            complaints.append(Complaint(("refinement",), expected, str(self.refinement)))
        if self.refinement and self.curvature == "sampled_fisher":
            expected = "ggn or empirical_fisher under refinement (drawn labels have no products)"
            complaints.append(Complaint(("curvature",), expected, "'sampled_fisher'"))
        if self.mode == "synchronous" and self.delay_tau is not None:
            complaints.append(
                self._complaint("delay", "no delay in synchronous mode", self.delay_tau)
            )
        if self.mode == "synchronous" and self.wait_tau:
            complaints.append(self._complaint("wait", "no wait in synchronous mode", self.wait_tau))
        if self.spus == "iterated":
            complaints += self._complaints_of_iterated()
        if self.mode == "synchronous" and self.pipeline != "none":
            complaints.append(Complaint(("pipeline",), "none in synchronous mode", "'upload'"))
        if self.delay_tau is not None and self.pipeline != "none":
            complaints.append(
                self._complaint("delay", "no delay under pipeline: upload", self.delay_tau)
            )
        if self.delay_tau is not None and self.delay_tau > self.settle_tau:
            expected = f"at most the settling time {format_quantity(self.settle_tau, 'tau')}"
            complaints.append(self._complaint("delay", expected, self.delay_tau))
        complain(complaints)
        return self

    def complaints_of_gpus(self, gpus: int) -> list[Complaint]:
        """What is done on one GPU alone."""
        found = []
        if self.spus == "ensemble":
            expected = f"first or split with {gpus} GPUs (an ensemble solves what one GPU sends)"
            found.append(Complaint(("spus",), expected, "'ensemble'"))
        if self.refinement:
            expected = f"0 with {gpus} GPUs (residuals of shares are not averaged)"
            found.append(Complaint(("refinement",), expected, str(self.refinement)))
        return found

    def _complaints_of_iterated(self) -> list[Complaint]:
        """What blocks that relax in turn do not serve."""
        found, where = [], "under spus: iterated"
        if self.mode == "asynchronous":
            found.append(Complaint(("mode",), f"synchronous {where}", "'asynchronous'"))
        else:
            found += self.complaints_of_use(where)
        if self.calibration_every and self.mode == "synchronous":
            got = str(self.calibration_every)
            found.append(Complaint(("calibration_every",), f"never {where}", got))
        if self.regularisation:
            found.append(Complaint(("regularisation",), f"nothing {where}", "'quartic'"))
        if self.readout.samples > 1:
            samples = str(self.readout.samples)
            found.append(Complaint(("readout", "samples"), f"1 {where}", samples))
        return found

    @staticmethod
    def _complaint(key: str, expected: str, value_tau: float) -> Complaint:
        return Complaint((key,), expected, repr(format_quantity(value_tau, "tau")))
