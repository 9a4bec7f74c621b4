"""Effects of factors: one at a time, Sobol indices, Morris' elementary effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hybridsim.reports.statistics import LEVEL, mean_interval
from hybridsim.studies.questions._cells import mark_of
from hybridsim.studies.questions._factors import Factors, logs_of
from hybridsim.studies.questions._measures import Measure

FEWEST_BLOCKS = 4
_LEVELS = 4
_RESAMPLES = 200
_SAME = 1e-9


@dataclass
class Effect:
    """What one factor does.

    Attributes:
        name: which.
        assumed: its range is assumed.
        ends: its lowest and its highest value.
        numbers: by name; of ``tornado`` factors on the measure at its ends with 95 % intervals over
            seeds, of ``sobol`` first-order and total indices, of ``morris`` mean absolute
            elementary effect and spread, each with its 95 % interval by bootstrap.
        size: what they are ordered by.
    """

    name: str
    assumed: bool
    ends: tuple[str, str]
    numbers: dict[str, float]
    size: float


@dataclass
class Effects:
    """What all factors do, the largest first.

    Attributes:
        method: ``tornado``, ``sobol`` or ``morris``.
        effects: of each factor.
        draws: evaluations.
        left_out: evaluations that there are no numbers of, with all of their base sample or
            trajectory.
        nominal: the measure, or the ratio, as the study has it (``tornado``).
        seeds: over which means are taken.
        marks: why numbers are not trusted.
    """

    method: str
    effects: list[Effect]
    draws: int
    left_out: int
    nominal: float
    seeds: int
    marks: list[str] = field(default_factory=list)

    def lines(self) -> list[dict[str, Any]]:  # Any: numbers and words
        """Lines of the answer's table."""
        return [
            {
                "factor": one.name,
                "lowest": one.ends[0],
                "highest": one.ends[1],
                "assumed": one.assumed,
                **one.numbers,
            }
            for one in self.effects
        ]


def tornado(factors: Factors, measure: Measure) -> Effects:
    """Each factor at its two ends, all others as the study has them: factors on the measure, pairs
    of one seed, Student's t on logs.
    """
    count = len(factors.names)
    if not count:
        return _nothing("tornado")
    shares = np.full((2 * count + 1, count), np.nan)
    for k in range(count):
        shares[2 * k + 1, k], shares[2 * k + 2, k] = 0.0, 1.0
    logs, single, table = logs_of(factors, measure, shares)
    effects = []
    for k in range(count):
        numbers: dict[str, float] = {}
        for end, row in (("low", 2 * k + 1), ("high", 2 * k + 2)):
            with np.errstate(invalid="ignore"):  # no side gets there: not known
                gaps = single[row] - single[0]
            middle, low, high = _factor(gaps)
            numbers |= {f"at_{end}": middle, f"at_{end}_low": low, f"at_{end}_high": high}
        ends = [np.log(numbers[f"at_{end}"]) for end in ("low", "high") if numbers[f"at_{end}"] > 0]
        known = [float(end) for end in ends if np.isfinite(end)]
        size = max([*known, 0.0]) - min([*known, 0.0])
        effects.append(_effect(factors, k, numbers, size))
    lost = int(np.isnan(logs).sum())
    found = _sorted(effects)
    return Effects(
        "tornado", found, len(logs), lost, float(np.exp(logs[0])), single.shape[1], _marks(table)
    )


def sobol(factors: Factors, measure: Measure, samples: int, seed: int) -> Effects:
    """First-order and total indices of the logarithm (Saltelli 2010, Jansen 1999) from a scrambled
    Sobol sequence, with intervals by bootstrap.
    """
    if not factors.names:
        return _nothing("sobol")
    from SALib.analyze import sobol as analysis
    from SALib.sample import sobol as sampling

    problem = _problem(factors)
    shares = sampling.sample(problem, samples, calc_second_order=False, seed=seed)
    block = len(factors.names) + 2
    logs, single, table = logs_of(factors, measure, shares)
    kept = _whole_blocks(logs, block)
    names = ("first_order", "first_order_half", "total", "total_half")
    numbers = {name: np.zeros(block - 2) for name in names}
    usable = int(kept.sum()) // block >= FEWEST_BLOCKS
    if usable and np.ptp(logs[kept]) > _SAME:
        found = analysis.analyze(
            problem,
            logs[kept],
            calc_second_order=False,
            num_resamples=_RESAMPLES,
            conf_level=LEVEL,
            seed=seed + 1,  # SALib takes 0 for no seed
        )
        keys = ("S1", "S1_conf", "ST", "ST_conf")
        numbers = {name: found[key] for name, key in zip(names, keys, strict=True)}
    return _analysed("sobol", factors, numbers, "total", kept, usable, single.shape[1], table)


