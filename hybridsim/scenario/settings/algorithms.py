"""Training algorithms and their settings, one class per ``kind``.

Papers: thermodynamic natural gradient descent (arXiv 2405.13817) for ``tngd``; scalable
thermodynamic second-order optimization (arXiv 2502.08603) and Martens & Grosse 2015 (MG15) for
``kfac``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Strict, Tau, complain
from hybridsim.scenario.quantity import format_quantity

LearningRate = Annotated[float, Field(gt=0, description="step size eta")]
Beta = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0)]
Noise = Annotated[
    float,
    Field(ge=0, description="injected noise kappa0: the stationary covariance is kappa0 A^-1"),
]
Damping = Annotated[float, Field(gt=0, description="lambda, added to the curvature")]


class Sgd(Strict):
    """theta <- theta - eta g."""

    kind: Literal["sgd"]
    learning_rate: LearningRate


class Nesterov(Strict):
    """SGD with Nesterov momentum, as torch.optim.SGD(nesterov=True)."""

    kind: Literal["nesterov"]
    learning_rate: LearningRate
    momentum: Beta = Field(0.9, description="momentum")


class Adam(Strict):
    """As torch.optim.Adam."""

    kind: Literal["adam"]
    learning_rate: LearningRate = 1e-3
    beta1: Beta = Field(0.9, description="decay of the first moment")
    beta2: Beta = Field(0.999, description="decay of the second moment")
    epsilon: Epsilon = Field(1e-8, description="added to the root of the second moment")


class NAdamW(Strict):
    """As torch.optim.NAdam(decoupled_weight_decay=True)."""

    kind: Literal["nadamw"]
    learning_rate: LearningRate = 1e-3
    beta1: Beta = Field(0.9, description="decay of the first moment")
    beta2: Beta = Field(0.999, description="decay of the second moment")
    epsilon: Epsilon = Field(1e-8, description="added to the root of the second moment")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")


class AdamMoments(Strict):
    """Adam's settings where it takes the thermodynamic direction for the gradient (TNGD-Adam)."""

    beta1: Beta = Field(0.9, description="decay of the first moment")
    beta2: Beta = Field(0.999, description="decay of the second moment")
    epsilon: Epsilon = Field(1e-8, description="added to the root of the second moment")


class Readout(Strict):
    """What one measurement is: the mean of some samples."""

    samples: int = Field(1, ge=1, description="samples averaged in one measurement")
    spacing_tau: Tau = Field(1.0, alias="spacing", description="time between two of them")


def _without_default(schema: dict[str, Any]) -> None:
    """The default depends on another field."""
    schema.pop("default", None)


