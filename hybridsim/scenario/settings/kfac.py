"""K-FAC: Martens & Grosse 2015 (MG15); thermodynamic, arXiv 2502.08603."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Short, Strict, Tau, complain
from hybridsim.scenario.settings.analog import AnalogSettings
from hybridsim.scenario.settings.base import Damping, LearningRate, Noise

if TYPE_CHECKING:  # the package resolves it, once every optimizer is found
    from hybridsim.scenario.settings.base import Update


class Covariance(Strict):
    """How method: noise samples an SPU at rest, to take the covariance for the inverse."""

    samples: int = Field(1000, ge=1, le=1_000_000, description="samples of the state")
    spacing_tau: Tau = Field(1.0, alias="spacing", description="time between two of them")


class Inversion(Strict):
    """How method: digital inverts the damped factors; ``cholesky`` and the like stand for a map."""

    kind: Literal["cholesky", "newton_schulz"] = Field(
        "cholesky",
        description="cholesky: cholesky and cholesky_inverse; newton_schulz: products alone, "
        "X <- X (2 I - A X)",
    )
    batched: bool = Field(
        False,
        description="factors of equal size are inverted in one call: blocks wait for each other",
    )
    iterations: int = Field(
        40, ge=1, le=10_000, description="newton_schulz: most iterations, then Cholesky"
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="newton_schulz: it ends at ||I - A X||_F <= tolerance sqrt(n)",
    )
    warm_start: bool = Field(
        True,
        description="newton_schulz: from the inverse before, where ||I - A X||_F < 1; otherwise "
        "from I / ||A||_F",
    )

    @property
    def direct(self) -> bool:
        """Whether each factor is inverted by itself and in one go."""
        return self.kind == "cholesky" and not self.batched


class Kfac(AnalogSettings):
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
    inversion: Annotated[Inversion, Short("kind")] = Field(
        default_factory=lambda: Inversion.model_validate({}),
        description="inverses under method: digital",
    )
    fisher: Literal["type2", "type2_per_term", "mc", "empirical"] = Field(
        "type2",
        description="G from the loss Hessian's root (type2 keeps cross terms between several loss "
        "terms of an example, type2_per_term takes a pass for each and has none), from drawn "
        "labels, or from the data's labels",
    )
    fisher_samples: int = Field(
        1, ge=1, le=10_000, description="labels drawn for each loss term, under fisher: mc"
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
        20.0,
        alias="settle",
        description="analog time of one solve in units of RC; 1, as arXiv 2502.08603 prices it, "
        "does not train",
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
    auto_zero: bool = Field(
        False,
        description="a column without a drive settles and is read with every piece of work, and is "
        "taken off the others' answers: offsets cancel",
    )
    update: Update = Field(
        "nesterov",
        validate_default=True,
        description="the optimizer that takes the preconditioned gradient for the gradient",
    )
    kl_clip: float | None = Field(
        None,
        gt=0,
        description="kappa: the step is shortened to eta^2 |<U, D>| <= kappa; default: never",
    )

    @property
    def thermodynamic(self) -> bool:
        """Whether SPUs do its linear algebra."""
        return self.method != "digital"

    @property
    def needs_spu(self) -> bool:
        """Unless the GPU inverts."""
        return self.thermodynamic

    @model_validator(mode="before")
    @classmethod
    def _default_average(cls, value: Any) -> Any:  # Any: not checked yet
        """Activations leave nothing to average."""
        if isinstance(value, dict) and value.get("upload") == "activations" and "ema" not in value:
            return {**value, "ema": 0.0}
        return value

    @model_validator(mode="after")
    def _cross_fields(self) -> Kfac:
        complaints = self.complaints_of_programmes()
        if self.method == "noise":
            complaints += self.complaints_of_use("under method: noise")
        if self.settling.rule == "budget" and self.tiling:
            expected = "no tiling under settling: budget (tiles solve more columns)"
            complaints.append(Complaint(("tiling",), expected, "True"))
        if self.damping_rule == "exact" and self.thermodynamic:
            expected = "plain or pi (exact is no two solves: method: digital only)"
            complaints.append(Complaint(("damping_rule",), expected, "'exact'"))
        if self.damping_rule == "exact" and not self.inversion.direct:
            expected = "plain or pi (exact has eigendecompositions: inversion: cholesky, unbatched)"
            complaints.append(Complaint(("damping_rule",), expected, "'exact'"))
        if self.inverses_every < self.factors_every:
            expected = f"at least factors_every ({self.factors_every})"
            complaints.append(Complaint(("inverses_every",), expected, str(self.inverses_every)))
        if self.method == "noise" and self.noise == 0:
            complaints.append(Complaint(("noise",), "more than 0 under method: noise", "0"))
        if self.auto_zero and self.method in ("digital", "noise"):
            expected = f"false under method: {self.method} (no columns)"
            complaints.append(Complaint(("auto_zero",), expected, "True"))
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
