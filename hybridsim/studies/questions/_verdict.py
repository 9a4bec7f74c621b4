"""A verdict over draws of constants: who wins in which share, and what decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hybridsim.reports.statistics import (
    Share,
    Stratum,
    binomial_interval,
    clustered_interval,
    detectable_rows,
    stratified_interval,
)
from hybridsim.studies.questions._cells import Combination
from hybridsim.studies.questions._draws import (
    Outcomes,
    deciding,
    evaluated,
    log_ratios,
    thirds,
)
from hybridsim.studies.questions._measures import Measure
from hybridsim.studies.questions.base import RangedConstant

BLOCK = 500
"""Draws are evaluated in blocks of so many, each with its part of the budget of simulations."""
MOST_DECIDING = 3
MARKED = "marked"
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
_SKETCHED = 400
_SAME = 1e-9
"""Logarithms of ratios below this are rounding: nobody wins."""


class Deciding(NamedTuple):
    """A constant by how much it decides.

    Attributes:
        constant: which.
        influence: share of the variance of who wins (of the rank of the ratio, where all draws have
            one winner) that knowing it would take away.
        low: mean share won by the first side in the lowest third of its range.
        high: in its highest third.
        ratio_low: geometric mean of first / second in its lowest third.
        ratio_high: in its highest third.
    """

    constant: RangedConstant
    influence: float
    low: float
    high: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class Verdict:
    """Who wins by one measure.

    Attributes:
        measure: which.
        wins: share of draws won by each side.
        lower: share of draws in which each side is lower, marked or not.
        detected: share of draws that each side wins by more than seeds explain (95 %, paired).
        ratios: of first / second, at 400 shares of the draws.
        quantiles: of the ratio, at 2.5, 25, 50, 75 and 97.5 %.
        deciding: constants, the most deciding first.
        by_ratio: all draws have one winner: what moves the ratio is listed instead.
        draws: how many there are.
        evaluated: how many of them count.
        again: how many were simulated, or would have been.
        neither: draws without a winner.
        seeds: pairs that every draw rests on.
        marks: of each side.
    """

    measure: Measure
    wins: tuple[Share, Share]
    lower: tuple[float, float]
    detected: tuple[Share, Share]
    ratios: tuple[float, ...]
    quantiles: tuple[float, ...]
    deciding: list[Deciding]
    by_ratio: bool
    draws: int
    evaluated: int
    again: int
    neither: int
    seeds: int
    marks: tuple[str, ...]

    @property
    def doubted(self) -> bool:
        """A side that is marked is lower in some draw."""
        return any(mark and share > 0 for mark, share in zip(self.marks, self.lower, strict=True))


@dataclass(frozen=True)
class Drawn:
    """All verdicts at one combination of the axes' values.

    Attributes:
        values: the combination.
        varied: constants that were drawn.
        held: constants with a range that were not.
        clusters: Latin-hypercube points of numeric constants; 0: none varied.
        verdicts: one for each measure.
    """

    values: Combination
    varied: list[RangedConstant]
    held: list[RangedConstant]
    clusters: int
    verdicts: list[Verdict]


def verdict(
    measure: Measure,
    came: Outcomes,
    constants: Sequence[RangedConstant],
    shares: np.ndarray,
    clusters: int,
) -> Verdict:
    """Who wins by a measure.

    Args:
        measure: which.
        came: what came out of the draws.
        constants: what was drawn.
        shares: where in its range each lies, shape (draws, constants).
        clusters: draws k, k + clusters, k + 2 clusters ... share the values of numeric constants;
            0: all draws are independent.
    """
    gaps, single = log_ratios(came.values)
    gaps = np.where(np.abs(gaps) <= _SAME, 0.0, gaps)
    kept = evaluated(came, BLOCK)
    below = (gaps < 0, gaps > 0)
    known = ~np.isnan(single).all(axis=0)
    sure = detectable_rows(single[:, known]) | np.isinf(gaps)
    weights = np.where(came.again, _weight(kept, came.again), 1.0)[kept]
    decisive, by_ratio = _deciding(gaps, below, kept, constants, shares, weights)

    def share(side: int, won: np.ndarray) -> Share:
        if came.marks[side]:
            # A side that is marked wins nothing by rule: that is no estimate.
            return Share(0.0, 0.0, 0.0, int(kept.sum()), MARKED)
        return _share(won, kept, came.again, clusters)

    return Verdict(
        measure,
        (share(0, below[0]), share(1, below[1])),
        (_weighted(below[0][kept], weights), _weighted(below[1][kept], weights)),
        (share(0, below[0] & sure), share(1, below[1] & sure)),
        _quantiles(gaps[kept], weights, (np.arange(_SKETCHED) + 0.5) / _SKETCHED),
        _quantiles(gaps[kept], weights, QUANTILES),
        decisive,
        by_ratio,
        len(gaps),
        int(kept.sum()),
        int(came.again.sum()),
        int(np.isnan(gaps[kept]).sum()),
        int((~np.isnan(single[kept])).sum(axis=1).max(initial=0)),
        came.marks,
    )


def _share(won: np.ndarray, kept: np.ndarray, again: np.ndarray, clusters: int) -> Share:
    """The share of draws with its interval, by what became of them."""
    strata = [_stratum(won, kept, again == sort) for sort in (False, True)]
    strata = [stratum for stratum in strata if stratum.draws]
    if not clusters:
        complete = all(stratum.evaluated == stratum.draws for stratum in strata)
        if complete:
            return binomial_interval(sum(s.successes for s in strata), len(won))
        return stratified_interval(strata)
    rates = {sort: _stratum(won, kept, again == sort) for sort in (False, True)}
    found = []
    for first in range(clusters):
        own = np.zeros(len(won), bool)
        own[first::clusters] = True
        total = 0.0
        for sort in (False, True):
            stratum = _stratum(won, kept, own & (again == sort))
            # A cluster without an evaluated draw of a sort takes that sort's share in all.
            source = stratum if stratum.evaluated else rates[sort]
            rate = source.successes / source.evaluated if source.evaluated else 0.5
            total += stratum.draws * rate
        found.append(total / own.sum())
    return clustered_interval(found, int(kept.sum()))


def _stratum(won: np.ndarray, kept: np.ndarray, sort: np.ndarray) -> Stratum:
    return Stratum(int(sort.sum()), int((sort & kept).sum()), int((sort & kept & won).sum()))


def _weight(kept: np.ndarray, again: np.ndarray) -> float:
    """How many draws each simulated one stands for."""
    count = int((kept & again).sum())
    return float(again.sum()) / count if count else 0.0


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    total = float(weights.sum())
    return float((weights * values).sum()) / total if total else math.nan


def _quantiles(
    gaps: np.ndarray, weights: np.ndarray, shares: Sequence[float] | np.ndarray
) -> tuple[float, ...]:
    """Of the ratio: the first value at which the weights reach each share of their sum."""
    known = ~np.isnan(gaps)
    values, weights = gaps[known], weights[known]
    if not len(values):
        return (math.nan,) * len(shares)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    places = np.minimum(np.searchsorted(reached, shares), len(values) - 1)
    return tuple(np.exp(values[order[places]]).tolist())


def _deciding(
    gaps: np.ndarray,
    below: tuple[np.ndarray, np.ndarray],
    kept: np.ndarray,
    constants: Sequence[RangedConstant],
    shares: np.ndarray,
    weights: np.ndarray,
) -> tuple[list[Deciding], bool]:
    """The constants that decide, the most deciding first; by the ratio where all draws agree."""
    won = below[0][kept].astype(float)
    if not len(won) or not constants:
        return [], False
    by_ratio = bool(won.min() == won.max())
    ratios = gaps[kept]
    finite = np.isfinite(ratios)
    target, own = _ranks(ratios) if by_ratio else won, shares[kept]
    found = []
    for name, index in deciding([one.name for one in constants], own, target, weights).items():
        place = next(k for k, one in enumerate(constants) if one.name == name)
        won_by = thirds(own[:, place], won, weights)
        gone = thirds(own[:, place], np.where(finite, ratios, 0.0), weights * finite)
        found.append(Deciding(constants[place], index, *won_by, *np.exp(gone).tolist()))
    return found, by_ratio


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata  # slow to import

    return np.asarray(rankdata(np.where(np.isnan(values), 0.0, values)), dtype=float)
