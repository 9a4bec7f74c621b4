"""Where two sides break even along an axis: sign changes, refined, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from hybridsim.scenario.quantity import Raw
from hybridsim.studies.questions._cells import Cell, Combination
from hybridsim.studies.questions._contest import Contest

State = Literal["first", "second", "tie", "neither", "unknown"]
"""Whose mean is lower; ``neither``: no side gets there."""
_COARSER = 4
"""Ends of intervals are looked for to so many times the tolerance of the crossing itself."""
_NEAR_ZERO = 1e-3
"""Share of a linear axis below which a place counts as zero, which has no relative tolerance."""


class Scale(NamedTuple):
    """How an axis is divided.

    Attributes:
        log: halved in the logarithm.
        whole: takes whole numbers only.
        span: largest minus smallest value of the grid.
        tolerance: relative width at which a bracket is narrow enough.
    """

    log: bool
    whole: bool
    span: float
    tolerance: float

    def place(self, low: float, high: float, share: float) -> float:
        """A share of the way from one place to another."""
        if low == high:
            return low
        if self.log:
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)

    def middle(self, low: float, high: float, coarser: float = 1) -> float | None:
        """Where to look next between two places; None where they are near enough."""
        if self.whole:
            return float((low + high) // 2) if high - low > 1 else None
        size = max(abs(low), abs(high), _NEAR_ZERO * self.span)
        middle = self.place(low, high, 0.5)
        near = high - low <= coarser * self.tolerance * size or not low < middle < high
        return None if near else middle


@dataclass(frozen=True)
class Reading:
    """Both sides at one place on the axis."""

    at: float
    raw: Raw
    found: Contest
    cells: tuple[Cell, Cell]

    @property
    def state(self) -> State:
        """Whose mean is lower."""
        if self.found.verdict in ("neither", "unknown"):
            return "neither" if self.found.verdict == "neither" else "unknown"
        if not self.found.lower:
            return "tie"
        return "first" if self.found.ratio < 1 else "second"

    @property
    def detectable(self) -> bool:
        """Seeds alone do not explain who wins here, or that no side does."""
        return self.found.detectable or self.state == "neither"

    def bound(self, winner: State) -> float:
        """Logarithm of the end of the ratio's interval that is nearer to the other winner."""
        end = self.found.high if winner == "first" else self.found.low
        return math.log(end) if end > 0 else math.nan


class Crossing(NamedTuple):
    """A change of who is lower.

    Attributes:
        left: the last reading before it.
        right: the first reading behind it.
        ties: readings between them where both sides are equal.
        at: where the means are equal.
        low: the last place before it where the difference is detectable; NaN where none is.
        high: the first such place behind it.
    """

    left: Reading
    right: Reading
    ties: tuple[Reading, ...]
    at: float
    low: float
    high: float

    @property
    def kind(self) -> Literal["sign", "reach"]:
        """``reach``: a side gets to the target on one side of it only."""
        ratios = (self.left.found.ratio, self.right.found.ratio)
        return "sign" if all(0 < ratio < math.inf for ratio in ratios) else "reach"

    @property
    def bracket(self) -> tuple[Reading, Reading]:
        """The readings between which it lies; those at which both sides are equal, if any are."""
        return (self.ties[0], self.ties[-1]) if self.ties else (self.left, self.right)

    @property
    def detectable(self) -> bool:
        """Each side wins detectably on its own side of it."""
        return self.low == self.low and self.high == self.high

    @property
    def marks(self) -> tuple[str, ...]:
        """Why it is not trusted."""
        found = (mark for reading in (self.left, self.right) for mark in reading.found.marks)
        return tuple(dict.fromkeys(found))


@dataclass
class Line:
    """All readings along the axis at one combination of the other axes' values."""

    others: Combination
    readings: dict[float, Reading] = field(default_factory=dict)

    def known(self) -> list[Reading]:
        """Readings along the axis of which something is known."""
        ordered = (self.readings[at] for at in sorted(self.readings))
        return [reading for reading in ordered if reading.state != "unknown"]

    def changes(self) -> Iterator[tuple[Reading, Reading, tuple[Reading, ...]]]:
        """Neighbours with another winner, and the ties between them."""
        known = self.known()
        decided = [index for index, reading in enumerate(known) if reading.state != "tie"]
        for left, right in pairwise(decided):
            if known[left].state != known[right].state:
                yield known[left], known[right], tuple(known[left + 1 : right])


