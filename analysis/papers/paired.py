"""Intervals over seeds: Student's t on differences, or on log ratios, of runs paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import hybridsim


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and its 95 % interval, see :func:`hybridsim.mean_interval`.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        raise ValueError(f"expected at least two finite values, got {list(values)}")
    return _ends(hybridsim.mean_interval(values))


def _ends(found: Any) -> dict[str, float]:  # Any: the interval's class is no public name
    return {"mean": found.mean, "low": found.low, "high": found.high}


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Mean of ``first - second`` pair by pair, its interval, and whether the interval leaves out
    zero.
    """
    found = mean_interval([a - b for a, b in zip(first, second, strict=True)])
    return {**found, "pairs": len(first), "separable": not found["low"] <= 0 <= found["high"]}


def ratio(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Geometric mean of ``first / second`` pair by pair, and its interval on logs, see
    :func:`hybridsim.log_interval`.
    """
    found = hybridsim.log_interval([a / b for a, b in zip(first, second, strict=True)])
    return {**_ends(found), "pairs": len(first)}


def verdict(found: dict[str, Any], low: float, high: float) -> str:
    """``holds`` where the whole interval lies within [low, high], ``does not`` where all of it lies
    outside.
    """
    if low <= found["low"] and found["high"] <= high:
        return "holds"
    return "does not" if found["high"] < low or found["low"] > high else "not separable"
