"""The picture of effects: a tornado, or indices with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from hybridsim.reports.differences import short_names
from hybridsim.reports.study_figures import Axis, Curve, bars
from hybridsim.reports.study_tornado import Bar, tornado
from hybridsim.studies.questions.base import Answer

_MOST = 20
_COLUMNS = {"sobol": "total", "morris": "mean_effect"}
_TITLES = {
    "sobol": "total index: share of the variance it takes part in",
    "morris": "mean absolute elementary effect on the logarithm",
}


def picture(answer: Answer, what: str) -> go.Figure:
    """The largest effects, the first on top."""
    method, every = answer.facts["method"], answer.facts["effects"]
    effects = [one for one in every if _size(one, method) > 0][:_MOST] or every[:1]
    short = short_names([one["factor"] for one in effects])
    hidden = len(every) - len(effects)
    rest = f" {hidden} with smaller effects or none are in the table." if hidden > 0 else ""
    if method == "tornado":
        rows = [
            Bar(
                short[one["factor"]],
                one["at_low"] or 1.0,
                one["at_high"] or 1.0,
                one["assumed"],
                f"{_times(one['at_low'])} at {one['lowest']}, {_times(one['at_high'])} at "
                f"{one['highest']}",
            )
            for one in effects
        ]
        caption = (
            f"Factor on {what} with each alone at its lowest (pale) and its highest value; "
            f"hatched: assumed.{rest}"
        )
        return tornado(rows, f"factor on {what}", caption)
    name = _COLUMNS[method]
    middle = [one[name] for one in effects]
    half = [one[f"{name}_half"] for one in effects]
    curve = Curve(
        "",
        [f"{short[one['factor']]}{' (assumed)' if one['assumed'] else ''}" for one in effects],
        middle,
        [a - b for a, b in zip(middle, half, strict=True)],
        [a + b for a, b in zip(middle, half, strict=True)],
        [False] * len(effects),
        [f"{a:.3g} ± {b:.2g}" for a, b in zip(middle, half, strict=True)],
    )
    caption = f"{_TITLES[method].capitalize()} of {what}, with 95 % intervals by bootstrap.{rest}"
    return bars(curve, Axis(_TITLES[method]), caption)


def _size(one: Mapping[str, Any], method: str) -> float:
    """Zero where a factor does nothing; Any: what an answer keeps for machines."""
    if method != "tornado":
        return float(one[_COLUMNS[method]] or 0.0)
    return max(abs(float(one[name] or 1.0) - 1) for name in ("at_low", "at_high"))


def _times(factor: float | None) -> str:
    return "not known" if factor is None or math.isnan(factor) else f"{factor:.3g} times"
