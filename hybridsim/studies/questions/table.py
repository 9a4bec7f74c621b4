"""Outcomes over the axes: which point is best, or which of two sides wins where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from hybridsim.studies.questions._axes import Trouble, fields_of, measure_problems, names_of
from hybridsim.studies.questions._cells import Cell, cells_of, distinct, notes_on, plain
from hybridsim.studies.questions._contest import Contest, basis_text, contest
from hybridsim.studies.questions._measures import Measure, amount, word
from hybridsim.studies.questions._sentences import called, fit, place, times
from hybridsim.studies.questions.base import Answer, Lab, Question

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study

Line = dict[str, Any]
"""A line of the answer's table: values of fields, numbers, words."""


class Table(Question):
    """The outcome at every combination of the axes' values: the best one with its interval over
    seeds; of two sides, which wins where, and by how much.
    """

    kind: Literal["table"]
    measure: Measure = Field("seconds", description="what is compared; lower is better")

    def problems(self, study: Study) -> Trouble:
        """A measure that the points will have."""
        return measure_problems(study, "measure", self.measure)

    def answer(self, lab: Lab) -> Answer:
        """The best point, or who wins at how many points."""
        fields, sides = fields_of(lab.study), names_of(lab.study)
        cells = cells_of(lab.table, fields, self.measure)
        notes = notes_on(distinct(cells, lab.study), self.measure)
        if len(sides) == 2:
            return _of_two(cells, sides, self.measure, notes)
        return _best(distinct(cells, lab.study), self.measure, notes)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """A heat map of two axes, lines over one, bars without any."""
        from hybridsim.studies.questions._table_picture import picture

        return picture(lab.study, answer, self.measure)


def _of_two(
    cells: Sequence[dict[str, Cell]], sides: list[str], measure: Measure, notes: list[str]
) -> Answer:
    both = [one for one in cells if len(one) == 2]
    found = [contest(one[sides[0]], one[sides[1]]) for one in both]
    lines = [_duel(one, result, sides) for one, result in zip(both, found, strict=True)]
    won = {side: [r for r in found if r.winner == side] for side in sides}
    counts = {verdict: sum(r.verdict == verdict for r in found) for verdict in _WORDS}
    facts = {
        "measure": measure,
        "points": len(found),
        "wins": {side: len(results) for side, results in won.items()},
        **counts,
        "lines": plain(lines),
    }
    if len(found) > 1:
        notes.append("Each point is tested alone: not corrected for the number of points.")
    decided = any(won.values()) or not counts["untrusted"]
    if len(found) == 1:
        sentence = _duel_sentence(found[0], sides, measure)
    else:
        sentence = _score(both, found, sides, measure)
    return Answer(sentence, tuple(notes), pd.DataFrame(lines), decided, facts)


_WORDS = {
    "same": "no detectable difference at",
    "untrusted": "not trusted at",
    "neither": "no side gets there at",
    "unknown": "not known at",
}


def _duel(one: dict[str, Cell], found: Contest, sides: list[str]) -> Line:
    line: Line = dict(next(iter(one.values())).values)
    line |= {side: one[side].mean for side in sides}
    line |= {"ratio": found.ratio, "ratio_low": found.low, "ratio_high": found.high}
    line |= {"seeds": found.seeds, "verdict": found.verdict, "lower": found.lower}
    return {**line, "mark": "; ".join(found.marks)}


def _score(
    cells: Sequence[dict[str, Cell]], found: list[Contest], sides: list[str], measure: Measure
) -> str:
    """Who wins at how many points, and by how much at most."""
    won = {side: [i for i, r in enumerate(found) if r.winner == side] for side in sides}
    first, second = sorted(sides, key=lambda side: -len(won[side]))
    rest = [
        f"{text} {count}"
        for verdict, text in _WORDS.items()
        if (count := sum(r.verdict == verdict for r in found))
    ]
    basis = f"({basis_text(max((r.seeds for r in found), default=0))})"
    if not won[first]:
        head = f"Neither of {called(first)} and {called(second)} wins in {word(measure)} anywhere"
        return fit(f"{head}, {len(found)} points: {', '.join(rest)} {basis}")
    best = max(won[first], key=lambda index: found[index].factor)
    least = min(found[index].factor for index in won[first])
    most = times(found[best].factor)
    where = place(next(iter(cells[best].values())).values)
    head = f"{called(first)} beats {called(second)} in {word(measure)}"
    head += f" at {len(won[first])} of {len(found)} points"
    other = [f"{called(second)} wins at {len(won[second])}"] if won[second] else []
    tail = f"; {', '.join([*other, *rest])}" if other or rest else ""
    return fit(
        f"{head}, by {times(least)} to {most} (at {where}){tail} {basis}",
        f"{head}, by {times(least)} to {most}{tail} {basis}",
    )


