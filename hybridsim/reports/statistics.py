"""Small-sample statistics for comparing runs over seeds."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

FEWEST_FOR_INTERVAL = 3
LEVEL = 0.05
_RESAMPLES = 10_000
_MOST_EXACT = 16


class Interval(NamedTuple):
    """A median, and its bootstrap 95 % interval (NaN where there are too few values)."""

    median: float
    low: float
    high: float


class Paired(NamedTuple):
    """The geometric mean of ``second / first`` over pairs, its bootstrap 95 % interval, and a
    p-value.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    pairs: int

    @property
    def detectable(self) -> bool:
        """Whether the two differ at the 5 % level."""
        return self.p_value <= LEVEL


def median_interval(values: np.ndarray) -> Interval:
    """Median and its percentile bootstrap interval; infinities (a target not reached) count as
    largest.
    """
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    middle = _median(values[None])[0]
    if len(values) < FEWEST_FOR_INTERVAL:
        return Interval(middle, np.nan, np.nan)
    low, high = _ends(_median(values[_resamples(len(values))]))
    return Interval(middle, low, high)


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """Compare positive values pair by pair (same seed): is ``second / first`` different from 1?

    The p-value is that of the exact sign-flip permutation test of the mean log ratio: if the two
    are alike, every log ratio is as likely as its opposite. With n pairs it cannot be below 2 /
    2^n, so fewer than 6 pairs never show a difference at the 5 % level.

    Raises:
        ValueError: no pairs, or values that are not positive and finite.
    """
    both = np.stack([first, second])
    if not both.size or not (np.isfinite(both) & (both > 0)).all():
        raise ValueError("expected at least one pair of positive, finite values")
    logs = np.log(second / first)
    low = high = float("nan")
    if len(logs) >= FEWEST_FOR_INTERVAL:
        low, high = _ends(logs[_resamples(len(logs))].mean(axis=1))
    ratio, low, high = (float(np.exp(value)) for value in (logs.mean(), low, high))
    return Paired(ratio, low, high, _sign_flip(logs), len(logs))


def _sign_flip(logs: np.ndarray) -> float:
    """Share of sign patterns whose mean is at least as far from zero as the mean observed."""
    if len(logs) <= _MOST_EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(logs))))
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2**_MOST_EXACT, len(logs)))
    means, observed = np.abs(signs @ logs), abs(logs.sum())
    return float((means >= observed * (1 - 1e-12)).mean())


def _resamples(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, size, (_RESAMPLES, size))


def _median(rows: np.ndarray) -> np.ndarray:
    """Median of every row; the larger of the two in the middle where one of them is infinite."""
    ordered = np.sort(rows, axis=1)
    below, above = ordered[:, (rows.shape[1] - 1) // 2], ordered[:, rows.shape[1] // 2]
    return np.where(np.isfinite(above), (below + above) / 2, above)


def _ends(values: np.ndarray) -> tuple[float, float]:
    ordered = np.sort(values)
    return float(ordered[int(0.025 * len(ordered))]), float(ordered[int(0.975 * len(ordered)) - 1])
