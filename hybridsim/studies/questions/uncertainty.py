"""Who wins in what share of all that the ranges of constants allow, and which of them decide it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from hybridsim.studies.questions._axes import (
    Trouble,
    constant_problems,
    fields_of,
    measure_problems,
    names_of,
    two_sides,
)
from hybridsim.studies.questions._cells import Combination, key_of, plain
from hybridsim.studies.questions._draws import chosen, outcomes, shares_of, values_at
from hybridsim.studies.questions._measures import Measure
from hybridsim.studies.questions._verdict import Drawn, Verdict, verdict
from hybridsim.studies.questions._verdict_facts import facts_of, lines_of
from hybridsim.studies.questions._verdict_words import notes_of, sentence
from hybridsim.studies.questions.base import Answer, Lab, Question, RangedConstant

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study

MOST_NUMERIC_POINTS = 32


class Uncertainty(Question):
    """Joint draws of all ranged constants, log-uniform between low and high (uniform where low is
    zero); parts that both sides have take one value. In each draw a side wins whose geometric mean
    over seeds is lower; one that does not get there loses, one that is marked wins nothing.
    """

    kind: Literal["uncertainty"]
    adaptive: ClassVar[bool] = True
    draws: int = Field(1000, ge=10, le=100_000, description="joint draws of the constants")
    measures: list[Measure] = Field(
        ["seconds", "joules"],
        min_length=1,
        max_length=3,
        description="what is compared; lower is better",
    )
    constants: list[str] | None = Field(
        None,
        description="names <datasheet>.<constant> of those that are drawn; default: all that have "
        "a range",
    )
    numeric: Literal["hold", "vary"] = Field(
        "hold",
        description="constants that change numbers that are computed: hold at nominal, or vary "
        "over a few Latin-hypercube points, each of which runs live",
    )
    numeric_points: int = Field(
        16, ge=2, le=MOST_NUMERIC_POINTS, description="those points, under numeric: vary"
    )
    simulate: int = Field(
        60,
        ge=0,
        description="draws for which no recording holds that are simulated, for each side and "
        "seed; the verdict weighs them for all that would be",
    )

    def problems(self, study: Study) -> Trouble:
        """Two sides; measures that there will be; constants that have a range."""
        found = two_sides(study)
        for measure in self.measures:
            found += measure_problems(study, "measures", measure)
        if len(set(self.measures)) < len(self.measures):
            found.append((("question", "measures"), "each measure once", str(self.measures)))
        return [*found, *constant_problems(study, self.constants)]

    def answer(self, lab: Lab) -> Answer:
        """Draw at every combination of the axes' values."""
        sides = names_of(lab.study)
        found = [self._at(lab, values) for values in _combinations(lab)]
        notes = list(dict.fromkeys(note for one in found for note in notes_of(one, sides)))
        trusted = not any(verdict.doubted for one in found for verdict in one.verdicts)
        facts = {
            "sides": sides,
            "draws": self.draws,
            "measures": list(self.measures),
            "points": plain([facts_of(one, sides) for one in found]),
        }
        table = pd.DataFrame([line for one in found for line in lines_of(one, sides)])
        return Answer(sentence(found, sides), tuple(notes), table, trusted, facts)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """How the ratio is distributed, and what decides; over axes the share of draws won."""
        from hybridsim.studies.questions._verdict_picture import picture

        return picture(answer, fields_of(lab.study))

    def _at(self, lab: Lab, values: Combination) -> Drawn:
        """The draws at one combination."""
        study = lab.study
        ranged, others = chosen(lab.constants(values), self.constants)
        varied = [one for one in ranged if not one.numeric or self.numeric == "vary"]
        held = [*others, *(one for one in ranged if one not in varied)]
        shares = self._shares(varied, study.draw_seed)
        columns = [values_at(one, shares[:, k]) for k, one in enumerate(varied)]
        names = [one.name for one in varied]
        settings = [
            dict(zip(names, map(float, row), strict=True))
            for row in (np.stack(columns, axis=1) if columns else np.empty((self.draws, 0)))
        ]
        table = lab.with_constants(settings, values, self.simulate)
        clusters = self._points if any(one.numeric for one in varied) else 0
        verdicts: list[Verdict] = []
        for measure in self.measures:
            came = outcomes(table, names_of(study), measure, self.draws)
            verdicts.append(verdict(measure, came, varied, shares, clusters))
        return Drawn(dict(values), varied, held, clusters, verdicts)

    @property
    def _points(self) -> int:
        return min(self.numeric_points, self.draws)

    def _shares(self, varied: Sequence[RangedConstant], seed: int) -> np.ndarray:
        """Where each constant lies in its range, shape (draws, constants). Draws take the numeric
        points in turn.
        """
        found = np.empty((self.draws, len(varied)))
        numeric = [k for k, one in enumerate(varied) if one.numeric]
        for column, one in enumerate(varied):
            found[:, column] = shares_of(one, self.draws, seed)
        if numeric:
            from scipy.stats import qmc  # slow to import

            points = qmc.LatinHypercube(len(numeric), seed=seed).random(self._points)
            found[:, numeric] = points[np.arange(self.draws) % self._points]
        return found


def _combinations(lab: Lab) -> list[dict[str, Any]]:  # Any: values as files write them
    """Every combination of the axes' values, each once."""
    fields = fields_of(lab.study)
    rows = lab.table[fields].to_dict("records") if fields else [{}]
    found = {key_of(plain(row)): plain(row) for row in rows}
    return list(found.values())