def _duel_sentence(found: Contest, sides: list[str], measure: Measure) -> str:
    """Two sides at one place."""
    names = [called(side) for side in sides]
    if found.verdict == "neither":
        return fit(
            f"Neither of {names[0]} and {names[1]} gets there: no {word(measure)} to compare"
        )
    if found.verdict == "unknown":
        return fit(f"Nothing is known of {word(measure)} of {names[0]} and {names[1]}")
    if found.verdict == "same":
        interval = f"[{found.low:.3g}, {found.high:.3g}]" if found.low == found.low else ""
        return fit(
            f"No detectable difference between {names[0]} and {names[1]} in {word(measure)}: "
            f"ratio {found.ratio:.3g} {interval} ({found.basis})"
        )
    lower, higher = names if found.lower == sides[0] else names[::-1]
    size = f"by {times(found.factor)}"
    if found.factor == float("inf"):
        size = f"because {higher} does not get there with every seed"
    if found.low == found.low:
        ends = (found.low, found.high) if found.ratio > 1 else (1 / found.high, 1 / found.low)
        size += f" [{ends[0]:.3g}, {ends[1]:.3g}]"
    text = f"{lower} beats {higher} in {word(measure)} {size} ({found.basis})"
    if found.verdict == "untrusted":
        return fit(f"Not trusted: {text}, but {'; '.join(found.marks)}")
    return fit(text)


def _best(every: Sequence[Cell], measure: Measure, notes: list[str]) -> Answer:
    """The lowest of all sides and points."""
    sides = len({cell.side for cell in every})
    lines = [_line(cell) for cell in every]
    ranked = sorted((cell for cell in every if cell.reached), key=lambda cell: cell.mean)
    trusted = [cell for cell in ranked if not cell.mark]
    facts: Line = {"measure": measure, "points": len(every), "best": None, "lines": plain(lines)}
    table = pd.DataFrame(lines)
    if not ranked:
        why = f"No point has a value of {word(measure)} with every seed: the target is not reached"
        known = any(cell.by_seed for cell in every)
        text = why if known else f"Nothing is known of {word(measure)} at any point"
        return Answer(fit(text), tuple(notes), table, True, facts)
    best = (trusted or ranked)[0]
    alike = [c for c in ranked if c is not best and contest(best, c).verdict == "same"]
    if len(ranked) > 1:
        notes.append(
            f"The best of {len(ranked)} points is chosen with the seeds that its interval rests "
            "on: the interval is not corrected for the choice."
        )
    if trusted and ranked[0] is not best:
        lower = amount(ranked[0].mean, measure)
        notes.append(
            f"Lower, but not trusted: {lower} at {_where(ranked[0], sides)} ({ranked[0].mark})."
        )
    facts |= {"best": plain(_line(best)), "no_detectable_difference": len(alike)}
    where = _where(best, sides)
    sentence = _best_sentence(best, where, len(alike), len(every), measure)
    return Answer(sentence, tuple(notes), table, bool(trusted), facts)


def _best_sentence(best: Cell, where: str, alike: int, points: int, measure: Measure) -> str:
    found = best.interval
    ends = ""
    if found.low == found.low:
        ends = f" [{amount(found.low, measure)}, {amount(found.high, measure)}]"
    size = f"{amount(best.mean, measure)}{ends} ({basis_text(found.seeds)})"
    doubt = f"Not trusted ({best.mark}): " if best.mark else ""
    if points == 1:
        return fit(f"{doubt}{called(best.side)} takes {size} ({word(measure)})")
    tail = ""
    if alike:
        tail = f"; no detectable difference from {alike} of the other {points - 1} points"
    return fit(
        f"{doubt}lowest {word(measure)}: {size} at {where}{tail}",
        f"{doubt}lowest {word(measure)}: {size}{tail}",
    )


def _where(cell: Cell, sides: int) -> str:
    words = [called(cell.side)] if sides > 1 or not cell.applied else []
    return ", ".join([*words, *([place(cell.applied)] if cell.applied else [])])


def _line(cell: Cell) -> Line:
    found = cell.interval
    return {
        **cell.values,
        "side": cell.side,
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "seeds": found.seeds,
        "mark": cell.mark,
    }
