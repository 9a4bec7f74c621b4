"""The one span schema, and the recorder that streams spans, events and steps to whoever stores
them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hybridsim.errors import HybridsimError

SPAN_COLUMNS: tuple[tuple[str, str], ...] = (
    ("id", "int64"),
    ("parents", "list<int64>"),
    ("blocker", "int64"),
    ("part", "string"),
    ("lane", "string"),
    ("kind", "string"),
    ("step", "int32"),
    ("layer", "string"),
    ("count", "int64"),
    ("queued_ps", "int64"),
    ("start_ps", "int64"),
    ("end_ps", "int64"),
    ("busy_ps", "int64"),
    ("flop", "double"),
    ("bytes", "double"),
    ("launches", "int64"),
    ("bits", "int64"),
    ("conversions", "int64"),
    ("writes", "int64"),
    ("energy_j", "double"),
    ("energy_low_j", "double"),
    ("energy_high_j", "double"),
    ("note", "string"),
)
"""Name and Arrow type of every column, in order.

``parents`` are the producers of the arguments and the last span of the issuing process; ``blocker``
is the span that freed the resource, or -1 where nobody held it. ``queued_ps`` is when the operation
was issued, ``start_ps`` when it got its resource. A lane that starts with ``~`` holds background
spans: continuous relaxation, which overlaps whatever else happens and is never a parent.
``busy_ps`` is the part of the duration in which the resource did the work it is for (a GPU:
roofline time without launch overhead).
"""

EVENT_COLUMNS: tuple[tuple[str, str], ...] = (
    ("time_ps", "int64"),
    ("kind", "string"),
    ("part", "string"),
    ("step", "int32"),
    ("layer", "string"),
    ("value", "double"),
    ("note", "string"),
)
"""What went wrong and when: saturation, clipping, runaway, non-finite, out of range."""

LAST_PS = 2**63 - 1
ID, PARENTS, QUEUED, START, END, BUSY = 0, 1, 9, 10, 11, 12
_PRO_RATA = range(12, 22)
SpanRow = tuple[Any, ...]


class ClockOverflow(HybridsimError):
    """Simulated time left the 64-bit picoseconds of the tables."""


class Sink(Protocol):
    """Where chunks of rows go; each call gets the rows recorded since the last one."""

    def write(
        self,
        spans: Sequence[SpanRow],
        events: Sequence[tuple[Any, ...]],
        steps: Sequence[dict[str, Any]],
    ) -> None:
        """Store one chunk."""


class Trace:
    """Collects rows and hands them on every ``chunk_rows`` spans or ``chunk_s`` seconds of host
    time.

    Energy is summed here as well, per part and kind as ``[nominal, low, high]`` joules, so that the
    cumulative energy of a step needs no second pass.
    """

    def __init__(
        self,
        sink: Sink,
        now: Callable[[], int],
        chunk_rows: int = 50_000,
        chunk_s: float = 30.0,
    ) -> None:
        self._sink, self._now = sink, now
        self._chunk_rows, self._chunk_s = chunk_rows, chunk_s
        self._rows: list[SpanRow] = []
        self._events: list[tuple[Any, ...]] = []
        self._steps: list[dict[str, Any]] = []
        self._open: dict[int, SpanRow] = {}
        self._next = 0
        self._flushed_at = time.monotonic()
        self.energy_j = 0.0
        self.end_ps = 0

    @property
    def spans_recorded(self) -> int:
        """Identifiers given out so far."""
        return self._next

    def new_id(self) -> int:
        """Reserve the identifier of a span that is about to be issued."""
        self._next += 1
        return self._next - 1

    def begin(self, row: SpanRow) -> None:
        """A span whose price is known starts; it is stored when it ends."""
        self._open[row[ID]] = row

    def finish(self, span: int) -> None:
        """The span that began as ``row`` ended as planned."""
        self.record(self._open.pop(span))

    def record(self, row: SpanRow) -> None:
        """Store a span that has ended."""
        self._rows.append(row)
        self.energy_j += row[19]
        if row[END] > self.end_ps:
            if row[END] > LAST_PS:
                raise ClockOverflow(
                    f"{row[3]}: '{row[5]}' ends after {row[END] / 1e12:.3g} s; the clock ends at "
                    "106 days"
                )
            self.end_ps = row[END]
        if len(self._rows) >= self._chunk_rows:
            self.flush()

    def event(
        self,
        kind: str,
        part: str,
        step: int,
        *,
        layer: str = "",
        value: float = 0.0,
        note: str = "",
    ) -> None:
        """Store something that went wrong now."""
        self._events.append((self._now(), kind, part, step, layer, value, note))

    def step(self, row: dict[str, Any]) -> None:
        """Store one line of the learning curve; also the moment to look at the clock for a
        flush.
        """
        self._steps.append(row)
        if time.monotonic() - self._flushed_at >= self._chunk_s:
            self.flush()

    def close(self) -> None:
        """Cut what is still in flight at the present instant, pro rata and marked, and flush."""
        now = self._now()
        for row in sorted(self._open.values()):
            if row[START] <= now:
                self.record(_cut(row, now))
        self._open.clear()
        self.flush()

    def flush(self) -> None:
        """Hand all rows to the sink."""
        if self._rows or self._events or self._steps:
            self._sink.write(self._rows, self._events, self._steps)
        self._rows, self._events, self._steps = [], [], []
        self._flushed_at = time.monotonic()


def _cut(row: SpanRow, now: int) -> SpanRow:
    """The share of a span up to ``now``: time, work and energy in proportion."""
    length = row[END] - row[START]
    share = (now - row[START]) / length if length > 0 else 1.0
    cells = list(row)
    cells[END] = now
    for i in _PRO_RATA:
        cells[i] = type(cells[i])(cells[i] * share)
    cells[22] = (cells[22] + "; " if cells[22] else "") + "cut at the end of the run"
    return tuple(cells)
