"""The picture of a table: a heat map of two axes, lines over one, bars without any."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.study_figures import Axis, Curve, Heat, bars, curves, heat_map
from hybridsim.scenario.quantity import Raw, unit_of
from hybridsim.studies.questions._axes import groups_of, names_of, numbers_of
from hybridsim.studies.questions._cells import key_of
from hybridsim.studies.questions._measures import Measure, amount, unit, word
from hybridsim.studies.questions._sentences import field_words, place, short_place
from hybridsim.studies.questions.base import Answer

if TYPE_CHECKING:
    from hybridsim.studies.schema import Study

Row = Mapping[Hashable, Any]
"""A line of the answer's table."""


def picture(study: Study, answer: Answer, measure: Measure) -> go.Figure:
    """As many axes as the study has; of more than two the first two, the others as at the best."""
    groups, rows = groups_of(study), answer.table.to_dict("records")
    sides = names_of(study)
    value = "ratio" if len(sides) == 2 else "mean"
    held = ""
    if len(groups) > 2:
        rows, held = _at_best(rows, groups[2:], value)
    if len(groups) >= 2 and len(sides) <= 2:
        return _heat(rows, groups, sides, measure, held)
    return _lines(rows, groups, sides, measure) if groups else _bars(rows, sides, measure)


def _at_best(
    rows: list[dict[Hashable, Any]], groups: Sequence[tuple[str, ...]], value: str
) -> tuple[list[dict[Hashable, Any]], str]:
    """Rows that have the values of other axes that the lowest row has, and those in words."""
    fields = [field for group in groups for field in group]
    known = [row for row in rows if row[value] == row[value]] or rows
    best = min(known, key=lambda row: float(row[value]) if row[value] == row[value] else 0.0)
    chosen = {field: best[field] for field in fields}
    same = [row for row in rows if all(row[field] == chosen[field] for field in fields)]
    return same, f" Other axes as at the lowest: {place(chosen)}."


def _heat(
    rows: Sequence[Row],
    groups: Sequence[tuple[str, ...]],
    sides: list[str],
    measure: Measure,
    held: str,
) -> go.Figure:
    ratio, (y_fields, x_fields) = len(sides) == 2, groups[:2]
    x, y = (_labels(rows, fields) for fields in (x_fields, y_fields))
    values = np.full((len(y), len(x)), np.nan)
    texts = [[""] * len(x) for _ in y]
    marked = []
    for row in rows:
        column, line = list(x).index(_key(row, x_fields)), list(y).index(_key(row, y_fields))
        values[line, column] = row["ratio" if ratio else "mean"]
        texts[line][column] = _text(row, sides, [*x_fields, *y_fields], measure)
        if row["mark"]:
            marked.append((line, column))
    what = f"{sides[0]} / {sides[1]}" if ratio else f"{word(measure)} ({unit(measure)})"
    colours = f"Blue: {sides[0]} is lower, orange: {sides[1]}. " if ratio else ""
    caption = f"{word(measure).capitalize()}, {what}, geometric means over seeds. {colours}"
    caption += f"Rings: not trusted.{held}"
    heat = Heat(list(x.values()), list(y.values()), values, texts, marked, what, ratio)
    return heat_map(heat, _title(x_fields), _title(y_fields), caption)


