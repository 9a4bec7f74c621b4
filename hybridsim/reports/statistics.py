"""Intervals over seeds: Student's t on the values, or on their logarithms where these are positive.

A percentile bootstrap of five seeds covers the truth in 82 to 84 % of cases where it says 95 %;
Student's t covers it in 95 % for normal values at any number of seeds, and for log-normal ones
where it is taken on logarithms.
Shares of draws have Clopper's and Pearson's, in forms for strata and for clusters of draws.
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


class Share(NamedTuple):
    """A share of draws and the 95 % interval of what it estimates.

    Attributes:
        share: estimate; NaN where nothing was drawn.
        low: lower end, 0 at least.
        high: upper end, 1 at most.
        trials: how many draws it rests on.
        method: e.g. ``Clopper-Pearson``.
    """

    share: float
    low: float
    high: float
    trials: int
    method: str

    @property
    def basis(self) -> str:
        """What to say beside the interval: level, method, draws."""
        return f"{100 * LEVEL:.0f} % interval, {self.method}, {self.trials:,} draws"


class Stratum(NamedTuple):
    """Draws of one sort, of which perhaps only some were evaluated.

    Attributes:
        draws: how many there are.
        evaluated: how many of them were evaluated, chosen at random.
        successes: how many of those succeeded.
    """

    draws: int
    evaluated: int
    successes: int


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


def detectable_rows(gaps: np.ndarray) -> np.ndarray:
    """Whether the 95 % interval of each row's mean by Student's t leaves out zero: many paired
    comparisons at once.

    Args:
        gaps: differences, or logarithms of ratios, shape (rows, pairs); one that is not finite
            makes its row undetectable, as fewer than two pairs do all.
    """
    pairs = gaps.shape[1]
    if pairs < FEWEST_FOR_INTERVAL:
        return np.zeros(len(gaps), bool)
    data = np.where(np.isfinite(gaps), gaps, 0.0)
    data = np.where(np.abs(data) <= _SAME, 0.0, data)
    half = stats.t.ppf((1 + LEVEL) / 2, pairs - 1) * data.std(axis=1, ddof=1) / pairs**0.5
    return np.asarray((np.abs(data.mean(axis=1)) > half) & np.isfinite(gaps).all(axis=1))


def binomial_interval(successes: float, trials: float) -> Share:
    """Share k/n and its interval, B(0.025; k, n-k+1) to B(0.975; k+1, n-k) with B the quantiles of
    beta distributions; it covers the truth in at least 95 % of cases. Numbers need not be whole.
    Source: Clopper & Pearson 1934.

    Raises:
        ValueError: not 0 <= successes <= trials.
    """
    return _clopper_pearson(successes, trials, LEVEL, "Clopper-Pearson")


def stratified_interval(strata: Sequence[Stratum]) -> Share:
    """Share over strata that were found by drawing, some of which were evaluated in part.

    The estimate is the sum over strata of (draws / all draws) x (successes / evaluated). Where all
    draws were evaluated, the interval is Clopper's and Pearson's. Otherwise its ends are those of
    P(success in a complete stratum) + sum of P(stratum) x P(success | stratum) over the others,
    each factor at its own Clopper-Pearson end at level 1 - 0.05 / (number of factors): by
    Bonferroni's inequality it covers the truth in at least 95 % of cases. A stratum of which
    nothing was evaluated may be anything from none to all; the estimate leaves it out.

    Raises:
        ValueError: not 0 <= successes <= evaluated <= draws.
    """
    for stratum in strata:
        if not 0 <= stratum.successes <= stratum.evaluated <= stratum.draws:
            raise ValueError(f"expected 0 <= successes <= evaluated <= draws, got {stratum}")
    draws = sum(stratum.draws for stratum in strata)
    sampled = [stratum for stratum in strata if stratum.evaluated < stratum.draws]
    complete = [stratum for stratum in strata if stratum.evaluated == stratum.draws]
    sure = sum(stratum.successes for stratum in complete)
    if not sampled:
        return binomial_interval(sure, draws)
    known = sum(stratum.draws for stratum in strata if stratum.evaluated)
    wins = sure + sum(s.draws * s.successes / s.evaluated for s in sampled if s.evaluated)
    level = 1 - (1 - LEVEL) / (1 + 2 * len(sampled))
    ends = np.array(_ends(sure, draws, level))
    for stratum in sampled:
        weight = np.array(_ends(stratum.draws, draws, level))
        ends += weight * np.array(_ends(stratum.successes, stratum.evaluated, level))
    low, high = np.clip(ends, 0, 1)
    evaluated = sum(stratum.evaluated for stratum in strata)
    method = "Clopper-Pearson by strata (Bonferroni)"
    return Share(wins / known if known else np.nan, float(low), float(high), evaluated, method)


def clustered_interval(shares: Sequence[float] | np.ndarray, trials: int) -> Share:
    """Mean of the shares of m clusters of draws of one size, whose draws are alike.

    Clopper's and Pearson's interval at the effective number of draws p (1 - p) / v times
    (t(n-1) / t(m-1))^2 for the degrees of freedom, and no fewer than m, no more than ``trials``.
    The variance v of the mean is that of the shares and half a cluster of 0 and half a cluster of
    1: without these, clusters that are nearly unanimous by chance cover 86 to 90 %. Source of the
    effective number: Korn & Graubard, Survey Methodology 24 (1998).

    Args:
        shares: one for each cluster, shape (m,).
        trials: draws in all clusters together.

    Raises:
        ValueError: fewer than two clusters, or a share that is none.
    """
    data = np.asarray(shares, dtype=float)
    if data.ndim != 1 or len(data) < FEWEST_FOR_INTERVAL or not ((data >= 0) & (data <= 1)).all():
        raise ValueError(f"expected shares of at least two clusters, got {shares}")
    count, share = len(data), float(data.mean())
    middle = (data.sum() + 0.5) / (count + 1)
    squares = ((data - middle) ** 2).sum() + 0.5 * middle**2 + 0.5 * (1 - middle) ** 2
    quantiles = stats.t.ppf((1 + LEVEL) / 2, [max(trials - 1, 1), count - 1])
    wanted = (
        share * (1 - share) * count**2 / float(squares) * float(quantiles[0] / quantiles[1]) ** 2
    )
    effective = min(max(wanted, float(count)), float(max(trials, count)))
    method = f"Korn-Graubard, {count} clusters"
    found = _clopper_pearson(share * effective, effective, LEVEL, method)
    return found._replace(trials=trials)


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


def _clopper_pearson(successes: float, trials: float, level: float, method: str) -> Share:
    low, high = _ends(successes, trials, level)
    share = successes / trials if trials else np.nan
    return Share(share, low, high, round(trials), method)


def _ends(successes: float, trials: float, level: float) -> tuple[float, float]:
    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, got {successes} of {trials}")
    rest, tail = trials - successes, (1 - level) / 2
    low = stats.beta.ppf(tail, successes, rest + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, rest) if rest > 0 else 1.0
    return float(low), float(high)
