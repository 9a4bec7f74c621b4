"""Intervals over seeds as results keep them, by hybridsim's own statistics, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hybridsim


def ends(found: Any) -> dict[str, float]:  # Any: the interval's class is no public name
    """Mean and both ends of an interval."""
    return {"mean": found.mean, "low": found.low, "high": found.high}


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and its 95 % interval, see :func:`hybridsim.mean_interval`."""
    return ends(hybridsim.mean_interval(values))


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Mean of ``first - second`` pair by pair, its interval, and whether that leaves out zero."""
    found = hybridsim.paired_difference(second, first)
    return {**ends(found.interval), "pairs": len(first), "separable": found.detectable}


def ratio(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Geometric mean of ``first / second`` pair by pair, and its interval on logs."""
    return {**ends(hybridsim.paired_ratio(second, first).interval), "pairs": len(first)}


def verdict(found: Mapping[str, Any], low: float, high: float) -> str:
    """``holds`` where the whole interval lies within [low, high], ``does not`` where all of it lies
    outside.
    """
    if low <= found["low"] and found["high"] <= high:
        return "holds"
    return "does not" if found["high"] < low or found["low"] > high else "not separable"
