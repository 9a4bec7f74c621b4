"""The best values of fields, looked for by Optuna."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import pandas as pd
from pydantic import Field

from hybridsim.scenario.fields import Text
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.studies.questions._axes import Trouble, measure_problems, names_of, no_axes
from hybridsim.studies.questions._cells import Cell, cells_of, key_of, notes_on, plain
from hybridsim.studies.questions._contest import basis_text, contest
from hybridsim.studies.questions._extras import missing
from hybridsim.studies.questions._measures import Measure, amount, unit, word
from hybridsim.studies.questions._sampler import Sampler, Space
from hybridsim.studies.questions._sentences import called, field_words, fit, listed, place, times
from hybridsim.studies.questions._spans import Span, fits, space_of, span_problems
from hybridsim.studies.questions.base import Answer, Lab, Question, Values

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study


class Search(Question):
    """Values of fields for which a measure is least, looked for by Optuna's TPE sampler from the
    study's ``draw_seed``, in batches. What was evaluated is kept: the same search goes on where it
    stopped, and comes to the same end.
    """

    kind: Literal["search"]
    adaptive: ClassVar[bool] = True
    fields: dict[Text, Span] = Field(
        min_length=1, description="dotted field -> {low, high, scale} or {choices: [...]}"
    )
    minimize: Measure = Field("seconds", description="what is to be least: its geometric mean")
    side: str | None = Field(None, description="the side that is changed; default: the only one")
    evaluations: int = Field(40, ge=1, le=100_000, description="how many values are tried")
    batch: int = Field(
        4, ge=1, le=1000, description="how many are chosen at once, before their outcome is known"
    )

    def problems(self, study: Study) -> Trouble:
        """A side; fields that it has, with ends that it takes; no axes; Optuna."""
        found = [*no_axes(study), *measure_problems(study, "minimize", self.minimize)]
        names = names_of(study)
        if self.side is None and len(names) > 1:
            found.append((("question", "side"), f"one of {', '.join(names)}", "nothing"))
        elif self.side is not None and self.side not in names:
            expected = one_of(names, self.side, "a side")
            found.append((("question", "side"), expected, describe(self.side)))
        else:
            found += span_problems(study, self.side or names[0], self.fields)
        return found + missing("optuna", "search", ("question", "kind"), "search")

    def answer(self, lab: Lab) -> Answer:
        """Ask the sampler, look, tell it, until the budget is spent."""
        study, fields = lab.study, list(self.fields)
        side = self.side or names_of(study)[0]
        spaces = [space_of(study, side, field, span) for field, span in self.fields.items()]
        base = next(iter(cells_of(lab.rows([{}], [side]), [], self.minimize)))[side]
        sampler = Sampler(spaces, study.draw_seed)
        tried: list[_Tried] = []
        while len(tried) < self.evaluations:
            asked = sampler.ask(min(self.batch, self.evaluations - len(tried)))
            values = [dict(zip(fields, one, strict=True)) for one in asked]
            found = self._looked_up(lab, side, values)
            sampler.tell([_value(cell, base) for cell in found])
            tried += [_Tried(one, cell) for one, cell in zip(values, found, strict=True)]
        return self._answer(tried, base, spaces)

    def _looked_up(self, lab: Lab, side: str, values: Sequence[Values]) -> list[Cell]:
        """What comes of values; of those that do not fit together nothing does."""
        fields = list(self.fields)
        fitting = [one for one in values if fits(lab.study, side, one)]
        rows = cells_of(lab.rows(fitting, [side]), fields, self.minimize) if fitting else []
        cells = {key_of(cell.values): cell for one in rows for cell in one.values()}
        return [cells.get(key_of(plain(one))) or _refused(lab, side, one) for one in values]

    def _answer(self, tried: Sequence[_Tried], base: Cell, spaces: Sequence[Space]) -> Answer:
        reached = [one for one in tried if one.cell.reached]
        able = [one for one in reached if not one.cell.mark]
        best = min(able or reached, key=lambda one: one.cell.mean, default=None)
        lines = [one.line(index) for index, one in enumerate(tried)]
        notes = notes_on({id(one.cell): one.cell for one in tried}.values(), self.minimize)
        facts: dict[str, Any] = {  # Any: goes to JSON
            "minimize": self.minimize,
            "side": base.side,
            "evaluations": len(tried),
            "distinct": len({key_of(plain(one.values)) for one in tried}),
            "best": None,
        }
        table = pd.DataFrame(lines)
        if best is None:
            text = f"None of {len(tried)} evaluations gets there: no {word(self.minimize)}"
            return Answer(fit(text), tuple(notes), table, True, facts)
        edges = [space.field for space in spaces if space.at_edge(best.values[space.field])]
        notes.append(
            "The best is chosen with the seeds that its interval rests on: the interval is not "
            "corrected for the choice."
        )
        notes += [
            f"The best {field_words(field)} lies at the edge of its range: beyond it may be better."
            for field in edges
        ]
        facts |= {"best": plain(best.line(tried.index(best))), "edges": edges}
        facts["gain"] = plain(_gain(best.cell, base))
        return Answer(
            self._sentence(best, base, edges, len(tried)), tuple(notes), table, bool(able), facts
        )

    def _sentence(self, best: _Tried, base: Cell, edges: Sequence[str], tried: int) -> str:
        found = best.cell.interval
        ends = ""
        if found.low == found.low:
            low, high = (amount(end, self.minimize) for end in (found.low, found.high))
            ends = f" [{low}, {high}]"
        basis = basis_text(found.seeds)
        doubt = f"Not trusted ({best.cell.mark}): " if best.cell.mark else ""
        head = (
            f"{doubt}lowest {word(self.minimize)} of {called(base.side)} in {tried} evaluations: "
        )
        head += f"{amount(best.cell.mean, self.minimize)}{ends} ({basis})"
        where = f" at {place(best.values)}"
        gain = _gain(best.cell, base)
        tail = ""
        if not base.reached:
            tail = "; as given it does not get there"
        elif gain["detectable"]:
            way = "less" if gain["ratio"] < 1 else "more"
            tail = f"; {times(gain['factor'])} {way} than as given"
        elif found.seeds > 1:
            tail = "; no detectable difference from as given"
        edge = f"; {listed([field_words(f) for f in edges])} at the edge" if edges else ""
        return fit(f"{head}{where}{tail}{edge}", f"{head}{tail}{edge}", head)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """Every evaluation in its order, and the best so far."""
        from hybridsim.reports.study_figures import Axis, Curve, curves

        rows = answer.table.to_dict("records")
        means = [float(row["mean"]) for row in rows]
        best, least = [], math.inf
        for row, mean in zip(rows, means, strict=True):
            counts = not row["mark"] or not answer.trusted
            least = min(least, mean) if counts and mean == mean else least
            best.append(least)
        texts = [
            f"{place({field: row[field] for field in self.fields})}: "
            f"{amount(float(row['mean']), self.minimize)}"
            for row in rows
        ]
        at: list[float | str] = [float(row["evaluation"] + 1) for row in rows]
        nothing, hollow = [math.nan] * len(rows), [bool(row["mark"]) for row in rows]
        each = Curve("evaluations", at, means, nothing, nothing, hollow, texts)
        so_far = Curve("best so far", at, best, nothing, nothing, [False] * len(rows), texts)
        title = f"{word(self.minimize)}, geometric mean over seeds"
        caption = f"{title} of every evaluation, and the least so far. Hollow: not trusted."
        figure = curves(
            [each, so_far],
            Axis("evaluation"),
            Axis(word(self.minimize), True, unit(self.minimize)),
            caption,
        )
        return figure.update_traces(mode="markers", selector={"name": "evaluations"})


class _Tried(NamedTuple):
    """Values and what came of them."""

    values: dict[str, Raw]
    cell: Cell

    def line(self, index: int) -> dict[str, Any]:
        """A line of the answer's table; Any: numbers and words."""
        found = self.cell.interval
        numbers = {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds}
        return {"evaluation": index, **self.values, **numbers, "mark": self.cell.mark}


def _refused(lab: Lab, side: str, values: Values) -> Cell:
    """A scenario that is not valid: the side gets there with no seed."""
    cell = Cell(side, dict(values))
    cell.by_seed = dict.fromkeys(lab.study.seeds, math.inf)
    return cell


def _value(cell: Cell, base: Cell) -> float:
    """What the sampler is told: the logarithm of the mean; inf where it cannot win, NaN where
    nothing is known. Where the scenario as given is marked too, marks tell nothing apart.
    """
    mean = cell.mean
    if cell.mark and not base.mark and mean == mean:
        return math.inf
    return math.log(mean) if mean > 0 else mean


def _gain(best: Cell, base: Cell) -> dict[str, Any]:  # Any: numbers and a truth
    """The best over what the scenario says."""
    found = contest(best, base)
    return {
        "ratio": found.ratio,
        "factor": found.factor,
        "low": found.low,
        "high": found.high,
        "detectable": found.detectable,
    }
