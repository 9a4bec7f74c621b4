"""Two sides at one place: who wins, by how much, and whether seeds alone could explain it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from hybridsim.reports.statistics import LEVEL, paired_difference, paired_ratio
from hybridsim.studies.questions._cells import Cell

Verdict = Literal["wins", "untested", "same", "untrusted", "neither", "unknown"]
"""``untested``: lower with the one seed that there is; ``same``: no detectable difference;
``untrusted``: the lower one is marked; ``neither``: none got there."""
WON: tuple[Verdict, ...] = ("wins", "untested")


class Contest(NamedTuple):
    """First side over second, over the seeds that both have.

    Attributes:
        verdict: see :data:`Verdict`.
        lower: the side whose mean is lower, "" where none is.
        ratio: geometric mean of first / second; 0 or inf where one side did not get there.
        low: lower end of the 95 % interval of that mean; NaN where there is none.
        high: upper end.
        seeds: pairs it rests on.
        marks: why numbers of either side are not trusted.
    """

    verdict: Verdict
    lower: str
    ratio: float
    low: float
    high: float
    seeds: int
    marks: tuple[str, ...]

    @property
    def winner(self) -> str:
        """The side that wins, "" where none does."""
        return self.lower if self.verdict in WON else ""

    @property
    def detectable(self) -> bool:
        """Seeds alone do not explain who is lower."""
        return self.verdict in ("wins", "untrusted") and self.seeds > 1

    @property
    def basis(self) -> str:
        """Level and seeds, for a sentence."""
        return basis_text(self.seeds)

    @property
    def factor(self) -> float:
        """How many times the higher mean is the lower one, >= 1."""
        return max(self.ratio, 1 / self.ratio) if self.ratio > 0 else math.inf


def basis_text(seeds: int) -> str:
    """Level and seeds: ``95 % over 5 seeds``."""
    if seeds < 2:
        return "one seed: not tested"
    return f"{100 * LEVEL:.0f} % over {seeds} seeds"


def contest(first: Cell, second: Cell) -> Contest:
    """Compare two sides at one combination of values: paired by seed, Student's t on logs; a side
    that did not get there with every seed loses to one that did.
    """
    seeds = sorted(first.by_seed.keys() & second.by_seed.keys())
    marks = tuple(f"{cell.side}: {cell.mark}" for cell in (first, second) if cell.mark)
    nothing = (math.nan, math.nan, math.nan, len(seeds), marks)
    if not seeds:
        return Contest("unknown", "", *nothing)
    pairs = [[cell.by_seed[seed] for seed in seeds] for cell in (first, second)]
    missed = [any(map(math.isinf, values)) for values in pairs]
    if all(missed):
        return Contest("neither", "", *nothing)
    if any(missed):
        found = (math.inf if missed[0] else 0.0, math.nan, math.nan, True)
    else:
        found = _measured(*pairs)
    ratio, low, high, detectable = found
    lower = "" if ratio == 1 else first.side if ratio < 1 else second.side
    if not lower or (not detectable and len(seeds) > 1):
        verdict: Verdict = "same"
    elif (first if lower == first.side else second).mark:
        verdict = "untrusted"
    else:
        verdict = "wins" if len(seeds) > 1 else "untested"
    return Contest(verdict, lower, ratio, low, high, len(seeds), marks)


def _measured(first: list[float], second: list[float]) -> tuple[float, float, float, bool]:
    """Ratio of means, its interval, whether it is detectable; equal to rounding: exactly 1."""
    if min(*first, *second) > 0:
        found = paired_ratio(second, first)
        ends = found.interval
        return ends.mean, ends.low, ends.high, found.detectable
    # What costs nothing has no logarithm: means of the values are compared, without an interval.
    gap = paired_difference(second, first)
    if gap.interval.mean == 0:
        return 1.0, math.nan, math.nan, False
    ratio = math.inf if not sum(second) else sum(first) / sum(second)
    return ratio, math.nan, math.nan, gap.detectable
