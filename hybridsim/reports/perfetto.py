"""A run as a native Perfetto trace, for ui.perfetto.dev: tracks by part and lane, arrows, power.

Perfetto counts nanoseconds and the simulator picoseconds. So that nothing is cut off, one
nanosecond of the trace stands for one simulated picosecond (``tick_ps`` of them, if you say so):
what the viewer calls 1 s is 1 ms of simulated time. The name of the outermost track says so.

Format: https://perfetto.dev/docs/reference/synthetic-track-event. The numbers below are those of
protos/perfetto/trace/{trace_packet,track_event/*,interned_data/*}.proto in the Perfetto repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hybridsim.files import whole_file
from hybridsim.reports.protobuf import double, fixed64, integer, key, nested, text, varint
from hybridsim.reports.tracks import Power, Slice, check_tick, powers, scale_text, slices
from hybridsim.results.read import Run

PACKET = 1
TIMESTAMP, SEQUENCE, EVENT, INTERNED, FLAGS, DESCRIPTOR = 8, 10, 11, 12, 13, 60
CLEARED, NEEDS_STATE = 1, 2
UUID, NAME, PARENT, COUNTER, ORDERING, RANK, DESCRIPTION = 1, 2, 5, 8, 11, 12, 14
EXPLICIT, UNIT_NAME = 3, 6
ANNOTATION, TYPE, NAME_ID, TRACK, FLOW, FLOW_END, VALUE = 4, 9, 10, 11, 47, 48, 44
BEGIN, END, COUNT = 1, 2, 4
ANNOTATION_NAME, ANNOTATION_INT, ANNOTATION_DOUBLE, ANNOTATION_TEXT = 1, 4, 5, 6
EVENT_NAMES, ANNOTATION_NAMES = 2, 3
_ROOT = 1
_MOST_BYTES = 1 << 20


def write_perfetto(run: Run, path: Path | str, tick_ps: int = 1) -> None:
    """Write a run as a Perfetto trace, span by span.

    Every part is a track with a track per lane (several where spans overlap) and its power in
    watts; every span is a slice with its energy, work and waiting time; arrows lead from a span's
    parents to it.

    Args:
        run: the run, finished or not.
        path: the file to write.
        tick_ps: simulated picoseconds that one nanosecond of the trace stands for. With 1, the
            default, every time is exact; with 1000 the viewer shows simulated time, rounded down to
            the nanosecond.

    Raises:
        InputError: ``tick_ps`` is not positive.
    """
    check_tick(tick_ps)
    with whole_file(path) as file:
        waiting, size = [], 0
        for packet in _packets(run, tick_ps):
            framed = nested(PACKET, packet)
            waiting.append(framed)
            size += len(framed)
            if size > _MOST_BYTES:
                file.write(b"".join(waiting))
                waiting, size = [], 0
        file.write(b"".join(waiting))


def _packets(run: Run, tick_ps: int) -> Iterator[bytes]:
    name = f"{run.name} ({scale_text(tick_ps)})"
    about = (
        f"hybridsim run, status {run.status}; {scale_text(tick_ps)}; arguments that end in "
        "_ps are simulated picoseconds"
    )
    root = (
        integer(UUID, _ROOT)
        + text(NAME, name)
        + text(DESCRIPTION, about)
        + integer(ORDERING, EXPLICIT)
    )
    yield integer(FLAGS, CLEARED) + _SEQUENCE + nested(DESCRIPTOR, root)
    writer = _Writer()
    for found in slices(run, tick_ps):
        yield from writer.slice(found)
    for power in powers(run, tick_ps):
        yield from writer.power(power)


_SEQUENCE = integer(SEQUENCE, 1)
_TAIL = _SEQUENCE + integer(FLAGS, NEEDS_STATE)
_TIME, _EVENT = key(TIMESTAMP, 0), key(EVENT, 2)


_Place = tuple[str | int | None, ...]
"""A part; a part and None, its power; a part, a lane and one of the lane's tracks."""