def morris(factors: Factors, measure: Measure, samples: int, seed: int) -> Effects:
    """Mean absolute elementary effect mu* of each factor on the logarithm, over its whole range,
    and the standard deviation of its elementary effects (Morris 1991, Campolongo 2007).
    """
    if not factors.names:
        return _nothing("morris")
    from SALib.analyze import morris as analysis
    from SALib.sample import morris as sampling

    problem = _problem(factors)
    shares = sampling.sample(problem, samples, num_levels=_LEVELS, seed=seed)
    block = len(factors.names) + 1
    logs, single, table = logs_of(factors, measure, shares)
    kept = _whole_blocks(logs, block)
    names = ("mean_effect", "mean_effect_half", "spread")
    numbers = {name: np.zeros(block - 1) for name in names}
    usable = int(kept.sum()) // block >= FEWEST_BLOCKS
    if usable:
        found = analysis.analyze(
            problem,
            shares[kept],
            logs[kept],
            num_resamples=_RESAMPLES,
            conf_level=LEVEL,
            num_levels=_LEVELS,
            seed=seed + 1,
        )
        keys = ("mu_star", "mu_star_conf", "sigma")
        numbers = {
            name: np.asarray(found[key], dtype=float) for name, key in zip(names, keys, strict=True)
        }
    return _analysed(
        "morris", factors, numbers, "mean_effect", kept, usable, single.shape[1], table
    )


def _nothing(method: str) -> Effects:
    """No factor varies."""
    return Effects(method, [], 0, 0, math.nan, 0)


def _problem(factors: Factors) -> dict[str, Any]:  # Any: as SALib asks
    """SALib's description of the unit cube."""
    count = len(factors.names)
    return {"num_vars": count, "names": factors.names, "bounds": [[0.0, 1.0]] * count}


def _whole_blocks(logs: np.ndarray, block: int) -> np.ndarray:
    """Evaluations whose whole block is known, shape (draws,): a base sample or a trajectory with a
    hole tells nothing.
    """
    whole = np.isfinite(logs).reshape(-1, block).all(axis=1)
    return np.repeat(whole, block)


def _analysed(
    method: str,
    factors: Factors,
    numbers: dict[str, np.ndarray],
    size: str,
    kept: np.ndarray,
    usable: bool,
    seeds: int,
    table: pd.DataFrame,
) -> Effects:
    effects = []
    for k in range(len(factors.names) if usable else 0):
        own = {name: float(column[k]) for name, column in numbers.items()}
        effects.append(_effect(factors, k, own, own[size]))
    lost = int((~kept).sum())
    return Effects(method, _sorted(effects), len(kept), lost, math.nan, seeds, _marks(table))


def _effect(factors: Factors, k: int, numbers: dict[str, float], size: float) -> Effect:
    return Effect(factors.names[k], factors.assumed[k], factors.ends()[k], numbers, size)


def _sorted(effects: Sequence[Effect]) -> list[Effect]:
    return sorted(effects, key=lambda one: -one.size)


def _factor(gaps: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean of factors by seed, with its interval; inf or 0 where a side stops to get
    there, NaN where nothing is known.
    """
    known = gaps[~np.isnan(gaps)]
    if not len(known):
        return math.nan, math.nan, math.nan
    if not np.isfinite(known).all():
        with np.errstate(invalid="ignore"):  # with some seeds the one, with some the other side
            return float(np.exp(known.mean())), math.nan, math.nan
    found = mean_interval(np.where(np.abs(known) <= _SAME, 0.0, known))
    middle, low, high = (math.exp(end) for end in found[:3])
    return middle, low, high


def _marks(table: pd.DataFrame) -> list[str]:
    found = (
        f"{side}: {mark_of(mark)}"
        for side, mark in zip(table["side"], table["mark"], strict=True)
        if mark_of(mark)
    )
    return list(dict.fromkeys(found))
