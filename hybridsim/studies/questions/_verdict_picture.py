"""The picture of verdicts: the ratio's distribution and what decides, or shares over an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.differences import short_names
from hybridsim.reports.study_figures import Axis, Curve, curves
from hybridsim.reports.study_tornado import Bar, distribution
from hybridsim.studies.questions._axes import numbers_of
from hybridsim.studies.questions._measures import word
from hybridsim.studies.questions._sentences import field_words, short_place
from hybridsim.studies.questions.base import Answer

_MOST_BARS = 8
Facts = Mapping[str, Any]
"""What an answer keeps for machines."""


def picture(answer: Answer, fields: Sequence[str]) -> go.Figure:
    """At one point the distribution of the ratio by the first measure; else shares over points."""
    points = answer.facts["points"]
    if len(points) == 1:
        return _distribution(answer.facts, points[0])
    return _shares(answer.facts, points, fields)


def _distribution(facts: Facts, point: Facts) -> go.Figure:
    (first, second), measure = facts["sides"], facts["measures"][0]
    verdict = point["verdicts"][measure]
    names = [one["constant"] for one in verdict["deciding"][:_MOST_BARS]]
    short = short_names(names)
    middle = verdict["ratio_quantiles"]["0.5"] or 1.0
    bars = [
        Bar(
            short[one["constant"]],
            _factor(one["ratio_in_lowest_third"], middle),
            _factor(one["ratio_in_highest_third"], middle),
            one["status"] == "assumed",
            f"ratio {_ratio(one['ratio_in_lowest_third'])} in its lowest third, "
            f"{_ratio(one['ratio_in_highest_third'])} in its highest",
        )
        for one in verdict["deciding"][:_MOST_BARS]
    ]
    ratio = f"{first} / {second}, {word(measure)}"
    caption = (
        f"{ratio}, over joint draws of the constants: left of the dashed line {first} wins. Below: "
        "its mean in the lowest (pale) and the highest third of the constants that decide, as a "
        "factor of the median; hatched: assumed."
    )
    titles = (ratio, "factor on the ratio, lowest (pale) and highest third")
    return distribution(np.array(verdict["ratios"] or [1.0]), bars, titles, caption)


def _ratio(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _factor(ratio: float | None, middle: float) -> float:
    return 1.0 if ratio is None or not ratio > 0 else ratio / middle


def _shares(facts: Facts, points: Sequence[Facts], fields: Sequence[str]) -> go.Figure:
    """The share of draws that the first side wins, over the first field that varies."""
    first, field = facts["sides"][0], fields[0]
    raw = [point["values"][field] for point in points]
    numeric = numbers_of(raw)
    places: list[float | str] = list(numeric) if numeric is not None else [str(v) for v in raw]
    lines: dict[str, list[tuple[float | str, Facts, str]]] = {}
    for at, point in zip(places, points, strict=True):
        others = {name: value for name, value in point["values"].items() if name != field}
        for measure in facts["measures"]:
            name = ", ".join(filter(None, (word(measure), short_place(others))))
            share = point["verdicts"][measure]["wins"][first]
            text = f"{short_place(point['values'])}: {_percent(share['share'])} in {word(measure)}"
            lines.setdefault(name, []).append((at, share, text))
    drawn = []
    for name, own in lines.items():
        if numeric is not None:
            own = sorted(own, key=lambda one: float(one[0]))
        found = [share for _, share, _ in own]
        middle, low, high = (
            [math.nan if one[end] is None else 100 * one[end] for one in found]
            for end in ("share", "low", "high")
        )
        hollow = [False] * len(own)
        drawn.append(
            Curve(name, [at for at, _, _ in own], middle, low, high, hollow, [t for *_, t in own])
        )
    wide = numeric is not None and min(numeric) > 0 and max(numeric) > 10 * min(numeric)
    title = f"draws that {first} wins (%)"
    caption = f"Share of what the constants allow in which {first} wins, with 95 % intervals."
    return curves(drawn, Axis(field_words(field), wide), Axis(title), caption, 50.0)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.3g} %"
