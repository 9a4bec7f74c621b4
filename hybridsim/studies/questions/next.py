"""What is gained by each part's next better one, alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import pandas as pd
from pydantic import Field

from hybridsim.reports.units_text import percent
from hybridsim.scenario.quantity import Raw
from hybridsim.studies.questions._axes import Trouble, measure_problems, names_of, no_axes
from hybridsim.studies.questions._cells import Cell, cells_of, key_of, notes_on, plain
from hybridsim.studies.questions._contest import Contest, basis_text, contest
from hybridsim.studies.questions._ladder import BY, Rung, rungs
from hybridsim.studies.questions._measures import Measure, word
from hybridsim.studies.questions._sentences import called, fit, times
from hybridsim.studies.questions.base import Answer, Lab, Question

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study

_MOST_GAIN = 1e12
"""Stands for a side that gets there with the new part only."""


class Next(Question):
    """What is gained if one kind of part of a machine is replaced by the next better shipped one,
    all others as they are: a GPU by FP32 peak, a link by bandwidth, an SPU by its time constant.
    """

    kind: Literal["next"]
    adaptive: ClassVar[bool] = True
    measure: Measure = Field("seconds", description="what is to fall")

    def problems(self, study: Study) -> Trouble:
        """No axes; a measure that the points will have."""
        return [*no_axes(study), *measure_problems(study, "measure", self.measure)]

    def answer(self, lab: Lab) -> Answer:
        """Replace each part of each side."""
        steps = [step for side in names_of(lab.study) for step in _steps(lab, side, self.measure)]
        bottlenecks = {side: _bottleneck(lab.table, side) for side in names_of(lab.study)}
        cells = [cell for step in steps for cell in (step.before, step.after) if cell is not None]
        notes = [*_notes(steps, bottlenecks), *notes_on(cells, self.measure)]
        notes = list(dict.fromkeys(notes))
        facts = {
            "measure": self.measure,
            "bottlenecks": plain(bottlenecks),
            "steps": plain([step.line() for step in steps]),
        }
        table = pd.DataFrame([step.line() for step in steps])
        best = _best(steps)
        trusted = best is None or not best.found.marks
        sentence = _sentence(best, steps, bottlenecks, self.measure)
        return Answer(sentence, tuple(notes), table, trusted, facts)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """How many times less with each part's next one up."""
        from hybridsim.reports.study_figures import Axis, Curve, bars

        rows = [row for row in answer.facts["steps"] if row["gain"] is not None]
        several = len(lab.study.sides) > 1
        names = [
            f"{row['side'] + ': ' if several else ''}{row['part']} → {row['better']}"
            for row in rows
        ]
        gain, low, high = (
            [math.nan if row[name] is None else row[name] for row in rows]
            for name in ("gain", "gain_low", "gain_high")
        )
        texts = [
            f"{row['gain']:.3g} times less{'' if row['detectable'] else ', not detectable'}"
            for row in rows
        ]
        curve = Curve("", names, gain, low, high, [bool(row["mark"]) for row in rows], texts)
        title = f"{word(self.measure)}: how many times less"
        caption = (
            f"{title} with each part's next better shipped one alone, with 95 % intervals over "
            "seeds; left of the dashed line it takes more. Hollow: not trusted."
        )
        return bars(curve, Axis(title, log=True), caption, 1.0)


class Step(NamedTuple):
    """One part of one side and its next one up.

    Attributes:
        side: name of the side.
        rung: the part and the next one.
        before: as the side is.
        after: with the next one; None where there is none.
        found: after over before.
    """

    side: str
    rung: Rung
    before: Cell
    after: Cell | None
    found: Contest

    @property
    def gain(self) -> float:
        """How many times less; NaN where it is not known."""
        if self.after is None or self.found.ratio != self.found.ratio:
            return math.nan
        return min(1 / self.found.ratio, _MOST_GAIN) if self.found.ratio > 0 else _MOST_GAIN

    def line(self) -> dict[str, Any]:
        """A line of the answer's table; Any: numbers and words."""
        found, cell = self.found, self.after
        return {
            "side": self.side,
            "part": self.rung.part,
            "at": self.rung.path,
            "better": self.rung.better,
            "before": self.before.mean,
            "after": math.nan if cell is None else cell.mean,
            "gain": self.gain,
            "gain_low": 1 / found.high if found.high > 0 else math.nan,
            "gain_high": 1 / found.low if found.low > 0 else math.nan,
            "seeds": found.seeds,
            "detectable": found.detectable,
            "mark": "; ".join(found.marks),
        }


