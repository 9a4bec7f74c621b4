"""What can be compared: columns of the table of points that are lower for the better side."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd

from hybridsim.reports.units_text import quantity

Measure = Literal[
    "seconds", "joules", "step_seconds", "step_joules", "run_seconds", "run_joules", "step", "area"
]
Row = Mapping[Hashable, Any]
"""A row of a table of points, as pandas gives it."""


class _Words(NamedTuple):
    """``word``: beats in ...; ``unit``: of a value."""

    word: str
    unit: str


_WORDS: dict[Measure, _Words] = {
    "seconds": _Words("seconds", "s"),
    "joules": _Words("joules", "J"),
    "step_seconds": _Words("seconds a step", "s"),
    "step_joules": _Words("joules a step", "J"),
    "run_seconds": _Words("seconds of the whole run", "s"),
    "run_joules": _Words("joules of the whole run", "J"),
    "step": _Words("steps", "steps"),
    "area": _Words("area", "mm²"),
}
TO_TARGET: tuple[Measure, ...] = ("seconds", "joules", "step")
"""Measures that need a target that is reached, where the scenario has one."""


def word(measure: Measure) -> str:
    """What a side is better in."""
    return _WORDS[measure].word


def unit(measure: Measure) -> str:
    """Unit of a value: s, J, steps or mm²."""
    return _WORDS[measure].unit


def amount(value: float, measure: Measure) -> str:
    """A value with its unit."""
    if math.isinf(value):
        return "not reached"
    if unit(measure) in ("steps", "mm²"):  # no kilosteps
        return "–" if math.isnan(value) else f"{value:,.4g} {unit(measure)}"
    return quantity(value, unit(measure))


def value_of(row: Row, measure: Measure) -> float:
    """A row's value; inf where the side did not get there (target not reached, diverged, or the
    machine cannot hold it), NaN where nothing is known.
    """
    if row["status"] in ("diverged", "refused"):
        return math.inf
    if row["status"] != "ok":
        return math.nan
    value: float = float(row[measure]) if pd.notna(row[measure]) else math.nan
    missed: bool = pd.notna(row["reached"]) and not bool(row["reached"])
    return math.inf if math.isnan(value) and missed and measure in TO_TARGET else value


def why_unknown(row: Row, measure: Measure) -> str:
    """Why a row has no value."""
    if row["status"] == "ok":
        how = "nothing was trained" if row["how"] == "timing" else "it was not measured"
        return f"no {word(measure)}: {how}"
    reason = row["reason"]
    return f"{row['status']}: {reason}" if pd.notna(reason) and reason else str(row["status"])