def _lines(
    rows: Sequence[Row], groups: Sequence[tuple[str, ...]], sides: list[str], measure: Measure
) -> go.Figure:
    """One line for each side; of two sides their ratio."""
    fields, others = groups[0], [field for group in groups[1:] for field in group]
    ratio = len(sides) == 2
    lines: dict[str, list[Row]] = {}
    for row in rows:
        place_of = short_place({field: row[field] for field in others})
        name = "" if ratio else str(row["side"])
        lines.setdefault(", ".join(filter(None, (name, place_of))), []).append(row)
    numeric = numbers_of([row[fields[0]] for row in rows]) if len(fields) == 1 else None
    labels = _labels(rows, fields)
    drawn = []
    for name, own in lines.items():
        at: list[float | str] = [labels[_key(row, fields)] for row in own]
        if numeric is not None:
            found = numbers_of([rows[0][fields[0]], *(row[fields[0]] for row in own)]) or []
            at = list(found[1:])
            order = np.argsort(found[1:], kind="stable")
            own, at = [own[i] for i in order], [at[i] for i in order]
        drawn.append(_curve(name, at, own, sides, fields, measure))
    wide = numeric is not None and min(numeric) > 0 and max(numeric) > 10 * min(numeric)
    title = f"{sides[0]} / {sides[1]}, {word(measure)}" if ratio else word(measure)
    caption = f"{title}: geometric means, 95 % intervals over seeds. Hollow: not trusted."
    example = unit_of(rows[0][fields[0]]) if numeric is not None else None
    x, y = (
        Axis(_title(fields), wide, example or ""),
        Axis(title, True, "" if ratio else unit(measure)),
    )
    return curves(drawn, x, y, caption, 1.0 if ratio else None)


def _curve(
    name: str,
    at: list[float | str],
    rows: Sequence[Row],
    sides: list[str],
    fields: Sequence[str],
    measure: Measure,
) -> Curve:
    columns = ("ratio", "ratio_low", "ratio_high") if len(sides) == 2 else ("mean", "low", "high")
    middle, low, high = ([float(row[column]) for row in rows] for column in columns)
    texts = [_text(row, sides, fields, measure) for row in rows]
    return Curve(name, at, middle, low, high, [bool(row["mark"]) for row in rows], texts)


def _bars(rows: Sequence[Row], sides: list[str], measure: Measure) -> go.Figure:
    """A point for each side; of two their ratio."""
    if len(sides) == 2:
        title, names = f"{sides[0]} / {sides[1]}, {word(measure)}", [word(measure)] * len(rows)
    else:
        title, names = word(measure), [str(row["side"]) for row in rows]
    curve = _curve("", list(names), rows, sides, (), measure)
    caption = f"{title}: geometric means, 95 % intervals over seeds. Hollow: not trusted."
    axis = Axis(title, unit="" if len(sides) == 2 else unit(measure))
    return bars(curve, axis, caption, 1.0 if len(sides) == 2 else None)


def _text(row: Row, sides: list[str], fields: Sequence[str], measure: Measure) -> str:
    """What hovering says of a row."""
    where = place({field: row[field] for field in fields})
    if len(sides) == 2:
        values = ", ".join(f"{side} {amount(float(row[side]), measure)}" for side in sides)
        text = f"{values}; ratio {float(row['ratio']):.3g}; {_VERDICTS[row['verdict']]}"
    else:
        text = f"{row['side']} {amount(float(row['mean']), measure)}"
    mark = f"; not trusted: {row['mark']}" if row["mark"] else ""
    return "; ".join(filter(None, (where, text + mark)))


_VERDICTS = {
    "wins": "detectable",
    "untested": "one seed: not tested",
    "same": "no detectable difference",
    "untrusted": "the lower one is marked",
    "neither": "no side gets there",
    "unknown": "not known",
}


def _key(row: Row, fields: Sequence[str]) -> str:
    return key_of({field: row[field] for field in fields})


def _labels(rows: Sequence[Row], fields: Sequence[str]) -> dict[str, str]:
    """A label for each combination of the fields' values, in the rows' order; numbers by size."""
    found: dict[str, Raw] = {}
    for row in rows:
        found.setdefault(_key(row, fields), {field: row[field] for field in fields})
    if len(fields) == 1:
        numbers = numbers_of([own[fields[0]] for own in found.values()])
        if numbers is not None:
            order = np.argsort(numbers, kind="stable")
            keys = list(found)
            found = {keys[index]: found[keys[index]] for index in order}
        return {key: _label(own[fields[0]]) for key, own in found.items()}
    return {key: short_place(own) for key, own in found.items()}


def _label(value: Raw) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _title(fields: Sequence[str]) -> str:
    return ", ".join(field_words(field) for field in fields)