class _Writer:
    """Turns slices into packets; remembers which tracks and names the trace knows already."""

    def __init__(self) -> None:
        self._tracks: dict[_Place, int] = {}
        self._ranks: dict[int, int] = {}
        self._names: dict[tuple[int, str], int] = {}
        self._prefixes: dict[str, bytes] = {}
        self._new: list[bytes] = []

    def slice(self, found: Slice) -> Iterator[bytes]:
        """Begin and end of one span, after the tracks it needs."""
        yield from self._describe(found)
        track = integer(TRACK, self._tracks[found.part, found.lane, found.track])
        event = [
            integer(TYPE, BEGIN),
            track,
            integer(NAME_ID, self._intern(EVENT_NAMES, found.name)),
        ]
        event += [self._annotation(name, value) for name, value in found.args.items()]
        event += [fixed64(FLOW, number) for number in found.sources]
        event += [fixed64(FLOW_END, number) for number in found.targets]
        yield self._event(found.start_ps, b"".join(event))
        yield self._event(found.end_ps, integer(TYPE, END) + track)

    def power(self, power: Power) -> Iterator[bytes]:
        """The counter of one part, below its track."""
        about = (
            f"nominal, static power included; each value is the mean over {power.bin_ps:,} "
            "simulated ps"
        )
        unit = nested(COUNTER, text(UNIT_NAME, "W"))
        yield from self._track((power.part,), _ROOT, power.part, integer(ORDERING, EXPLICIT))
        yield from self._track(
            (power.part, None), self._tracks[power.part,], "power", text(DESCRIPTION, about) + unit
        )
        track = integer(TRACK, self._tracks[power.part, None])
        for time, watts in zip(power.times, power.watts, strict=True):
            yield self._event(time, integer(TYPE, COUNT) + track + double(VALUE, watts))

    def _describe(self, found: Slice) -> Iterator[bytes]:
        if (found.part, found.lane, found.track) not in self._tracks:
            yield from self._track((found.part,), _ROOT, found.part, integer(ORDERING, EXPLICIT))
            yield from self._track(
                (found.part, found.lane, found.track), self._tracks[found.part,], found.lane
            )

    def _track(self, place: _Place, parent: int, name: str, more: bytes = b"") -> Iterator[bytes]:
        """Describe a track, once; siblings stand in the order in which they are first used."""
        if place in self._tracks:
            return
        self._tracks[place] = uuid = _ROOT + 1 + len(self._tracks)
        rank = self._ranks[parent] = self._ranks.get(parent, -1) + 1
        described = (
            integer(UUID, uuid)
            + text(NAME, name)
            + integer(PARENT, parent)
            + integer(RANK, rank)
            + more
        )
        yield _SEQUENCE + nested(DESCRIPTOR, described)

    def _intern(self, table: int, name: str) -> int:
        """The number that stands for a name; a new one goes out with the next event."""
        number = self._names.get((table, name))
        if number is None:
            number = self._names[table, name] = len(self._names) + 1
            self._new.append(nested(table, integer(1, number) + text(2, name)))
        return number

    def _annotation(self, name: str, value: int | float | str) -> bytes:
        number = self._prefixes.get(name)
        if number is None:
            number = self._prefixes[name] = integer(
                ANNOTATION_NAME, self._intern(ANNOTATION_NAMES, name)
            )
        if isinstance(value, str):
            return nested(ANNOTATION, number + text(ANNOTATION_TEXT, value))
        if isinstance(value, float):
            return nested(ANNOTATION, number + double(ANNOTATION_DOUBLE, value))
        return nested(ANNOTATION, number + integer(ANNOTATION_INT, value))

    def _event(self, time: int, event: bytes) -> bytes:
        interned = nested(INTERNED, b"".join(self._new)) if self._new else b""
        self._new = []
        return b"".join((_TIME, varint(time), _TAIL, interned, _EVENT, varint(len(event)), event))
