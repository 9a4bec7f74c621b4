"""Two measures against each other: the points that no other is better than in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field

from hybridsim.studies.axes import number_of_combinations
from hybridsim.studies.questions._axes import Trouble, fields_of, measure_problems
from hybridsim.studies.questions._cells import Cell, cells_of, distinct, notes_on, plain
from hybridsim.studies.questions._contest import basis_text, contest
from hybridsim.studies.questions._measures import Measure, amount, unit, word
from hybridsim.studies.questions._sentences import called, fit, place
from hybridsim.studies.questions.base import Answer, Lab, Question

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study


class Pareto(Question):
    """The front of two measures over all sides and points: geometric means over seeds that no other
    point is below in one and not above in the other. Points that are marked are not on it.
    """

    kind: Literal["pareto"]
    x: Measure = Field("seconds", description="first measure; lower is better")
    y: Measure = Field("joules", description="second measure; lower is better")

    def problems(self, study: Study) -> Trouble:
        """Two measures that the points will have; at least two points."""
        found = [*measure_problems(study, "x", self.x), *measure_problems(study, "y", self.y)]
        if self.x == self.y:
            found.append((("question", "y"), f"another measure than x ({self.x})", self.y))
        points = number_of_combinations(study.axes) * len(study.sides)
        if points < 2:
            found.append((("axes",), "at least two points (sides or values of axes)", "one"))
        return found

    def answer(self, lab: Lab) -> Answer:
        """Which points are on the front."""
        fields = fields_of(lab.study)
        pairs = list(
            zip(
                distinct(cells_of(lab.table, fields, self.x), lab.study),
                distinct(cells_of(lab.table, fields, self.y), lab.study),
                strict=True,
            )
        )
        spots = _fronted([Spot(x, y, False, False) for x, y in pairs])
        table = pd.DataFrame([_line(spot) for spot in spots])
        best = sorted((spot for spot in spots if spot.front), key=lambda spot: spot.x.mean)
        doubtful = [spot for spot in spots if spot.alike]
        notes = list(dict.fromkeys(notes_on([x for x, _ in pairs], self.x)))
        if doubtful:
            notes.append(
                f"{len(doubtful)} further points are behind the front by no detectable difference "
                "in either measure."
            )
        facts = {
            "x": self.x,
            "y": self.y,
            "points": len(spots),
            "front": plain([_line(spot) for spot in best]),
            "undetectably_behind": plain([_line(spot) for spot in doubtful]),
        }
        usable = any(not (s.x.mark or s.y.mark) for s in spots if s.x.reached and s.y.reached)
        trusted = usable or not any(spot.x.mark or spot.y.mark for spot in spots)
        return Answer(self._sentence(best, len(spots)), tuple(notes), table, trusted, facts)

    def _sentence(self, best: Sequence[Spot], points: int) -> str:
        what = f"{word(self.x)} against {word(self.y)}"
        if not best:
            return fit(f"No point of {points} can be trusted with values of {what}")
        both = f"{word(self.x)} and {word(self.y)}"
        basis = f"(means over {best[0].x.interval.seeds} seeds)"
        if best[0].x.interval.seeds < 2:
            basis = f"({basis_text(1)})"
        if len(best) == 1:
            return fit(f"{self._name(best[0])} is best of {points} points in both {both} {basis}")
        ends = f"from {self._name(best[0])} to {self._name(best[-1])}"
        sides = ", ".join(dict.fromkeys(called(spot.x.side) for spot in best))
        head = f"{len(best)} of {points} points are on the front of {what}"
        return fit(f"{head}, {ends} {basis}", f"{head}, all of {sides} {basis}", head)

    def _name(self, spot: Spot) -> str:
        values = f"{amount(spot.x.mean, self.x)}, {amount(spot.y.mean, self.y)}"
        where = ", ".join(filter(None, (called(spot.x.side), place(spot.x.applied))))
        return f"{where} ({values})"

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """All points with their intervals; the front joined, what is not trusted hollow."""
        from hybridsim.reports.study_figures import Axis, Dot, front

        dots = []
        for row in answer.table.to_dict("records"):
            if not (0 < row["x"] < math.inf and 0 < row["y"] < math.inf):
                continue
            values = {name: row[name] for name in fields_of(lab.study)}
            x, y = ((row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in "xy")
            text = f"{', '.join(filter(None, (row['side'], place(values))))}: "
            text += f"{amount(row['x'], self.x)}, {amount(row['y'], self.y)}"
            text += f"; not trusted: {row['mark']}" if row["mark"] else ""
            dots.append(Dot(row["side"], x, y, bool(row["mark"]), row["front"], text))
        caption = (
            f"{word(self.x).capitalize()} against {word(self.y)}: geometric means with 95 % "
            "intervals over seeds; large and joined: the front; hollow: not trusted."
        )
        x, y = (Axis(word(measure), True, unit(measure)) for measure in (self.x, self.y))
        return front(dots, x, y, caption)


class Spot(NamedTuple):
    """A point by both measures.

    Attributes:
        x: by the first.
        y: by the second.
        front: no other is better.
        alike: not on the front, but detectably behind none that is better.
    """

    x: Cell
    y: Cell
    front: bool
    alike: bool


def _fronted(spots: Sequence[Spot]) -> list[Spot]:
    """The same, each with its place: on the front, or as good as on it."""
    able = [spot for spot in spots if _able(spot)]
    found = []
    for spot in spots:
        better = [other for other in able if _dominates(other, spot)]
        front = _able(spot) and not better
        alike = _able(spot) and bool(better) and _alike(spot, better)
        found.append(spot._replace(front=front, alike=alike))
    return found


def _able(spot: Spot) -> bool:
    """Can it be on the front?"""
    return spot.x.reached and spot.y.reached and not spot.x.mark and not spot.y.mark


def _dominates(one: Spot, other: Spot) -> bool:
    """Nowhere above, somewhere below."""
    x, y = (one.x.mean, other.x.mean), (one.y.mean, other.y.mean)
    return x[0] <= x[1] and y[0] <= y[1] and (x[0] < x[1] or y[0] < y[1])


def _alike(spot: Spot, better: Sequence[Spot]) -> bool:
    """No difference from any better point is detectable in either measure."""
    return all(
        contest(*pair).verdict == "same"
        for other in better
        for pair in ((other.x, spot.x), (other.y, spot.y))
    )


def _line(spot: Spot) -> dict[str, Any]:
    """A line of the answer's table; Any: numbers and words."""
    line: dict[str, Any] = {**spot.x.values, "side": spot.x.side}
    for name, cell in (("x", spot.x), ("y", spot.y)):
        found = cell.interval
        line |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return {**line, "front": spot.front, "mark": spot.x.mark}
