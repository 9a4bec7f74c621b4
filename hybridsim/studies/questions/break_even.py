"""Where two sides break even along an axis: every sign change, bisected, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from hybridsim.scenario.quantity import Raw
from hybridsim.studies.questions._axes import (
    Trouble,
    fields_of,
    measure_problems,
    names_of,
    numbers_of,
    numeric_axes,
    takes_whole,
    two_sides,
)
from hybridsim.studies.questions._break_even_facts import line_facts
from hybridsim.studies.questions._break_even_notes import notes_of
from hybridsim.studies.questions._break_even_words import Words, sentence
from hybridsim.studies.questions._cells import Cell, cells_of, distinct, key_of, notes_on, plain
from hybridsim.studies.questions._contest import contest
from hybridsim.studies.questions._crossings import (
    Line,
    Reading,
    Scale,
    crossings,
    refine,
    refine_ends,
)
from hybridsim.studies.questions._measures import Measure
from hybridsim.studies.questions.base import Answer, Lab, Question
from hybridsim.studies.values import number, text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.axes import Axis
    from hybridsim.studies.schema import Study

_WIDE = 10
"""Positive values that span more than this are halved in the logarithm."""


class BreakEven(Question):
    """All places along an axis at which the other side wins, for each combination of the other
    axes' values. The grid's sign changes are bisected; each has the interval outside which the
    difference of the sides is detectable.
    """

    kind: Literal["break_even"]
    adaptive: ClassVar[bool] = True
    measure: Measure = Field("seconds", description="what is compared; lower is better")
    axis: str | None = Field(
        None,
        description="dotted field of an axis of numbers or quantities; one that takes whole "
        "numbers only is bisected to neighbours; default: the study's only one",
    )
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="relative width to which a sign change is bisected"
    )

    def problems(self, study: Study) -> Trouble:
        """Two sides; an axis of at least two numbers."""
        of_measure = measure_problems(study, "measure", self.measure)
        return [*two_sides(study), *self._axis_problems(study), *of_measure]

    def _axis_problems(self, study: Study) -> Trouble:
        fields = [axis.fields[0] for axis in _usable(study)]
        if self.axis is None and len(fields) == 1:
            return []
        if self.axis in fields:
            return []
        which = f"one of {', '.join(fields)}" if fields else "a field of its own in 'axes'"
        expected = f"{which}, an axis of at least two numbers or quantities"
        if self.axis is None and not fields:
            return [(("axes",), "an axis of at least two numbers or quantities", "none")]
        return [(("question", "axis"), expected, repr(self.axis) if self.axis else "nothing")]

    def answer(self, lab: Lab) -> Answer:
        """Bisect all sign changes of the ratio of geometric means, paired by seed."""
        axis = self._chosen(lab.study)
        field, values = axis.fields[0], axis.values(axis.fields[0])
        others = [name for name in fields_of(lab.study) if name != field]
        search = _Search(lab, self.measure, field, values, others)
        whole = takes_whole(lab.study, axis.sides, field, values)
        scale = _scale(values, whole, self.tolerance)
        lines = search.start()
        grid = {key_of(line.others): sorted(line.readings) for line in lines}
        refine(lines, scale, search.ask)
        refine_ends(lines, scale, search.ask)
        sides = names_of(lab.study)
        words = Words(self.measure, field, values, scale, (sides[0], sides[1]))
        found = [crossings(line, scale) for line in lines]
        first = next(iter(grid.values()))
        notes = notes_of(words, lines, found, first)
        notes += notes_on(distinct(search.seen, lab.study), self.measure)
        trusted = not any(one.marks for line in found for one in line)
        facts = _facts(words, lines, found, self)
        table = _table(words, lines)
        return Answer(sentence(words, lines, found), tuple(notes), table, trusted, facts)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """The ratio of the sides along the axis with its interval, and where it is one."""
        from hybridsim.studies.questions._break_even_picture import picture

        return picture(answer)

    def _chosen(self, study: Study) -> Axis:
        usable = _usable(study)
        return next(axis for axis in usable if self.axis in (None, axis.fields[0]))


class _Search:
    """Reads both sides at places of an axis."""

    def __init__(
        self, lab: Lab, measure: Measure, field: str, values: Sequence[Raw], others: list[str]
    ) -> None:
        self.lab, self.measure, self.field, self.others = lab, measure, field, others
        self.example = values[0]
        self.sides = names_of(lab.study)
        self.seen: list[dict[str, Cell]] = []

    def start(self) -> list[Line]:
        """Lines with the grid's readings."""
        lines: dict[str, Line] = {}
        for reading in self.readings(self.lab.table):
            others = {name: reading.cells[0].values[name] for name in self.others}
            line = lines.setdefault(key_of(others), Line(others))
            line.readings[reading.at] = reading
        return list(lines.values())

    def ask(self, places: Sequence[tuple[Line, float]]) -> None:
        """Read lines at further places, all at once."""
        raw = [text(self.example, at) for _, at in places]
        values = [
            {**line.others, self.field: own} for (line, _), own in zip(places, raw, strict=True)
        ]
        found = {
            key_of(reading.cells[0].values): reading
            for reading in self.readings(self.lab.rows(values))
        }
        for (line, at), own in zip(places, values, strict=True):
            line.readings[at] = found[key_of({name: own[name] for name in self._fields})]

    @property
    def _fields(self) -> list[str]:
        return [*self.others, self.field]

    def readings(self, table: pd.DataFrame) -> list[Reading]:
        """The rows of a table as readings."""
        cells = cells_of(table, self._fields, self.measure)
        self.seen += cells
        found = []
        for one in cells:
            raw = next(iter(one.values())).values[self.field]
            pair = tuple(one.get(side) or Cell(side, {self.field: raw}) for side in self.sides)
            at = number(self.example, raw)
            assert at is not None, "an axis of numbers"
            found.append(Reading(at, raw, contest(pair[0], pair[1]), (pair[0], pair[1])))
        return found


