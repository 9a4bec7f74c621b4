"""How long a run would have taken with the constants of time at the ends of their ranges.

Every constant of time stands at the end at which operations are shortest, or longest, and the
recorded schedule is timed again: an operation starts when all that it waited for has ended, which
is its arguments and its thread (``parents``), what held its resource (``blocker``), and what its
lane served before it. What follows what stays as it was recorded. So the ends are those of a run
with such constants where the order does not depend on them (a thread that waits for each of its
operations), and close to it elsewhere: a resource that nobody waited for leaves no blocker.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hybridsim.hardware.requests import Drift, Pause, Request, Transmit, decode
from hybridsim.results.keys import Json
from hybridsim.results.time_corners import Asked, Ends, ends_ps, sheets_of, stripped
from hybridsim.trace.chunks import Chunk
from hybridsim.trace.spans import CUT

COLUMNS = (
    "id", "parents", "blocker", "part", "lane", "role", "kind", "step", "end_ps", "request", "note",
)  # fmt: skip
"""What is read of the table of spans."""
_READ = ("id", "blocker", "part", "lane", "role", "end_ps", "request", "note")
_INTEGRATORS = ("dac", "core", "adc")
"""Lanes of an SPU that serve one at a time."""
_READS_CLOCK = "what it computes depends on how long operations take: other constants, another run"
_NO_RANGE = "no constant of time that it depends on has a range"
_UNKNOWN = "the run folder does not say what was asked of every part"
_BROKEN = "the spans do not give the run's schedule again"


class TimeBand(NamedTuple):
    """Simulated picoseconds with every constant of time at its fastest and at its slowest end.

    ``reason``: why there is none; both are 0 then.
    """

    low_ps: int
    high_ps: int
    reason: str = ""


def time_band(
    machine: Mapping[str, Sequence[Mapping[str, Json]]],
    requests: Mapping[int, tuple[str, str]],
    spans: Sequence[Chunk],
) -> TimeBand:
    """The band of a run's simulated time.

    Args:
        machine: nodes and edges with their datasheets, as a run's manifest has them.
        requests: form and detail of each row of the table of requests, by its number.
        spans: the table of spans with ``COLUMNS``, in the order in which they ended; read twice.
    """
    known = {number: stripped(decode(*row)) for number, row in requests.items()}
    if any(isinstance(request, Pause | Drift) for request in known.values()):
        return TimeBand(0, 0, _READS_CLOCK)
    pairs, size = _asked(spans)
    sheets = sheets_of(machine)
    if not pairs or any(part not in sheets or number not in known for part, number in pairs):
        return TimeBand(0, 0, _UNKNOWN)
    numbers = {pair: index for index, pair in enumerate(pairs)}
    ends = ends_ps([Asked(part, known[number]) for part, number in pairs], sheets)
    if ends.fastest == ends.slowest:
        return TimeBand(0, 0, _NO_RANGE)
    schedule = _Schedule(ends, size)
    if not all(map(schedule.add, _rows(spans, numbers, known))):
        return TimeBand(0, 0, _BROKEN)
    last = _last(spans)
    if not last:
        return TimeBand(0, 0, _UNKNOWN)
    low_ps, high_ps = (max(corner[span] for span in last) for corner in schedule.ends_ps[1:])
    return TimeBand(low_ps, high_ps)


def _asked(spans: Sequence[Chunk]) -> tuple[list[tuple[str, int]], int]:
    """The different (part, request) of all spans, and how many numbers of spans there are."""
    found: dict[tuple[str, int], None] = {}
    size = 0
    for chunk in spans:
        parts, requests = chunk["part"].tolist(), chunk["request"].tolist()
        found |= dict.fromkeys(zip(parts, requests, strict=True))
        for name in ("id", "parents", "blocker"):
            size = max(size, int(chunk[name].max(initial=-1)) + 1)
    return list(found), size


class _Row(NamedTuple):
    """A span, or those of all wires that a message holds at the same time.

    Attributes:
        ids: their numbers.
        causes: what it starts after: spans.
        resources: what serves one at a time.
        asked: how long it takes: place in the list of what is asked.
        end_ps: as recorded.
    """

    ids: tuple[int, ...]
    causes: tuple[int, ...]
    resources: tuple[tuple[str, str], ...]
    asked: int
    end_ps: int


def _rows(
    spans: Sequence[Chunk],
    numbers: Mapping[tuple[str, int], int],
    known: Mapping[int, Request],
) -> Iterator[_Row]:
    """The spans in the order in which they ended; those that were cut left out."""
    wires = {
        number: len(request.wires)
        for number, request in known.items()
        if isinstance(request, Transmit)
    }
    held: list[_Row] = []
    for chunk in spans:
        parents, offsets = chunk["parents"].tolist(), chunk["parents_offsets"].tolist()
        columns = [chunk[name].tolist() for name in _READ]
        for index, cells in enumerate(zip(*columns, strict=True)):
            span, blocker, part, lane, role, end_ps, request, note = cells
            if note.endswith(CUT):
                continue
            causes = tuple(parents[offsets[index] : offsets[index + 1]])
            lane = "integrators" if lane in _INTEGRATORS else lane
            held.append(
                _Row(
                    (span,),
                    causes if blocker < 0 else (*causes, blocker),
                    ((part, lane),) if role == "server" else (),
                    numbers[part, request],
                    end_ps,
                )
            )
            if len(held) == wires.get(request, 1):
                yield held[0] if len(held) == 1 else _joined(held)
                held = []


def _joined(rows: Sequence[_Row]) -> _Row:
    """A message that holds several wires: it starts when all are free."""
    return rows[0]._replace(
        ids=tuple(span for row in rows for span in row.ids),
        causes=tuple(span for row in rows for span in row.causes),
        resources=tuple(resource for row in rows for resource in row.resources),
    )


class _Schedule:
    """Ends of spans, by number, under the nominal, the fastest and the slowest constants."""

    def __init__(self, ends: Ends, size: int) -> None:
        self.ends_ps = tuple(array("q", bytes(8 * size)) for _ in ends)
        self._durations = [*zip(self.ends_ps, ends, strict=True)]
        self._served: dict[tuple[str, str], int] = {}

    def add(self, row: _Row) -> bool:
        """Time the next span; False: under nominal constants it does not end as recorded."""
        ids, causes, resources, asked, recorded_ps = row
        before = [self._served[resource] for resource in resources if resource in self._served]
        causes = (*causes, *before)
        for ends, durations in self._durations:
            start_ps = 0
            for cause in causes:
                if ends[cause] > start_ps:
                    start_ps = ends[cause]
            for span in ids:
                ends[span] = start_ps + durations[asked]
        for resource in resources:
            self._served[resource] = ids[0]
        return self.ends_ps[0][ids[0]] == recorded_ps


def _last(spans: Sequence[Chunk]) -> list[int]:
    """Numbers of the operations with which the run ends: those of the step and kind that ended
    last, as of an update on several parts.
    """
    ended, label = -1, (0, "")
    found: dict[tuple[int, str], list[int]] = {}
    for chunk in spans:
        columns = [
            chunk[name].tolist() for name in ("id", "step", "kind", "role", "end_ps", "note")
        ]
        for span, step, kind, role, end_ps, note in zip(*columns, strict=True):
            if role != "background" and end_ps >= ended and not note.endswith(CUT):
                ended, label = end_ps, (step, kind)
                found.setdefault(label, []).append(span)
    return found.get(label, [])
