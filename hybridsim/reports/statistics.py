"""Intervals over seeds: Student's t on the values, or on their logarithms where these are positive.

A percentile bootstrap of five seeds covers the truth in 82 to 84 % of cases where it says 95 %;
Student's t covers it in 95 % for normal values at any number of seeds, and for log-normal ones
where it is taken on logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST_FOR_INTERVAL = 2
LEVEL = 0.95
_NONE = float("nan")
_SAME = 1e-9
"""Relative differences below this are rounding, however alike the seeds are."""


class Interval(NamedTuple):
    """A mean over seeds with the 95 % interval of that mean.

    Attributes:
        mean: arithmetic, or geometric on logs; NaN where there is no value.
        low: lower end; NaN below two values.
        high: upper end; NaN below two values.
        seeds: how many values it rests on.
        method: ``Student's t`` or ``Student's t on logs``.
    """

    mean: float
    low: float
    high: float
    seeds: int
    method: str

    @property
    def basis(self) -> str:
        """What to say beside the interval: level, method, seeds."""
        if self.seeds < FEWEST_FOR_INTERVAL:
            return "one seed: no interval" if self.seeds else "no seed"
        return f"{LEVEL:.0%} interval, {self.method}, {self.seeds} seeds".replace("%", " %")


class Comparison(NamedTuple):
    """Second against first over pairs of one seed each: a ratio or a difference, and its p-value.

    ``detectable`` is whether the 95 % interval leaves out equality; never below two pairs.
    """

    interval: Interval
    p_value: float
    detectable: bool


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean m and its interval m ± t(0.975, n-1) s/√n, with s the sample standard deviation.

    For accuracies, losses and differences. Source: Student 1908.

    Args:
        values: one for each seed, shape (n,), finite.

    Raises:
        ValueError: a value that is not finite.
    """
    data = _finite(values)
    return _around(data, "Student's t")


def log_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Geometric mean exp(m) and its interval exp(m ± t(0.975, n-1) s/√n), m and s those of the
    logarithms.

    For positive quantities whose spread grows with them: steps, seconds, joules.

    Args:
        values: one for each seed, shape (n,), positive and finite.

    Raises:
        ValueError: a value that is not positive and finite.
    """
    found = _around(_logs(values), "Student's t on logs")
    mean, low, high = (float(np.exp(end)) for end in found[:3])
    return found._replace(mean=mean, low=low, high=high)


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Geometric mean of ``second / first`` over pairs of one seed, with the p-value of the paired
    t test of the logarithms.

    Raises:
        ValueError: no pairs, another number of values, or values not positive and finite.
    """
    logs = _logs(second) - _logs(first) if len(first) == len(second) else np.array([])
    found = _tested(logs, _SAME, "Student's t on logs")
    mean, low, high = (float(np.exp(end)) for end in found.interval[:3])
    return found._replace(interval=found.interval._replace(mean=mean, low=low, high=high))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Mean of ``second - first`` over pairs of one seed, with the p-value of the paired t test.

    Raises:
        ValueError: no pairs, another number of values, or a value that is not finite.
    """
    gaps = _finite(second) - _finite(first) if len(first) == len(second) else np.array([])
    scale = float(np.abs(np.concatenate([first, second])).max(initial=0.0))
    return _tested(gaps, _SAME * scale, "Student's t on differences")


def _tested(gaps: np.ndarray, same: float, method: str) -> Comparison:
    if not len(gaps):
        raise ValueError("expected at least one pair of values")
    gaps = np.where(np.abs(gaps) <= same, 0.0, gaps)
    found = _around(gaps, method)
    if len(gaps) < FEWEST_FOR_INTERVAL:
        return Comparison(found, _NONE, False)
    error = float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    if error == 0:
        p_value = float(found.mean == 0)
    else:
        p_value = float(2 * stats.t.sf(abs(found.mean) / error, len(gaps) - 1))
    return Comparison(found, p_value, not found.low <= 0 <= found.high)


def _around(data: np.ndarray, method: str) -> Interval:
    count = len(data)
    mean = float(data.mean()) if count else _NONE
    if count < FEWEST_FOR_INTERVAL:
        return Interval(mean, _NONE, _NONE, count, method)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
    half = quantile * float(data.std(ddof=1)) / count**0.5
    return Interval(mean, mean - half, mean + half, count, method)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"expected a list of finite values, got {values}")
    return data


def _logs(values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = _finite(values)
    if not (data > 0).all():
        raise ValueError(f"expected positive values, got {values}")
    logs: np.ndarray = np.log(data)
    return logs
