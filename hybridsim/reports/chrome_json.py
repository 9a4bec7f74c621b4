"""A run as Chrome trace-event JSON, for viewers that do not read Perfetto's own format.

Times are microseconds with a fraction; as in ``perfetto``, one nanosecond shown stands for
``tick_ps`` simulated picoseconds. Format: "Trace Event Format" of the Chromium project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hybridsim.files import whole_file
from hybridsim.reports.tracks import Power, Slice, check_tick, powers, scale_text, slices
from hybridsim.results.read import Run


def write_chrome_json(run: Run, path: Path | str, tick_ps: int = 1) -> None:
    """Write a run as Chrome trace-event JSON, event by event: a process per part, a thread per
    lane.

    Args:
        run: the run, finished or not.
        path: the file to write.
        tick_ps: simulated picoseconds that one nanosecond of the trace stands for; see
            ``write_perfetto``.

    Raises:
        InputError: ``tick_ps`` is not positive.
    """
    check_tick(tick_ps)
    about = {"name": run.name, "status": run.status, "scale": scale_text(tick_ps)}
    head = f'{{"displayTimeUnit":"ns","otherData":{_json(about)},"traceEvents":[\n'
    with whole_file(path) as file:
        for index, event in enumerate(_events(run, tick_ps)):
            file.write(((",\n" if index else head) + event).encode())
        file.write(b"\n]}\n")


def _events(run: Run, tick_ps: int) -> Iterator[str]:
    name = f"{run.name} ({scale_text(tick_ps)})"
    yield _json({"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "args": {"name": name}})
    writer = _Writer()
    for found in slices(run, tick_ps):
        yield from writer.slice(found)
    for power in powers(run, tick_ps):
        yield from writer.power(power)


class _Writer:
    """Turns slices into events; remembers which processes and threads have their names."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._threads: dict[tuple[int, str, int], int] = {}

    def slice(self, found: Slice) -> Iterator[str]:
        """A complete event, and its arrows right after it, so that they bind to it."""
        yield from self._process(found.part)
        pid = self._processes[found.part]
        yield from self._thread(pid, found.lane, found.track)
        tid = self._threads[pid, found.lane, found.track]
        time, length = _microseconds(found.start_ps), _microseconds(found.end_ps - found.start_ps)
        yield (
            f'{{"ph":"X","name":{_json(found.name)},"cat":{_json(found.lane)},"pid":{pid},"tid":{tid},'
            f'"ts":{time},"dur":{length},"args":{_json(found.args)}}}'
        )
        place = f'"name":"needs","cat":"parents","pid":{pid},"tid":{tid},"ts":{time}}}'
        for number in found.sources:
            yield f'{{"ph":"s","id":{number},{place}'
        for number in found.targets:
            yield f'{{"ph":"f","bp":"e","id":{number},{place}'

    def power(self, power: Power) -> Iterator[str]:
        """The counter of one part."""
        yield from self._process(power.part)
        pid = self._processes[power.part]
        for time, watts in zip(power.times, power.watts, strict=True):
            drawn = f'"args":{{"W":{_json(_finite(watts))}}}'
            event = f'"pid":{pid},"tid":0,"ts":{_microseconds(time)},{drawn}'
            yield f'{{"ph":"C","name":"power",{event}}}'

    def _process(self, part: str) -> Iterator[str]:
        if part not in self._processes:
            self._processes[part] = pid = len(self._processes) + 1
            yield _json(
                {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": part}}
            )
            yield _json(
                {
                    "ph": "M",
                    "name": "process_sort_index",
                    "pid": pid,
                    "tid": 0,
                    "args": {"sort_index": pid},
                }
            )

    def _thread(self, pid: int, lane: str, track: int) -> Iterator[str]:
        place = (pid, lane, track)
        if place not in self._threads:
            self._threads[place] = tid = len(self._threads) + 1
            yield _json(
                {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": lane}}
            )
            yield _json(
                {
                    "ph": "M",
                    "name": "thread_sort_index",
                    "pid": pid,
                    "tid": tid,
                    "args": {"sort_index": tid},
                }
            )


def _microseconds(ticks: int) -> str:
    """Exact text of a number of nanoseconds in microseconds."""
    return f"{ticks // 1000}.{ticks % 1000:03}"


def _json(value: object) -> str:
    """Compact; a number that is not finite, for which JSON has no word, becomes text."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        assert isinstance(value, dict)  # an event; a name alone is always finite
        finite = {name: _finite(cell) for name, cell in value.items()}
        return json.dumps(finite, separators=(",", ":"))


def _finite(value: object) -> object:
    return str(value) if isinstance(value, float) and value - value != 0 else value
