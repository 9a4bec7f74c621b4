"""Tables of a study's page: columns whose names say the unit, long ones cut and said to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hybridsim.reports import page
from hybridsim.reports.differences import ABSENT, short_names
from hybridsim.reports.kinds import MOST_LISTED, listed
from hybridsim.reports.study_view import StudyView, value_text
from hybridsim.reports.units_text import quantity

SHOWN = 20
"""Lines that stand open; more of them are folded."""
WHERE = "the CSV below"
_UNITS = {"seconds": "s", "s": "s", "joules": "J", "j": "J"}


def answer_table(view: StudyView) -> str:
    """What a question found; numbers are right-aligned, with the unit that their column's name ends
    in, fields stand as they are.
    """
    frame, short = view.answer_table, short_names(view.fields)
    if frame.empty:
        return ""
    names = [short.get(str(name), str(name)) for name in frame.columns]
    numeric = [_is_numeric(frame[name]) and name not in view.fields for name in frame.columns]
    units = [_unit(name) if number else "" for name, number in zip(names, numeric, strict=True)]
    rows = [
        [_cell(cell, unit, number) for cell, unit, number in zip(row, units, numeric, strict=True)]
        for row in frame.head(MOST_LISTED).itertuples(index=False)
    ]
    headers = [_header(name, unit) for name, unit in zip(names, units, strict=True)]
    text = {0, *(index for index, number in enumerate(numeric) if not number)}
    return foldable("Lines", headers, rows, text, len(frame))


def _cell(cell: object, unit: str, number: bool) -> str:
    if unit:
        return quantity(float(str(cell)), unit)
    text = value_text(cell)
    if not number or text == ABSENT or not isinstance(cell, float | np.floating):
        return text
    return f"{cell:.4g}"


def foldable(
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    text: int | set[int],
    count: int,
) -> str:
    """A table; folded where it is long. ``count``: how many rows there are, shown or not."""
    table = page.table(headers, rows[:MOST_LISTED], text)
    return table if count <= SHOWN else page.folded(listed(title, count, WHERE), table)


def _is_numeric(found: pd.Series[Any]) -> bool:  # Any: a column of whatever kind
    """Truths count as text."""
    types = pd.api.types
    return types.is_numeric_dtype(found) and not types.is_bool_dtype(found)


def _unit(name: str) -> str:
    return _UNITS.get(name.rpartition("_")[2], "")


def _header(name: str, unit: str) -> str:
    stem, _, last = name.rpartition("_")
    return (stem if unit and stem and last in ("s", "j") else name).replace("_", " ")