Ask = Callable[[Sequence[tuple[Line, float]]], None]
"""Reads lines at further places."""


def refine(lines: Sequence[Line], scale: Scale, ask: Ask) -> None:
    """Halve every bracket of a sign change, all at once, until it is narrow enough."""
    _until_nothing(lines, ask, lambda line: _middles(line, scale))


def refine_ends(lines: Sequence[Line], scale: Scale, ask: Ask) -> None:
    """The same for the places between which no difference is detectable."""
    _until_nothing(lines, ask, lambda line: _end_middles(line, scale))


def crossings(line: Line, scale: Scale) -> list[Crossing]:
    """All changes of who is lower, with their intervals as far as these are known."""
    found = []
    for left, right, ties in line.changes():
        ends = [_end(line, left, right, scale), _end(line, right, left, scale)]
        found.append(Crossing(left, right, ties, _place(left, right, ties, scale), *ends))
    return found


def _until_nothing(
    lines: Sequence[Line], ask: Ask, wanted: Callable[[Line], Iterator[float]]
) -> None:
    while True:
        # What was read before and is not known any better is not read again.
        further = {
            (index, at)
            for index, line in enumerate(lines)
            for at in wanted(line)
            if at not in line.readings
        }
        if not further:
            return
        ask([(lines[index], at) for index, at in sorted(further)])


def _middles(line: Line, scale: Scale) -> Iterator[float]:
    for left, right, ties in line.changes():
        middle = None if ties else scale.middle(left.at, right.at)
        if middle is not None:
            yield middle


def _end_middles(line: Line, scale: Scale) -> Iterator[float]:
    for left, right, _ in line.changes():
        for near, far in ((left, right), (right, left)):
            bracket = _bracket(line, near, far)
            if bracket is not None:
                low, high = sorted(reading.at for reading in bracket)
                middle = scale.middle(low, high, _COARSER)
                if middle is not None:
                    yield middle


def _bracket(line: Line, near: Reading, far: Reading) -> tuple[Reading, Reading] | None:
    """The nearest reading on the near side of a crossing at which its winner wins detectably, and
    the next one towards the crossing; None where there is none before the other wins again.
    """
    away = [reading for reading in line.known() if (reading.at < far.at) == (near.at < far.at)]
    away = [reading for reading in away if reading is not far]
    inner = far
    for reading in reversed(away) if near.at < far.at else away:
        if reading.detectable:
            return (reading, inner) if reading.state == near.state else None
        inner = reading
    return None


def _end(line: Line, near: Reading, far: Reading, scale: Scale) -> float:
    """One end of a crossing's interval; NaN where no reading beyond it is detectable."""
    bracket = _bracket(line, near, far)
    if bracket is None:
        return math.nan
    outer, inner = bracket
    if scale.whole:
        return outer.at
    bounds = [abs(reading.bound(near.state)) for reading in (outer, inner)]
    if not all(map(math.isfinite, bounds)):
        return outer.at
    share = bounds[0] / sum(bounds) if sum(bounds) else 0.0
    return _between(outer.at, inner.at, share, scale)


def _place(left: Reading, right: Reading, ties: Sequence[Reading], scale: Scale) -> float:
    """Where the means are equal: by the logarithms at the ends of the bracket."""
    if ties:
        return _between(ties[0].at, ties[-1].at, 0.5, scale)
    ends = [math.log(r.found.ratio) if r.found.ratio > 0 else -math.inf for r in (left, right)]
    if not all(map(math.isfinite, ends)):
        return _between(left.at, right.at, 0.5, scale)
    return _between(left.at, right.at, ends[0] / (ends[0] - ends[1]), scale)


def _between(start: float, stop: float, share: float, scale: Scale) -> float:
    low, high = sorted((start, stop))
    return scale.place(low, high, share if start <= stop else 1 - share)


def crossings_by_seed(line: Line) -> dict[int, int]:
    """Sign changes of each seed alone, over all places read."""
    signs: dict[int, list[float]] = {}
    for reading in line.known():
        first, second = (cell.by_seed for cell in reading.cells)
        for seed in sorted(first.keys() & second.keys()):
            own = signs.setdefault(seed, [])
            if first[seed] != second[seed]:
                own.append(math.copysign(1, first[seed] - second[seed]))
    return {seed: sum(a != b for a, b in pairwise(own)) for seed, own in signs.items()}
