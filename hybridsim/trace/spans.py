"""The tables of a run, and the recorder that streams their rows to whoever stores them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_type_hints

from hybridsim.errors import HybridsimError
from hybridsim.interrupt import held_back_when_interrupted
from hybridsim.units import engineering, to_s

Role = Literal["server", "background", "flight", "pause"]
"""What a lane is: one server at a time; background relaxation, which overlaps whatever else happens
and is nobody's parent; messages in flight, any number at once; time that passes on purpose.
"""


class SpanRow(NamedTuple):
    """One operation of one part.

    Attributes:
        id: number of the span, in the order of issue.
        parents: the producers of its arguments and the last span of the issuing thread.
        blocker: the span that freed the resource, or -1 where nobody held it.
        part: which part.
        lane: which of its lanes.
        role: what the lane is.
        category: what the part was asked to do, as it is priced.
        kind: what the operation is called.
        step: training step, from 1.
        layer: block of the network, or nothing.
        factor: ``a`` or ``g``, the Kronecker factor that it is for, or nothing.
        count: number of equal operations in a row.
        queued_ps: when it was issued.
        start_ps: when it got its resource.
        end_ps: when it ended.
        busy_ps: the share in which the resource did the work it is for (a GPU: without launches).
        flop: floating-point operations.
        bytes: bytes moved.
        launches: kernel launches.
        bits: bits sent or written.
        conversions: conversions.
        writes: resistors written.
        energy_j: joules, static power apart.
        energy_low_j: under the low sheet.
        energy_high_j: under the high sheet.
        request: row of the table of requests.
        note: what else is to be said.
    """

    id: int
    parents: tuple[int, ...]
    blocker: int
    part: str
    lane: str
    role: Role
    category: str
    kind: str
    step: int
    layer: str
    factor: str
    # the column hides tuple.count, which nobody calls
    count: int  # type: ignore[assignment]
    queued_ps: int
    start_ps: int
    end_ps: int
    busy_ps: int
    flop: float
    bytes: float
    launches: int
    bits: int
    conversions: int
    writes: int
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    request: int
    note: str = ""


class EventRow(NamedTuple):
    """What went wrong and when: saturation, clipping, runaway, divergence, non-finite, out of
    range, fallback, overflow, a solve that broke down or diverged; and what ended the run:
    capacity, clock overflow, disk failed, host out of memory, not positive definite, failure.

    Attributes:
        time_ps: when.
        kind: what.
        part: where.
        step: training step, from 1.
        layer: block of the network, or nothing.
        value: by how much, in the event's own measure.
        note: what the value means.
    """

    time_ps: int
    kind: str
    part: str
    step: int
    layer: str
    value: float
    note: str


class RequestRow(NamedTuple):
    """What spans were priced for (``hybridsim.hardware.requests``).

    Attributes:
        request: number of the row, to which spans refer.
        form: which class of request.
        detail: its fields as JSON.
    """

    request: int
    form: str
    detail: str


_NARROW = {"step": "int32"}


def columns_of(row: type[NamedTuple]) -> tuple[tuple[str, str], ...]:
    """Name and Arrow type of every column of a table, in order."""
    kinds = {int: "int64", float: "double", str: "string", tuple[int, ...]: "list<int64>"}
    hints = get_type_hints(row)
    return tuple(
        (name, _NARROW.get(name, kinds.get(hints[name], "string"))) for name in row._fields
    )


SPAN_COLUMNS = columns_of(SpanRow)
EVENT_COLUMNS = columns_of(EventRow)
REQUEST_COLUMNS = columns_of(RequestRow)

LAST_PS = 2**63 - 1
CHUNK_ROWS = 50_000
"""Spans that are handed on together."""
CUT = "cut at the end of the run"
"""The end of the note of a span that had not ended when the run did."""
_PRO_RATA = SpanRow._fields[SpanRow._fields.index("busy_ps") : SpanRow._fields.index("request")]


class Rows(NamedTuple):
    """A chunk: the rows recorded since the last one."""

    spans: Sequence[SpanRow] = ()
    events: Sequence[EventRow] = ()
    steps: Sequence[Mapping[str, Any]] = ()  # Any: facts of the algorithm's own
    requests: Sequence[RequestRow] = ()


class ClockOverflow(HybridsimError):
    """Simulated time left the 64-bit picoseconds of the tables."""


class Sink(Protocol):
    """Where chunks of rows go."""

    def write(self, rows: Rows) -> None:
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
        chunk_rows: int = CHUNK_ROWS,
        chunk_s: float = 2.0,
    ) -> None:
        self._sink, self._now = sink, now
        self._chunk_rows, self._chunk_s = chunk_rows, chunk_s
        self._rows: list[SpanRow] = []
        self._events: list[EventRow] = []
        self._steps: list[Mapping[str, Any]] = []  # Any: facts of the algorithm's own
        self._requests: list[RequestRow] = []
        self._request_ids: dict[tuple[str, str], int] = {}
        self._next_request = 0
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

    def request(self, form: str, detail: str, *, again: bool) -> int:
        """The row of a request in its table; one that may come ``again`` has one row only."""
        found = self._request_ids.get((form, detail)) if again else None
        if found is None:
            found, self._next_request = self._next_request, self._next_request + 1
            self._requests.append(RequestRow(found, form, detail))
            if again:
                self._request_ids[form, detail] = found
        return found

    def begin(self, row: SpanRow) -> None:
        """A span whose price is known starts; it is stored when it ends.

        Raises:
            ClockOverflow: it would end when the clock has ended; the clock itself stays where it
                is, and what was recorded before can be stored.
        """
        if row.end_ps > LAST_PS:
            raise _overflow(row)
        self._open[row.id] = row

    def finish(self, span: int) -> None:
        """A span that began ended as planned."""
        self._store(self._open.pop(span))

    def record(self, row: SpanRow) -> None:
        """Store a span that has ended.

        Raises:
            ClockOverflow: it ended when the clock had ended.
        """
        if row.end_ps > LAST_PS:
            raise _overflow(row)
        self._store(row)

    def _store(self, row: SpanRow) -> None:
        self._rows.append(row)
        self.energy_j += row.energy_j
        if row.end_ps > self.end_ps:
            self.end_ps = row.end_ps
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
        self._events.append(EventRow(self._now(), kind, part, step, layer, value, note))

    # Any: the facts are the algorithm's own.
    def step(self, row: Mapping[str, Any]) -> None:
        """Store one line of the learning curve; also the moment to look at the clock for a
        flush.
        """
        self._steps.append(row)
        if time.monotonic() - self._flushed_at >= self._chunk_s:
            self.flush()

    def close(self) -> None:
        """Cut what is still in flight at the present instant, pro rata and marked, and flush."""
        now = self._now()
        with held_back_when_interrupted():
            for row in sorted(self._open.values()):
                if row.start_ps <= now:
                    self.record(_cut(row, now))
            self._open.clear()
            self.flush()

    def flush(self) -> None:
        """Hand all rows to the sink, once: those of a write that failed come again."""
        rows = Rows(self._rows, self._events, self._steps, self._requests)
        with held_back_when_interrupted():
            if any(rows):
                self._sink.write(rows)
            self._rows, self._events, self._steps, self._requests = [], [], [], []
        self._flushed_at = time.monotonic()


def _overflow(row: SpanRow) -> ClockOverflow:
    length_s, end_s = to_s(row.end_ps - row.start_ps), to_s(row.end_ps)
    return ClockOverflow(
        f"{row.part}: '{row.kind}' of step {row.step} takes {engineering(length_s, 's')} and "
        f"would end at {engineering(end_s, 's')}; the clock ends at "
        f"{engineering(to_s(LAST_PS), 's')} (106 days)"
    )


def _cut(row: SpanRow, now: int) -> SpanRow:
    """The share of a span up to ``now``: time, work and energy in proportion."""
    length = row.end_ps - row.start_ps
    share = (now - row.start_ps) / length if length > 0 else 1.0
    cells = {name: getattr(row, name) for name in _PRO_RATA}
    cut = {name: type(value)(value * share) for name, value in cells.items()}
    note = (row.note + "; " if row.note else "") + CUT
    return row._replace(end_ps=now, note=note, **cut)
