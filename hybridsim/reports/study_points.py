"""The points of a study one by one: marked, without a result, how they came about, where they
are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hybridsim.reports import page
from hybridsim.reports.differences import ABSENT, short_names
from hybridsim.reports.kinds import MOST_LISTED
from hybridsim.reports.study_tables import WHERE, foldable
from hybridsim.reports.study_trust import WITHOUT_RESULT, by_count, grouped, number
from hybridsim.reports.study_variants import measures
from hybridsim.reports.study_view import StudyView, column, texts, value_text
from hybridsim.reports.units_text import quantity

_MOST_PLACES = 6


def marked(view: StudyView) -> str:
    """Points that cannot decide, grouped by why."""
    rows = view.distinct
    if not any(texts(rows, "mark")):
        gate = f"the gate of {view.gate:g}" if np.isfinite(view.gate) else "the gate"
        text = f"None: no solver error is above {gate}, and no settling was left unrun."
        return page.section("Points that cannot win", page.paragraph(text))
    note = (
        "These are not trusted, whatever they say of time and energy"
        f"{f'; the gate is a solver error of {view.gate:g}' if np.isfinite(view.gate) else ''}."
    )
    return page.section(
        "Points that cannot win",
        page.paragraph(note, "note"),
        _reasons(view, texts(rows, "mark"), "Marked because"),
    )


def without_result(view: StudyView) -> str:
    """Points that failed, diverged, were refused or are missing, grouped by the reason."""
    rows = view.distinct
    status, reason = texts(rows, "status"), texts(rows, "reason")
    found = [
        f"{word}: {why or 'no reason is known'}" if word in WITHOUT_RESULT else ""
        for word, why in zip(status, reason, strict=True)
    ]
    if not any(found):
        return page.section("Points without a result", page.paragraph("None."))
    return page.section("Points without a result", _reasons(view, found, "Reason"))


def _reasons(view: StudyView, reasons: Sequence[str], header: str) -> str:
    """A line a reason: how many points, and where."""
    kinds = grouped(reason for reason in reasons if reason)
    lines: list[list[object]] = []
    for first, count in kinds.values():
        key = next(iter(grouped([first])))
        places = [index for index, text in enumerate(reasons) if text and key in grouped([text])]
        shown = "; ".join(_place(view, index) for index in places[:_MOST_PLACES])
        more = f"; and {count - _MOST_PLACES:,} more" if count > _MOST_PLACES else ""
        alike = f" (and {count - 1:,} alike)" if count > 1 else ""
        lines.append([f"{first}{alike}", f"{shown}{more}", f"{count:,}"])
    return foldable("Reasons", [header, "Where", "points"], lines, 2, len(lines))


def _place(view: StudyView, index: int) -> str:
    """Side, values and seed of a point."""
    row, short = view.distinct.iloc[index], short_names(view.fields)
    pairs = zip(view.fields, view.setting(row.to_dict()), strict=True)
    values = [f"{short[name]} {value}" for name, value in pairs if value != ABSENT]
    return ", ".join([str(row["side"]), *values, f"seed {row['seed']}"])


def origins(view: StudyView) -> str:
    """How the numbers came about, the gate, and how each side was tuned."""
    rows = view.distinct
    words = {
        "live": "trained with tensors",
        "replayed": "numbers of another point, another schedule",
        "retimed": "the schedule of another point under other constants",
        "timing": "nothing was trained, only schedule and energy",
    }
    counts = [
        [how, words.get(how, ""), f"{count:,}"]
        for how, count in by_count(texts(rows, "how")).items()
    ]
    blocks = (
        [page.table(["Points", "What that means", "how many"], counts, text=2)] if counts else []
    )
    wall_s = column(rows, "wall_s")
    if np.isfinite(wall_s).any():
        spent = quantity(float(np.nansum(wall_s)), "s")
        blocks.append(page.paragraph(f"Computing all points took {spent} of the host's time."))
    return page.section("How the numbers came about", *blocks, _tuning(view))


def _tuning(view: StudyView) -> str:
    if not view.tuning:
        return page.paragraph("Nothing was tuned: the scenarios' own settings are used.")
    names = list(dict.fromkeys(name for row in view.tuning for name in row))
    rows = [[value_text(row.get(name)) for name in names] for row in view.tuning]
    headers = [name.replace("_", " ") for name in names]
    told = "Each side's settings were chosen on other seeds, with the same budget:"
    return page.paragraph(told) + page.table(headers, rows, text=len(names))


def listing(view: StudyView) -> str:
    """Every point with a link to its folder; the first ones where there are many."""
    rows, short = view.distinct, short_names(view.fields)
    time, energy = measures(view.points)
    shown = rows.head(MOST_LISTED)
    lines = [
        [
            _folder(view, str(row["point"])),
            *(str(row["side"]), *view.setting(row.to_dict()), str(row["seed"]), *cells),
        ]
        for (_, row), cells in zip(shown.iterrows(), _outcomes(shown, time, energy), strict=True)
    ]
    headers = ["Point", "side", *(short[name] for name in view.fields), "seed", "status", "how"]
    table = foldable("Points", [*headers, "time", "energy"], lines, len(headers), len(rows))
    note = (
        f"{number(len(rows), 'point')}; {WHERE} has every row and column. A run's own report is "
        "made on demand: hybridsim report FOLDER."
    )
    return page.section("Points", table, page.paragraph(note, "note"))


def _outcomes(rows: pd.DataFrame, time: str, energy: str) -> list[list[str]]:
    columns = (texts(rows, "status"), texts(rows, "how"), column(rows, time), column(rows, energy))
    return [
        [status, how or ABSENT, quantity(seconds, "s"), quantity(joules, "J")]
        for status, how, seconds, joules in zip(*columns, strict=True)
    ]


def _folder(view: StudyView, point: str) -> object:
    target = view.folders.get(point)
    return page.Link(point, target) if target else point