def _usable(study: Study) -> list[Axis]:
    """Numeric axes of one field that vary alone: several sampled ones vary together."""
    sampled = sum(axis.kind == "sample" for axis in study.axes)
    return [axis for axis in numeric_axes(study) if axis.kind != "sample" or sampled == 1]


def _scale(values: Sequence[Raw], whole: bool, tolerance: float) -> Scale:
    numbers = numbers_of(values)
    assert numbers is not None, "an axis of numbers"
    low, high = min(numbers), max(numbers)
    return Scale(low > 0 and high > _WIDE * low, whole, high - low, tolerance)


def _facts(
    words: Words, lines: Sequence[Line], found: Sequence[Sequence[Any]], asked: BreakEven
) -> dict[str, Any]:  # Any: goes to JSON
    return {
        "measure": words.measure,
        "axis": words.field,
        "sides": list(words.sides),
        "tolerance": asked.tolerance,
        "lines": plain([line_facts(words, *pair) for pair in zip(lines, found, strict=True)]),
    }


def _table(words: Words, lines: Sequence[Line]) -> pd.DataFrame:
    """Every reading: values, place in SI units, both means, their ratio with its interval."""
    first, second = words.sides
    rows = []
    for line in lines:
        for at in sorted(line.readings):
            reading = line.readings[at]
            found, cells = reading.found, reading.cells
            rows.append(
                {
                    **line.others,
                    words.field: reading.raw,
                    "at": at,
                    first: cells[0].mean,
                    second: cells[1].mean,
                    "ratio": found.ratio,
                    "ratio_low": found.low,
                    "ratio_high": found.high,
                    "seeds": found.seeds,
                    "verdict": found.verdict,
                    "lower": found.lower,
                    "mark": "; ".join(found.marks),
                }
            )
    return pd.DataFrame(rows)
