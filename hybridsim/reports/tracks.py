"""What both trace formats need: spans as records, arrows numbered, overlapping spans on tracks of
their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hybridsim.errors import InputError
from hybridsim.reports.activity import activity, static_power_w
from hybridsim.results.keys import operation
from hybridsim.results.read import Run

_POWER_BINS = 10_000
_POWER_CELLS = 4_000_000
_ALWAYS = ("id", "step", "count", "bits", "energy_j", "energy_low_j", "energy_high_j")
_WHERE_KNOWN = (
    "busy_ps", "flop", "bytes", "launches", "conversions", "writes", "layer", "factor", "note",
)  # fmt: skip
_OWN = (
    "part",
    "lane",
    "kind",
    "blocker",
    "queued_ps",
    "start_ps",
    "end_ps",
    "parents",
    "parents_offsets",
)


class Slice(NamedTuple):
    """One span: where and when it is drawn, what is known about it, and its arrows.

    ``track`` numbers the tracks of a lane: spans that overlap stand on different ones. ``args``
    holds int, float or str. ``sources`` are the arrows that leave it, one per child; ``targets``
    those that arrive, one per parent.
    """

    part: str
    lane: str
    track: int
    name: str
    start_ps: int
    end_ps: int
    args: dict[str, int | float | str]
    sources: range
    targets: list[int]


class Arrows:
    """Numbers the edges from parent to child, from 1 on, those of one parent in a row.

    Takes 16 bytes per span: how many children each has has to be known before its first child is
    read.
    """

    def __init__(self, run: Run) -> None:
        children = np.zeros(0, np.int64)
        for chunk in run.span_chunks(["parents"]):
            found = np.bincount(chunk["parents"], minlength=len(children))
            found[: len(children)] += children
            children = found
        self._first = np.concatenate([[1], 1 + np.cumsum(children)])
        self._next = self._first.copy()

    def sources(self, span: int) -> range:
        """The arrows that leave a span."""
        if span + 1 >= len(self._first):
            return range(0)
        return range(int(self._first[span]), int(self._first[span + 1]))

    def target(self, parent: int) -> int:
        """The arrow from a parent to its next child."""
        number = int(self._next[parent])
        self._next[parent] += 1
        return number


class Packing:
    """Puts spans on tracks so that those on one track do not overlap, in whatever order they
    come.
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], list[int]] = {}

    def track(self, part: str, lane: str, start_ps: int, end_ps: int) -> int:
        """The track whose last span ended closest before this one starts; a new one where there is
        none.
        """
        ends = self._ends.setdefault((part, lane), [])
        free = [(end, index) for index, end in enumerate(ends) if end <= start_ps]
        if not free:
            ends.append(end_ps)
            return len(ends) - 1
        index = max(free)[1]
        ends[index] = end_ps
        return index


def slices(run: Run, tick_ps: int) -> Iterator[Slice]:
    """Every span in the order in which it was recorded, times in ticks of ``tick_ps``; read chunk
    by chunk.

    Args:
        run: the run.
        tick_ps: what one unit of the trace's clock stands for; times are rounded down to it, which
            keeps their order.
    """
    arrows, packing = Arrows(run), Packing()
    for chunk in run.span_chunks():
        yield from _chunk(chunk, arrows, packing, tick_ps)


def _chunk(
    chunk: Mapping[str, np.ndarray], arrows: Arrows, packing: Packing, tick_ps: int
) -> Iterator[Slice]:
    columns = {name: chunk[name].tolist() for name in (*_OWN, *_ALWAYS, *_WHERE_KNOWN)}
    parents, offsets = columns.pop("parents"), columns.pop("parents_offsets")
    names = list(columns)
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        # Any: a cell is whatever its column holds.
        cells: dict[str, Any] = dict(zip(names, row, strict=True))
        start, end = cells["start_ps"] // tick_ps, cells["end_ps"] // tick_ps
        part, lane, span = cells["part"], cells["lane"], cells["id"]
        yield Slice(
            part,
            lane,
            packing.track(part, lane, start, end),
            operation(cells["kind"], cells["factor"]),
            start,
            end,
            _args(cells),
            arrows.sources(span),
            [arrows.target(parent) for parent in parents[offsets[index] : offsets[index + 1]]],
        )


# Any: a cell is whatever its column holds.
def _args(cells: Mapping[str, Any]) -> dict[str, int | float | str]:
    """What is shown with a span: the work only where there is some."""
    found = {name: cells[name] for name in _ALWAYS}
    found["waited_ps"] = cells["start_ps"] - cells["queued_ps"]
    if cells["blocker"] >= 0:
        found["blocker"] = cells["blocker"]
    return found | {name: cells[name] for name in _WHERE_KNOWN if cells[name]}


class Power(NamedTuple):
    """Watts of a part from a time on, as a staircase; ``bin_ps`` is the time over which each value
    is a mean.
    """

    part: str
    times: list[int]
    watts: list[float]
    bin_ps: int


def powers(run: Run, tick_ps: int) -> Iterator[Power]:
    """The power of every part, static power included, ends with 0 W; only changes are listed."""
    lanes = len(
        {tuple(row) for chunk in run.span_chunks(["part", "lane"]) for row in _pairs(chunk)}
    )
    found = activity(run, max(1, min(_POWER_BINS, _POWER_CELLS // max(lanes, 1))))
    if not found.spans:
        return
    edges = found.bins.edges_ps() // tick_ps
    for part, watts in found.power_w(static_power_w(run)).items():
        turns = np.flatnonzero(np.abs(np.diff(watts, prepend=-1.0)) > 1e-9 * np.abs(watts))
        times, values = [*edges[turns].tolist(), int(edges[-1])], [*watts[turns].tolist(), 0.0]
        yield Power(part, times, values, found.bins.width_ps)


def _pairs(chunk: Mapping[str, np.ndarray]) -> set[tuple[str, str]]:
    return set(zip(chunk["part"].tolist(), chunk["lane"].tolist(), strict=True))


def scale_text(tick_ps: int) -> str:
    """What a nanosecond of the viewer stands for."""
    return f"1 ns shown = {tick_ps:,} ps simulated"


def check_tick(tick_ps: int) -> None:
    """Raises InputError unless the tick is a whole number of picoseconds, at least 1."""
    if tick_ps < 1:
        raise InputError(
            f"tick_ps: expected a whole number of picoseconds, at least 1, got {tick_ps}"
        )
