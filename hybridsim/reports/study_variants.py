"""What a study varied, and what that made of time and energy, held against the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hybridsim.reports import page
from hybridsim.reports.differences import ABSENT, short_names
from hybridsim.reports.kinds import MOST_LISTED
from hybridsim.reports.statistics import Interval, log_interval, mean_interval, paired_ratio
from hybridsim.reports.study_tables import SHOWN, foldable
from hybridsim.reports.study_trust import WITHOUT_RESULT
from hybridsim.reports.study_view import Setting, StudyView, column, texts, value_text
from hybridsim.reports.units_text import quantity, scale_for

_MOST_VALUES = 8
_BEST = 9


class Line(NamedTuple):
    """One side at one setting: what its seeds came to."""

    side: str
    setting: Setting
    rows: pd.DataFrame


def varied(view: StudyView) -> str:
    """Each field that varies, its baseline, its values, and the sides it applies to."""
    rows = []
    for name, first in zip(view.fields, view.reference, strict=False):
        values = list(dict.fromkeys(map(value_text, view.points[name])))
        rows.append([name, first, _values(values), _sides(view, name)])
    told = (
        f"Sides: {', '.join(view.sides) or ABSENT}. "
        f"Seeds, the same on every side: {', '.join(map(str, view.seeds)) or ABSENT}."
    )
    table = page.table(["Field", "Baseline", "Values", "Sides"], rows, text=4) if rows else ""
    nothing = "" if rows else page.paragraph("No field varies.")
    return page.section("What varied", table, nothing, page.paragraph(told))


def _sides(view: StudyView, name: str) -> str:
    """Sides on which a field makes a difference; of one that has one value: all."""
    found = view.effects[name]
    return ", ".join(side for side in view.sides if found.get(side, not found)) or ABSENT


def _values(values: Sequence[str]) -> str:
    if len(values) <= _MOST_VALUES:
        return ", ".join(values)
    return f"{', '.join(values[: _MOST_VALUES - 2])}, … {values[-1]} ({len(values):,} values)"


def variants(view: StudyView) -> str:
    """A line for each side and setting, against the baseline; the best ones first where there are
    many.
    """
    lines = [Line(side, setting, rows) for (side, setting), rows in view.lines.items()]
    if not lines:
        return ""
    baseline = next((line for line in lines if _is_reference(view, line)), lines[0])
    rest = [line for line in lines if line is not baseline]
    names, short = measures(view.points), short_names(view.fields)
    first_headers = ["Side", *(short[name] for name in view.fields)]

    def table(title: str, some: Sequence[Line], count: int) -> str:
        shown = [baseline, *some[: MOST_LISTED - 1]]
        cells = [_cells(line, baseline, names, view) for line in shown]
        rows = [
            [line.side, *line.setting, *own.values()]
            for line, own in zip(shown, cells, strict=True)
        ]
        headers = [*first_headers, *cells[0]]
        return foldable(title, headers, rows, len(first_headers), count)

    blocks = []
    if len(lines) > SHOWN:
        best = [line for line in rest if not any(texts(line.rows, "mark"))]
        best = sorted(best, key=lambda line: _order(line, names[0]))[:_BEST]
        note = f"The baseline and the {len(best)} that take the least time, of what is not marked."
        blocks += [page.paragraph(note), table("", best, len(best) + 1)]
    blocks.append(table("Every side and setting", rest, len(lines)))
    note = page.paragraph(_note(names[0]), "note")
    return page.section("Baseline against variants", *blocks, note)


def _is_reference(view: StudyView, line: Line) -> bool:
    """The first side with the baseline's values, of the fields that it has."""
    pairs = zip(line.setting, view.reference, strict=True)
    return all(value in (first, ABSENT) for value, first in pairs)


def measures(points: pd.DataFrame) -> tuple[str, str]:
    """Columns of time and of energy: to the target, or of whole runs where no point reached one."""
    known = np.isfinite(column(points, "seconds")).any()
    return ("seconds", "joules") if known else ("run_seconds", "run_joules")


def _order(line: Line, time: str) -> float:
    values = column(line.rows, time)
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) == len(values) else float("inf")


def _note(time: str) -> str:
    what = (
        "Time and energy to the target where the scenario has one, else of the whole run"
        if time == "seconds"
        else "No point has a time to a target: time and energy are those of whole runs"
    )
    return (
        f"{what}: geometric mean over the seeds that have it, and its 95 % interval (Student's t "
        "on logs). The first line is the baseline; ratios are over pairs of one seed. Intervals "
        "say how seeds scatter; they hold nothing of what the constants leave open."
    )


def _cells(line: Line, baseline: Line, names: tuple[str, str], view: StudyView) -> dict[str, str]:
    """What came out, by column; columns that say nothing of any point are left out."""
    rows, whole = line.rows, len(line.rows)
    lost = sum(status in WITHOUT_RESULT for status in texts(rows, "status"))
    cells = {"results": f"{whole - lost} of {whole}"}
    for name, word, unit in zip(names, ("time", "energy"), ("s", "J"), strict=True):
        cells[word] = _interval(rows, name, unit)
        same = line is baseline
        cells[f"{word} / baseline"] = ABSENT if same else _ratio(baseline.rows, rows, name)
    if np.isfinite(column(view.distinct, "solver_error")).any():
        errors = column(rows, "solver_error")
        known = errors[np.isfinite(errors)]
        cells["solver error"] = f"{np.median(known):.2g}" if len(known) else ABSENT
    if any(texts(view.distinct, "mark")):
        marks = sum(map(bool, texts(rows, "mark")))
        cells["marked"] = f"{marks} of {whole}" if marks else ABSENT
    return cells


def _interval(rows: pd.DataFrame, name: str, unit: str) -> str:
    values = column(rows, name)
    known = values[np.isfinite(values)]
    if not len(known):
        return "not reached" if "False" in texts(rows, "reached") else ABSENT
    found: Interval = log_interval(known) if (known > 0).all() else mean_interval(known)
    few = f" in {len(known)} of {len(values)}" if len(known) < len(values) else ""
    if np.isnan(found.low) or found.low == found.high:
        return f"{quantity(found.mean, unit)}{few}"
    scale = scale_for(found.mean, unit)
    middle, low, high = (f"{end / scale.factor:.3g}" for end in found[:3])
    return f"{middle} ({low} – {high}) {scale.unit}{few}"


def _ratio(baseline: pd.DataFrame, rows: pd.DataFrame, name: str) -> str:
    """Over pairs of one seed in which both have a positive value."""
    first, second = (
        {
            seed: value
            for seed, value in zip(texts(some, "seed"), column(some, name), strict=True)
            if value > 0 and np.isfinite(value)
        }
        for some in (baseline, rows)
    )
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return ABSENT
    found = paired_ratio([first[s] for s in seeds], [second[s] for s in seeds]).interval
    if np.isnan(found.low) or found.low == found.high:
        return f"{found.mean:.3g}"
    return f"{found.mean:.3g} ({found.low:.3g} – {found.high:.3g})"
