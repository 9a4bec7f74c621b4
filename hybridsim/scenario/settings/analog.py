"""Settings of algorithms that solve linear systems on SPUs: what is done to get good answers from
imperfect ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hybridsim.scenario.fields import Complaint, Short, Strict, Tau
from hybridsim.scenario.quantity import Raw
from hybridsim.scenario.settings.base import AlgorithmSettings


class Settling(Strict):
    """How long a solve settles; a rule alone stands for a map."""

    rule: Literal["fixed", "bits", "agreement", "budget"] = Field(
        "fixed",
        description="fixed: settle; bits: until the slowest mode, whose rate is at least the "
        "damping, has decayed to 2^-bits, at most settle; agreement: over first, twice, four times "
        "as long, ..., until two readings in a row agree, at most settle; budget: settle is the "
        "analog time of a whole step, in equal shares for all its solves",
    )
    bits: int = Field(8, ge=1, le=24, description="of the slowest mode, under rule: bits")
    tolerance: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="two readings x, y agree: norm of y - x over that of y; under rule: agreement",
    )
    first_tau: Tau = Field(
        1.0, alias="first", description="time of the first reading, under rule: agreement"
    )


class AnalogSettings(AlgorithmSettings):
    """Settings of an algorithm that solves linear systems on SPUs."""

    settling: Annotated[Settling, Short("rule")] = Field(
        default_factory=lambda: Settling.model_validate({}), description="how long a solve settles"
    )
    refinement: int = Field(
        0,
        ge=0,
        le=1000,
        description="iterations of iterative refinement: the GPU computes the residual b - A x, "
        "the SPU solves for it, the answer is added",
    )
    rounding: Literal["nearest", "stochastic"] = Field(
        "nearest",
        description="of what is programmed and driven; stochastic: up or down at random, without "
        "bias",
    )
    programmes: int = Field(
        1,
        ge=1,
        le=10_000,
        description="programmes of every system whose answers are averaged, each rounded anew; "
        "under rounding: stochastic",
    )

    @property
    def solves_of_each(self) -> int:
        """So many settles follow from each right-hand side, agreement apart."""
        return self.programmes * (1 + self.refinement)

    @property
    def single_reading(self) -> bool:
        """Whether a programme's first reading is its answer."""
        return self.settling.rule != "agreement" and self.refinement == 0

    @property
    def one_settle(self) -> bool:
        """Whether an answer is one settle's, of what was rounded to nearest levels."""
        return self.single_reading and self.rounding == "nearest"

    def complaints_of_programmes(self) -> list[Complaint]:
        """Programmes that are all alike."""
        if self.rounding == "stochastic" or self.programmes == 1:
            return []
        expected = "1 under rounding: nearest (programmes that are all alike)"
        return [Complaint(("programmes",), expected, str(self.programmes))]

    def complaints_of_use(self, where: str) -> list[Complaint]:
        """What is set that one reading alone does not serve, ``where`` there is only one."""
        asked: dict[str, tuple[Raw, Raw]] = {
            "settling": (self.settling.rule, "fixed"),
            "refinement": (self.refinement, 0),
            "rounding": (self.rounding, "nearest"),
            "programmes": (self.programmes, 1),
        }
        return [
            Complaint((name,), f"{only} {where}", repr(got))
            for name, (got, only) in asked.items()
            if got != only
        ]
