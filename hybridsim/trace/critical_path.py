"""The chain of spans that decided when the run ended.

Walked backwards from the last span to end: a span that waited (start > queued) was held up by its
``blocker``, whose end is this span's start; one that did not wait was held up by the parent whose
end is this span's queueing (of several, the one with the highest id). The spans of the chain cover
[0, end] without gap or overlap: a law.

Background spans (by their lane's role) overlap whatever else happens; the path does not
start from them, and nobody has them as a parent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hybridsim.errors import HybridsimError
from hybridsim.trace.chunks import Chunk

PATH_COLUMNS = (
    "id", "parents", "blocker", "part", "lane", "role", "kind", "factor", "step",
    "queued_ps", "start_ps", "end_ps",
)  # fmt: skip
"""Columns of the span table that the walk reads."""
_CACHED_CHUNKS = 4


class BrokenPath(HybridsimError):
    """The critical path has a gap: the books of time do not balance."""


class Segment(NamedTuple):
    """One span of the path."""

    id: int
    part: str
    lane: str
    kind: str
    factor: str
    step: int
    start_ps: int
    end_ps: int


class Share(NamedTuple):
    """What one kind of operation on one part contributes to the path; ``share`` is of the path's
    length.
    """

    part: str
    kind: str
    factor: str
    time_ps: int
    share: float


class _Place(NamedTuple):
    """Where a row stands: chunk and row within it; places are ordered as the rows were recorded."""

    chunk: int
    row: int


class _Rows:
    """One chunk as Python lists, with an index from id to row."""

    def __init__(self, chunk: Chunk) -> None:
        self.ids: list[int] = chunk["id"].tolist()
        self.row_of = {span: row for row, span in enumerate(self.ids)}
        self.parents: list[int] = chunk["parents"].tolist()
        self.offsets: list[int] = chunk["parents_offsets"].tolist()
        self.blocker: list[int] = chunk["blocker"].tolist()
        self.labels = [chunk[name].tolist() for name in ("part", "lane", "kind", "factor", "step")]
        self.queued: list[int] = chunk["queued_ps"].tolist()
        self.start: list[int] = chunk["start_ps"].tolist()
        self.end: list[int] = chunk["end_ps"].tolist()
        self.first_end_ps = int(chunk["end_ps"].min()) if self.ids else 0

    def segment(self, row: int) -> Segment:
        labels = (column[row] for column in self.labels)
        return Segment._make((self.ids[row], *labels, self.start[row], self.end[row]))

    def causes(self, row: int) -> tuple[Sequence[int], int]:
        """Ids of the spans that may have held this one up, and when the one that did must have
        ended.
        """
        if self.start[row] > self.queued[row]:
            return (self.blocker[row],), self.start[row]
        return self.parents[self.offsets[row] : self.offsets[row + 1]], self.queued[row]


class _Table:
    """Random access to the chunks of a table; keeps the few used last."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._loaded: OrderedDict[int, _Rows] = OrderedDict()

    def __getitem__(self, index: int) -> _Rows:
        if index in self._loaded:
            self._loaded.move_to_end(index)
        else:
            self._loaded[index] = _Rows(self._chunks[index])
            if len(self._loaded) > _CACHED_CHUNKS:
                self._loaded.popitem(last=False)
        return self._loaded[index]

    def last(self) -> _Place | None:
        """The foreground span that ends last; of several, the one with the highest id."""
        best: tuple[int, int, _Place] | None = None
        for index in reversed(range(len(self._chunks))):
            chunk = self._chunks[index]
            for row in _last_rows(chunk):
                found = (int(chunk["end_ps"][row]), int(chunk["id"][row]), _Place(index, int(row)))
                best = max(best, found) if best else found
            if best and len(chunk["id"]) and chunk["end_ps"].min() < best[0]:
                break
        return best[2] if best else None

    def find(self, ids: Sequence[int], end_ps: int, before: _Place) -> _Place | None:
        """Of the spans named, recorded before a place and ending at a time, the one with the
        highest id.
        """
        best, place = -1, None
        for index in range(before.chunk, -1, -1):
            rows = self[index]
            for span in ids:
                row = rows.row_of.get(span, -1)
                early = row >= 0 and (index < before.chunk or row < before.row)
                if early and rows.end[row] == end_ps and span > best:
                    best, place = span, _Place(index, row)
            if place is not None and (len(ids) == 1 or rows.first_end_ps < end_ps):
                break
        return place


def _last_rows(chunk: Chunk) -> np.ndarray:
    """Rows of the foreground spans that end last in a chunk."""
    front = np.flatnonzero(chunk["role"] != "background")
    ends = chunk["end_ps"][front]
    return front[ends == ends.max()] if len(front) else front


def walk(chunks: Sequence[Chunk]) -> Iterator[Segment]:
    """The critical path from its end to time 0, one span at a time.

    Args:
        chunks: the span table in the order in which it was recorded, which is the order of end;
            only a few chunks are in memory at a time. Empty chunks are allowed.

    Raises:
        BrokenPath: no recorded span explains why a span on the path started when it did; the
            message names it.
    """
    table = _Table(chunks)
    place = table.last()
    while place is not None:
        rows = table[place.chunk]
        segment = rows.segment(place.row)
        yield segment
        if segment.start_ps == 0:
            return
        ids, end_ps = rows.causes(place.row)
        found = table.find(ids, end_ps, place)
        if found is None:
            raise BrokenPath(_gap(segment, rows.queued[place.row], ids, end_ps))
        place = found


def _gap(segment: Segment, queued_ps: int, ids: Sequence[int], end_ps: int) -> str:
    waited = segment.start_ps > queued_ps
    cause = f"its blocker {ids[0]}" if waited else f"one of its parents {list(ids)}"
    return (
        f"critical path: span {segment.id} ({segment.kind} of step {segment.step} on "
        f"{segment.part}/{segment.lane}, queued {queued_ps} ps, started {segment.start_ps} ps): "
        f"expected {cause} to end at {end_ps} ps, found none"
    )


class CriticalPath(NamedTuple):
    """The path in the order of time, and what each part and kind contributes to it, largest
    first.
    """

    segments: tuple[Segment, ...]
    shares: tuple[Share, ...]


def critical_path(chunks: Sequence[Chunk]) -> CriticalPath:
    """The whole path in memory; ``walk`` and ``shares`` do without.

    Raises:
        BrokenPath: see ``walk``.
    """
    segments = tuple(reversed(list(walk(chunks))))
    return CriticalPath(segments, shares(segments))


def shares(path: Iterator[Segment] | Sequence[Segment]) -> tuple[Share, ...]:
    """Add up a path by part and kind, in any order of its segments; largest share first."""
    times: dict[tuple[str, str, str], int] = {}
    for segment in path:
        key = (segment.part, segment.kind, segment.factor)
        times[key] = times.get(key, 0) + segment.end_ps - segment.start_ps
    length = sum(times.values())
    ordered = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Share(*key, time, time / length if length else 0.0) for key, time in ordered)
