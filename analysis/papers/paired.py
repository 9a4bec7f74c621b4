"""Intervals over seeds: Student's t on differences, or on log ratios, of runs paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean m and its 95 % t interval m ± t(0.975, n-1) s/√n; s is the sample standard deviation.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    data = np.asarray(values, dtype=float)
    if len(data) < 2 or not np.isfinite(data).all():
        raise ValueError(f"expected at least two finite values, got {list(values)}")
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5)
    mean = float(data.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Mean of ``first - second`` pair by pair, its interval, and whether the interval leaves out
    zero.
    """
    found = mean_interval([a - b for a, b in zip(first, second, strict=True)])
    return {**found, "pairs": len(first), "separable": not found["low"] <= 0 <= found["high"]}


def ratio(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Geometric mean of ``first / second`` pair by pair, with the interval of the mean log ratio
    carried over.
    """
    found = mean_interval([float(np.log(a / b)) for a, b in zip(first, second, strict=True)])
    return {key: float(np.exp(value)) for key, value in found.items()} | {"pairs": len(first)}


def verdict(found: dict[str, Any], low: float, high: float) -> str:
    """``holds`` where the whole interval lies within [low, high], ``does not`` where all of it lies
    outside.
    """
    if low <= found["low"] and found["high"] <= high:
        return "holds"
    return "does not" if found["high"] < low or found["low"] > high else "not separable"
