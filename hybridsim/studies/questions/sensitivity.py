"""What a measure depends on: constants, or sampled axes, one at a time or all together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import pandas as pd
from pydantic import Field

from hybridsim.studies.questions._axes import (
    Trouble,
    constant_problems,
    measure_problems,
    names_of,
)
from hybridsim.studies.questions._cells import plain
from hybridsim.studies.questions._extras import missing
from hybridsim.studies.questions._factors import (
    ConstantFactors,
    Factors,
    axis_factors,
    constant_factors,
)
from hybridsim.studies.questions._measures import Measure, word
from hybridsim.studies.questions._sensitivity import morris, sobol, tornado
from hybridsim.studies.questions._sensitivity_words import notes_of, sentence
from hybridsim.studies.questions.base import Answer, Lab, Question

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study


class Sensitivity(Question):
    """How much the logarithm of a measure depends on each constant, or on each sampled axis; with
    two sides that of their ratio. ``tornado``: one after the other at its low and high end;
    ``sobol``: shares of the variance when all vary; ``morris``: mean elementary effects.
    """

    kind: Literal["sensitivity"]
    adaptive: ClassVar[bool] = True
    method: Literal["tornado", "sobol", "morris"] = Field(
        "tornado", description="sobol and morris need SALib: pip install 'hybridsim[sensitivity]'"
    )
    measure: Measure = Field("seconds", description="what is looked at, in its logarithm")
    over: Literal["constants", "axes"] = Field(
        "constants", description="the parts' constants that have a range, or the sampled axes"
    )
    constants: list[str] | None = Field(
        None,
        description="names <datasheet>.<constant> of those that vary; default: all that have a "
        "range",
    )
    numeric: Literal["hold", "vary"] = Field(
        "hold", description="constants that change numbers that are computed; varied ones run live"
    )
    samples: int = Field(
        64,
        ge=4,
        le=65_536,
        description="sobol: base samples, a power of two, each evaluated (factors + 2) times; "
        "morris: trajectories of (factors + 1)",
    )
    simulate: int = Field(
        200,
        ge=0,
        description="draws for which no recording holds that are simulated, for each side and seed",
    )

    def problems(self, study: Study) -> Trouble:
        """One side or two; something that varies; SALib where it is needed."""
        found = measure_problems(study, "measure", self.measure)
        found += constant_problems(study, self.constants)
        if len(study.sides) > 2:
            found.append(
                (("scenarios",), "one side, or two that are compared", f"{len(study.sides)}")
            )
        sampled = [axis for axis in study.axes if axis.kind == "sample"]
        if self.over == "axes":
            found += self._axis_problems(study, len(sampled))
        elif study.axes:
            got = "axes beside 'over: constants'"
            found.append((("axes",), "no axes (constants vary), or 'over: axes'", got))
        if self.method == "sobol" and self.samples & (self.samples - 1):
            found.append((("question", "samples"), "a power of two", str(self.samples)))
        if self.method != "tornado":
            found += missing("SALib", "sensitivity", ("question", "method"), self.method)
        return found

    def _axis_problems(self, study: Study, sampled: int) -> Trouble:
        if sampled < len(study.axes) or not sampled:
            got = f"{len(study.axes) - sampled} others" if study.axes else "none"
            return [(("axes",), "sampled axes only", got)]
        if self.constants is not None:
            return [(("question", "constants"), "nothing beside 'over: axes'", "a list")]
        return []

    def answer(self, lab: Lab) -> Answer:
        """Effects, the largest first."""
        factors = self._factors(lab)
        held = factors.held if isinstance(factors, ConstantFactors) else []
        if self.method == "tornado":
            found = tornado(factors, self.measure)
        else:
            way = sobol if self.method == "sobol" else morris
            found = way(factors, self.measure, self.samples, lab.study.draw_seed)
        sides = names_of(lab.study)
        facts = {
            "method": self.method,
            "measure": self.measure,
            "sides": sides,
            "draws": found.draws,
            "left_out": found.left_out,
            "effects": plain(found.lines()),
            "held": [one.name for one in held],
        }
        notes = notes_of(found, factors)
        said = sentence(found, self.measure, sides)
        return Answer(said, tuple(notes), pd.DataFrame(found.lines()), not found.marks, facts)

    def _factors(self, lab: Lab) -> Factors:
        if self.over == "axes":
            return axis_factors(lab)
        return constant_factors(lab, self.constants, self.numeric == "vary", self.simulate)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """A tornado; for Sobol and Morris the indices with their intervals."""
        from hybridsim.studies.questions._sensitivity_picture import picture

        sides = names_of(lab.study)
        what = word(self.measure)
        return picture(answer, f"{sides[0]} / {sides[1]}, {what}" if len(sides) == 2 else what)