_NOTHING = Contest("unknown", "", math.nan, math.nan, math.nan, 0, ())


def _steps(lab: Lab, side: str, measure: Measure) -> list[Step]:
    """All parts of one side, tried at once."""
    ladder = rungs(lab.study.expansion.scenario(side, {}))
    changes: list[dict[str, Raw]] = [rung.change for rung in ladder if rung.change]
    rows = lab.rows([{}, *changes], [side])
    fields = list(dict.fromkeys(field for change in changes for field in change))
    cells = {
        _key(cell.values): cell
        for one in cells_of(
            rows.assign(**{f: None for f in fields if f not in rows}), fields, measure
        )
        for cell in one.values()
    }
    before = cells[_key({})]
    steps = []
    for rung in ladder:
        after = cells[_key(rung.change)] if rung.change else None
        if after is not None:
            # Told apart from what it replaces, which is of the same side.
            after.side = f"{side} with {rung.better}"
        found = contest(after, before) if after is not None else _NOTHING
        steps.append(Step(side, rung, before, after, found))
    return steps


def _key(values: dict[str, Raw]) -> str:
    return key_of({field: value for field, value in values.items() if value is not None})


def _bottleneck(table: pd.DataFrame, side: str) -> dict[str, Any]:
    """What binds with most seeds, and its mean share of the critical path; Any: goes to JSON."""
    own = table[(table["side"] == side) & (table["status"] == "ok")]
    names = Counter(str(name) for name in own["bottleneck"] if isinstance(name, str) and name)
    if not names:
        return {"name": "", "share": None}
    name = names.most_common(1)[0][0]
    return {"name": name, "share": float(own["bottleneck_share"][own["bottleneck"] == name].mean())}


def _best(steps: Sequence[Step]) -> Step | None:
    """The largest gain that counts; with one seed the largest."""
    gains = [
        step
        for step in steps
        if step.gain > 1 and step.found.verdict in ("wins", "untested", "untrusted")
    ]
    return max(gains, key=lambda step: step.gain, default=None)


def _sentence(
    best: Step | None,
    steps: Sequence[Step],
    bottlenecks: dict[str, dict[str, Any]],
    measure: Measure,
) -> str:
    sides = list(bottlenecks)
    seeds = max((step.found.seeds for step in steps), default=0)
    if best is None:
        text = f"No part's next one up takes detectably less {word(measure)}"
        text += f" of {' or '.join(map(called, sides))} ({basis_text(seeds)})"
        return fit(f"{text}; {_binds(bottlenecks[sides[0]])}", text)
    found = best.found
    if best.gain >= _MOST_GAIN:
        size = f"gets there, which {called(best.rung.part)} does not"
    else:
        interval = f" [{1 / found.high:.3g}, {1 / found.low:.3g}]" if found.low > 0 else ""
        size = f"takes {times(best.gain)} less {word(measure)}{interval}"
    where = f" of {called(best.side)}" if len(sides) > 1 else ""
    doubt = f"Not trusted ({found.marks[0]}): " if found.marks else ""
    head = (
        f"{doubt}{called(str(best.rung.better))} in place of {called(best.rung.part)}{where} {size}"
    )
    head += f" ({basis_text(found.seeds)}), the most of {sum(s.after is not None for s in steps)}"
    head += " next parts up"
    return fit(f"{head}; {_binds(bottlenecks[best.side])}", head)


def _binds(bottleneck: dict[str, Any]) -> str:
    if not bottleneck["name"]:
        return "what binds is not known"
    return f"{bottleneck['name']} binds today, {percent(bottleneck['share'])} of the critical path"


def _notes(steps: Sequence[Step], bottlenecks: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    for side, bottleneck in bottlenecks.items():
        notes.append(f"{side}: {_binds(bottleneck)}.")
    for step in steps:
        rung = step.rung
        if rung.better is None:
            notes.append(f"No shipped {rung.kind} is better than {rung.part} by {BY[rung.kind]}.")
        elif rung.stays:
            kept = ", ".join(rung.stays)
            notes.append(f"{step.side}, {rung.path}: what the scenario sets itself stays ({kept}).")
    return notes
