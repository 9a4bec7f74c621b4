"""The picture of break-evens: the ratio along the axis, and where it is one."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from hybridsim.reports.study_figures import Axis, Curve, curves
from hybridsim.scenario.quantity import unit_of
from hybridsim.studies.questions._cells import key_of
from hybridsim.studies.questions._measures import word
from hybridsim.studies.questions._sentences import field_words, short_place
from hybridsim.studies.questions.base import Answer

_WIDE = 10


def picture(answer: Answer) -> go.Figure:
    """One curve for each combination of the other axes; crossings of a single one as lines."""
    facts, rows = answer.facts, answer.table.to_dict("records")
    field, (first, second) = facts["axis"], facts["sides"]
    drawn = []
    for line in facts["lines"]:
        others = line["values"]
        own = [r for r in rows if key_of({name: r[name] for name in others}) == key_of(others)]
        texts = [
            f"{field_words(field)} {row[field]}: {first} / {second} = {row['ratio']:.3g}; "
            f"{row['mark'] or row['verdict']}"
            for row in own
        ]
        columns = ("at", "ratio", "ratio_low", "ratio_high")
        at, ratio, low, high = ([float(row[name]) for row in own] for name in columns)
        ratio = [value if value > 0 else math.nan for value in ratio]
        hollow = [bool(row["mark"]) for row in own]
        drawn.append(Curve(short_place(others), at, ratio, low, high, hollow, texts))
    places = [value for curve in drawn for value in curve.x if isinstance(value, float)]
    log = min(places) > 0 and max(places) > _WIDE * min(places)
    title = f"{first} / {second}, {word(facts['measure'])}"
    caption = (
        f"{title}: geometric mean and 95 % interval over seeds; below the dashed line {first} wins."
        " Hollow: not trusted."
    )
    x = Axis(field_words(field), log, unit_of(rows[0][field]) or "")
    crossings = facts["lines"][0]["crossings"] if len(drawn) == 1 else []
    spots = [(_number(one["at"]), _number(one["low"]), _number(one["high"])) for one in crossings]
    return curves(drawn, x, Axis(title, log=True), caption, 1.0, spots)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
