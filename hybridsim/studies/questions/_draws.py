"""Draws of ranged constants, and what came out of them as arrays."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hybridsim.errors import InputError
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import describe
from hybridsim.studies.questions._cells import mark_of
from hybridsim.studies.questions._measures import Measure, value_of
from hybridsim.studies.questions.base import RangedConstant

_RETIMED, _NOT_EVALUATED = "retimed", "not evaluated"  # as Lab.with_constants says
_WHOLE = {spec.key for specs in CONSTANTS.values() for spec in specs if spec.whole}


class Outcomes(NamedTuple):
    """What came out of draws.

    Attributes:
        values: of a measure, shape (sides, draws, seeds); inf where the side did not get there,
            NaN where nothing is known.
        lost: draws of which some row was not evaluated, shape (draws,).
        again: draws of which some row was simulated, or would have been, shape (draws,).
        marks: of each side, why its numbers are not trusted; "" where they are.
    """

    values: np.ndarray
    lost: np.ndarray
    again: np.ndarray
    marks: tuple[str, ...]


def shares_of(constant: RangedConstant, count: int, seed: int) -> np.ndarray:
    """Where in its range each draw of a constant lies, from 0 to 1, shape (count,). They depend on
    the seed and on its name alone: not on what else is drawn.
    """
    return np.random.default_rng([seed, zlib.crc32(constant.name.encode())]).random(count)


def values_at(constant: RangedConstant, shares: np.ndarray) -> np.ndarray:
    """A constant's values at shares of its range: of its logarithm, of itself where low is zero.

    Of a whole number each value between low and high stands for the half below and above it, so
    that both ends come out as often as their neighbours.
    """
    low, high, whole = constant.low, constant.high, is_whole(constant)
    start, stop = (low - 0.5, high + 0.5) if whole else (low, high)
    if low > 0:
        found = np.exp(np.log(start) + shares * (np.log(stop) - np.log(start)))
    else:
        found = start + shares * (stop - start)
    found = np.round(found) if whole else found
    return np.asarray(np.clip(found, low, high))


def is_whole(constant: RangedConstant) -> bool:
    """Does it take whole numbers only?"""
    key = constant.name.partition(" ")[0].rpartition(".")[2]
    return key in _WHOLE


def chosen(
    ranged: Sequence[RangedConstant], asked: Sequence[str] | None
) -> tuple[list[RangedConstant], list[RangedConstant]]:
    """The constants that are asked for (None: all), and the others.

    Raises:
        InputError: one that has no range, or that no part has.
    """
    wrong = unknown_constants(ranged, asked)
    if wrong:
        expected, got = wrong[0][1:]
        raise InputError(f"question.constants: expected {expected}, got {got}")
    wanted = [one for one in ranged if asked is None or one.name in asked]
    return wanted, [one for one in ranged if one not in wanted]


def unknown_constants(
    ranged: Sequence[RangedConstant], asked: Sequence[str] | None
) -> list[tuple[int, str, str]]:
    """Names that are no ranged constant: (place in the list, expected, got)."""
    names = [one.name for one in ranged]
    return [
        (index, one_of(names, name, "a constant that has a range"), describe(name))
        for index, name in enumerate(asked or ())
        if name not in names
    ]


def outcomes(table: pd.DataFrame, sides: Sequence[str], measure: Measure, draws: int) -> Outcomes:
    """The rows of ``Lab.with_constants`` as arrays."""
    seeds = {seed: index for index, seed in enumerate(sorted(set(table["seed"])))}
    places = {side: index for index, side in enumerate(sides)}
    values = np.full((len(sides), draws, len(seeds)), np.nan)
    lost, again, marks = np.zeros(draws, bool), np.zeros(draws, bool), [""] * len(sides)
    for row in table.to_dict("records"):
        draw, side = int(row["draw"]), places[str(row["side"])]
        value = value_of(row, measure)
        values[side, draw, seeds[int(row["seed"])]] = value
        again[draw] |= row["how"] != _RETIMED
        lost[draw] |= row["how"] == _NOT_EVALUATED and value != value
        marks[side] = marks[side] or mark_of(row["mark"])
    return Outcomes(values, lost, again, tuple(marks))


def log_ratios(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of first over second side, from values of shape (2, draws, seeds).

    Returns:
        The mean over the seeds that both sides have, shape (draws,): inf and -inf where one side
        did not get there with every seed, NaN where neither did or nothing is known. And that of
        each seed, shape (draws, seeds).
    """
    known = ~np.isnan(values).any(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(known, np.log(values), 0.0)
        counts = known.sum(axis=1)
        sums = logs.sum(axis=2)
        gap = np.where(counts > 0, (sums[0] - sums[1]) / np.maximum(counts, 1), np.nan)
        single = np.where(known, logs[0] - logs[1], np.nan)
    return gap, single


def log_means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for one side, from values of shape (1, draws, seeds): logarithms of the values."""
    ones = np.concatenate([values, np.where(np.isnan(values), np.nan, 1.0)])
    return log_ratios(ones)


def evaluated(found: Outcomes, block: int) -> np.ndarray:
    """Draws to count, shape (draws,): those that were retimed; and of the others those before the
    first in its block of draws that was not evaluated. A draw that needs several simulations is
    likelier to miss one of them: what comes behind is no random sample.
    """
    kept = ~found.again
    for first in range(0, len(kept), block):
        own = found.lost[first : first + block]
        stop = first + (int(own.argmax()) if own.any() else len(own))
        kept[first:stop] |= ~found.lost[first:stop]
    return np.asarray(kept & ~found.lost)


def deciding(
    names: Sequence[str], shares: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """Constants that move a value by more than chance, the one that moves it most first, each with
    its first-order index: the share of the value's variance that knowing the constant takes away.

    Draws are put into bins of equal width in the constant's range, and the variance between bins
    is what the bins explain, less what they explain by chance. The means of the bins are taken away
    before the next constant is chosen, so that it is not blamed for what the first does. Chosen is
    what chance shows in at most 5 % of cases (chi-squared, corrected for the number of constants);
    draws of unequal weight count as fewer (Kish: the square of the sum over the sum of squares).

    Args:
        names: K of them.
        shares: where in its range each constant lies, shape (draws, K).
        values: shape (draws,), finite.
        weights: of the draws, shape (draws,).
    """
    from scipy.stats import chi2  # slow to import

    total = float(weights.sum())
    if not names or not total > 0 or not np.ptp(values[weights > 0]) > 0:
        return {}
    effective = total**2 / float((weights**2).sum())
    bins = min(max(int(effective) // 20, 2), 10)
    places = np.minimum((shares * bins).astype(int), bins - 1)
    rest = values - float((weights * values).sum()) / total
    variance = float((weights * rest**2).sum()) / total
    likely = float(chi2.ppf(1 - 0.05 / len(names), bins - 1)) / max(effective - bins, 1.0)
    found: dict[str, float] = {}
    while len(found) < len(names):
        left = [k for k, name in enumerate(names) if name not in found]
        means = {k: _bin_means(places[:, k], rest, weights, bins) for k in left}
        between = {k: float((weights * means[k] ** 2).sum()) / total for k in left}
        best = max(between, key=between.__getitem__)
        inner = float((weights * rest**2).sum()) / total - between[best]
        if not between[best] > max(likely * inner, 1e-12 * variance):
            break
        chance = (bins - 1) * inner / max(effective - bins, 1.0)
        found[names[best]] = max((between[best] - chance) / variance, 0.0)
        rest = rest - means[best]
    return found


def _bin_means(
    places: np.ndarray, values: np.ndarray, weights: np.ndarray, bins: int
) -> np.ndarray:
    """For each draw the mean of its bin."""
    mass = np.bincount(places, weights, bins)
    sums = np.bincount(places, weights * values, bins)
    return np.asarray((sums / np.where(mass > 0, mass, 1.0))[places])


def thirds(shares: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted means of values in the lowest and in the highest third of a constant's range."""
    low, high = (
        float((weights[part] * values[part]).sum() / weights[part].sum())
        if weights[part].sum() > 0
        else float("nan")
        for part in (shares < 1 / 3, shares > 2 / 3)
    )
    return low, high