class Tngd(Strict):
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
        description="synchronous: GPU and SPU wait for each other; asynchronous: the SPU never "
        "stops",
    )
    state: Literal["reset", "kept"] = Field(
        "reset",
        description="each step starts from g, or where the last ended; default: reset in "
        "synchronous mode, "
        "kept in asynchronous mode",
        json_schema_extra=_without_default,
    )
    update: Literal["sgd", "adam"] = Field(
        "sgd", description="what moves the parameters along the direction"
    )
    adam: AdamMoments | None = Field(None, description="Adam's settings, under update: adam")
    curvature: Literal["ggn", "empirical_fisher"] = Field(
        "ggn", description="which curvature is uploaded"
    )
    jacobian_upload: Literal["once", "twice"] = Field(
        "once", description="J serves both arrays, or is sent to each"
    )
    hessian_upload: Literal["block_diagonal", "full"] = Field(
        "block_diagonal",
        description="what of the loss Hessian crosses the link: its blocks, or the full array",
    )
    noise: Noise = 0.0
    readout: Readout = Field(
        default_factory=lambda: Readout.model_validate({}), description="what one measurement is"
    )
    delay_tau: Tau | None = Field(
        None,
        alias="delay",
        description="asynchronous: forced time t_d between measurement and upload; else it emerges",
    )
    wait_tau: Tau = Field(
        0.0,
        alias="wait",
        description="asynchronous: time between the swap to a new system and the measurement",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_moments(cls, value: Any) -> Any:
        """``update: adam`` alone means Adam's defaults."""
        if isinstance(value, dict) and value.get("update") == "adam" and value.get("adam") is None:
            return {**value, "adam": {}}
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_state(cls, value: Any) -> Any:
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


class Moments(Strict):
    """Settings of Adam or NAdamW where they take the preconditioned gradient for the gradient."""

    beta1: Beta = Field(0.9, description="decay of the first moment")
    beta2: Beta = Field(0.999, description="decay of the second moment")
    epsilon: Epsilon = Field(1e-8, description="added to the root of the second moment")
    weight_decay: float = Field(
        0.0, ge=0, description="decoupled weight decay, under update: nadamw"
    )


class Covariance(Strict):
    """How method: noise samples an SPU at rest, to take the covariance for the inverse."""

    samples: int = Field(1000, ge=1, description="samples of the state")
    spacing_tau: Tau = Field(1.0, alias="spacing", description="time between two of them")


class Kfac(Strict):
    """K-FAC (MG15), digital or thermodynamic (arXiv 2502.08603): U = (G + lambda_g I)^-1 D (A +
    lambda_a I)^-1.
    """

    kind: Literal["kfac"]
    learning_rate: LearningRate
    damping: Damping
    damping_rule: Literal["plain", "pi", "exact"] = Field(
        "pi",
        description="plain: A + lambda I, G + lambda I; pi: sqrt(lambda) split by the traces "
        "(MG15); "
        "exact: A x G + lambda I, digital only",
    )
    method: Literal["digital", "solves", "inverse", "noise"] = Field(
        "solves",
        description="digital: inverses on the GPU; solves: linear systems on SPUs (method 2); "
        "inverse: inverses on SPUs "
        "by unit columns, noise: from the covariance of the noise (method 1)",
    )
    fisher: Literal["type2", "mc", "empirical"] = Field(
        "type2",
        description="G from the loss Hessian's root, from drawn labels, or from the data's labels",
    )
    fisher_samples: int = Field(
        1, ge=1, description="labels drawn for each loss term, under fisher: mc"
    )
    sharing: Literal["expand", "reduce"] = Field(
        "expand",
        description="layers used at many positions: every position counts, or their sum (NeurIPS "
        "2023)",
    )
    ema: float = Field(
        0.95, ge=0, lt=1, description="weight of the old factor in the moving average"
    )
    factors_every: int = Field(
        1, ge=1, description="T1: steps between two computations of the factors"
    )
    inverses_every: int = Field(1, ge=1, description="T2: steps between two uses of new factors")
    upload: Literal["factors", "activations"] = Field(
        "factors",
        description="what the SPUs receive: factors, or activations and gradients (no moving "
        "average)",
    )
    settle_tau: Tau = Field(
        1.0, alias="settle", description="analog time of one solve in units of RC"
    )
    noise: Noise = 0.0
    covariance: Covariance = Field(
        default_factory=lambda: Covariance.model_validate({}),
        description="sampling, under method: noise",
    )
    placement: Literal["auto", "layers", "columns"] = Field(
        "auto",
        description="auto: longest predicted time first to the SPU that is free first; layers: "
        "factors in turn; "
        "columns: the columns of every factor over all SPUs",
    )
    pipelining: bool = Field(
        True, description="a layer's factors leave as soon as its backward pass has run"
    )
    stale: bool = Field(
        False, description="the GPU goes on with the preconditioner before the newest"
    )
    tiling: bool = Field(
        False, description="factors larger than an SPU are solved in blocks (Schur complements)"
    )
    update: Literal["sgd", "nesterov", "adam", "nadamw"] = Field(
        "nesterov", description="what moves the parameters along the preconditioned gradient"
    )
    momentum: Beta = Field(0.9, description="momentum, under update: nesterov")
    moments: Moments | None = Field(
        None, description="Adam's settings, under update: adam or nadamw"
    )
    kl_clip: float | None = Field(
        None,
        gt=0,
        description="kappa: the step is shortened to eta^2 |<U, D>| <= kappa; default: never",
    )

    @property
    def thermodynamic(self) -> bool:
        """Whether it needs SPUs."""
        return self.method != "digital"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        """``update: adam`` alone means Adam's defaults; activations leave nothing to average."""
        if isinstance(value, dict):
            if value.get("update") in ("adam", "nadamw") and value.get("moments") is None:
                value = {**value, "moments": {}}
            if value.get("upload") == "activations" and "ema" not in value:
                value = {**value, "ema": 0.0}
        return value

    @model_validator(mode="after")
    def _cross_fields(self) -> Kfac:
        complaints = []
        if self.damping_rule == "exact" and self.thermodynamic:
            expected = "plain or pi (exact is no two solves: method: digital only)"
            complaints.append(Complaint(("damping_rule",), expected, "'exact'"))
        if self.inverses_every < self.factors_every:
            expected = f"at least factors_every ({self.factors_every})"
            complaints.append(Complaint(("inverses_every",), expected, str(self.inverses_every)))
        if self.method == "noise" and self.noise == 0:
            complaints.append(Complaint(("noise",), "more than 0 under method: noise", "0"))
        if self.upload == "activations":
            complaints += self._complaints_of_activations()
        if self.method == "noise" and self.tiling:
            complaints.append(
                Complaint(
                    ("tiling",), "no tiling under method: noise (a block shows no inverse)", "True"
                )
            )
        complain(complaints)
        return self

    def _complaints_of_activations(self) -> list[Complaint]:
        found = []
        if self.method == "digital":
            found.append(Complaint(("upload",), "factors under method: digital", "'activations'"))
        if self.ema:
            found.append(Complaint(("ema",), "0 under upload: activations", str(self.ema)))
        if self.tiling:
            found.append(Complaint(("tiling",), "no tiling under upload: activations", "True"))
        return found


Algorithm = Annotated[Sgd | Nesterov | Adam | NAdamW | Tngd | Kfac, Field(discriminator="kind")]
FIRST_ORDER = ("sgd", "nesterov", "adam", "nadamw")


def needs_spu(algorithm: Any) -> bool:
    """Whether an algorithm cannot run without an analog processor."""
    return isinstance(algorithm, Tngd) or (isinstance(algorithm, Kfac) and algorithm.thermodynamic)
