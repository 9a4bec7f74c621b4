"""Small made-up schedules on FIFO servers, recorded by the real recorder: traces whose books are
known."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import simpy
from hypothesis import strategies as st

from hybridsim.results.write import RunWriter
from hybridsim.trace.chunks import chunk_of
from hybridsim.trace.spans import Rows as Chunk
from hybridsim.trace.spans import SpanRow, Trace

COLUMN = {name: index for index, name in enumerate(SpanRow._fields)}
STATIC = [
    {
        "part": "gpu0",
        "component": "idle power",
        "power_w": 50.0,
        "power_low_w": 40.0,
        "power_high_w": 65.0,
        "status": "measured",
        "source": "datasheet",
    },
    {
        "part": "spu0",
        "component": "amplifiers",
        "power_w": 0.5,
        "power_low_w": 0.1,
        "power_high_w": 2.0,
        "status": "assumed",
        "source": "range of op-amps",
    },
]


class Op(NamedTuple):
    """An operation of a thread: on a server, of a length, after other operations (by place in the
    list)."""

    thread: int
    server: int
    length_ps: int
    after: tuple[int, ...] = ()


class Rows:
    """A sink that keeps everything in memory."""

    def __init__(self) -> None:
        self.spans: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.steps: list[dict[str, Any]] = []

    def write(self, rows: Chunk) -> None:
        self.spans += rows.spans
        self.events += rows.events
        self.steps += rows.steps


class _Server:
    def __init__(self) -> None:
        self.busy, self.freed_by, self.queue = False, -1, deque()


def simulate(ops: Sequence[Op], until_ps: int | None = None) -> list[tuple[Any, ...]]:
    """Rows of the spans, in the order in which they were recorded."""
    env, sink = simpy.Environment(), Rows()
    trace = Trace(sink, lambda: int(env.now))
    servers = {op.server: _Server() for op in ops}
    done = [env.event() for _ in ops]
    spans = [-1] * len(ops)

    def thread(number: int):
        last = -1
        for index, op in enumerate(ops):
            if op.thread != number:
                continue
            for cause in op.after:
                yield done[cause]
            parents = tuple(
                sorted({spans[cause] for cause in op.after} | ({last} if last >= 0 else set()))
            )
            span, queued, blocker = trace.new_id(), env.now, -1
            server = servers[op.server]
            if server.busy:
                turn = env.event()
                server.queue.append(turn)
                yield turn
                blocker = server.freed_by if env.now > queued else -1
            server.busy = True
            trace.begin(row(span, parents, blocker, op, queued, env.now))
            yield env.timeout(op.length_ps)
            trace.finish(span)
            server.freed_by = last = spans[index] = span
            if server.queue:
                server.queue.popleft().succeed()
            else:
                server.busy = False
            done[index].succeed()

    for number in sorted({op.thread for op in ops}):
        env.process(thread(number))
    env.run(until_ps)
    trace.close()
    return sink.spans


def row(
    span: int, parents: tuple[int, ...], blocker: int, op: Op, queued_ps: int, start_ps: int
) -> SpanRow:
    """A span whose work and energy follow from its length."""
    joules = op.length_ps * 1e-12 * (op.server + 1) + 1e-15
    return SpanRow(
        id=span,
        parents=parents,
        blocker=blocker,
        part=f"part{op.server % 2}",
        lane=f"lane{op.server}",
        role="server",
        category="compute",
        kind=f"kind{op.thread}",
        step=span // 5 + 1,
        layer="",
        factor="",
        count=1,
        queued_ps=queued_ps,
        start_ps=start_ps,
        end_ps=start_ps + op.length_ps,
        busy_ps=op.length_ps // 2,
        flop=3.0 * op.length_ps,
        bytes=2.0,
        launches=1,
        bits=op.length_ps,
        conversions=3,
        writes=4,
        energy_j=joules,
        energy_low_j=0.5 * joules,
        energy_high_j=2 * joules,
        request=0,
    )


@st.composite
def operations(draw: st.DrawFn, most: int = 25) -> list[Op]:
    """Random operations: several threads, few servers, cross-dependencies, also of no length at
    all."""
    ops: list[Op] = []
    for index in range(draw(st.integers(1, most))):
        after = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        length = draw(st.sampled_from([0, 1, 2, 3, 1000, 10**7]))
        ops.append(
            Op(draw(st.integers(0, 3)), draw(st.integers(0, 2)), length, tuple(sorted(after)))
        )
    return ops


def cut(rows: Sequence[tuple], length: int) -> list[dict]:
    """Rows as chunks of a length."""
    return [chunk_of(rows[i : i + length]) for i in range(0, len(rows), length)]


def column(rows: Sequence[tuple], name: str) -> list:
    return [row[COLUMN[name]] for row in rows]


def steps_of(rows: Sequence[tuple]) -> list[dict[str, Any]]:
    """A learning curve that goes with the spans; the test accuracy appears at every second step."""
    found = []
    for number in sorted(set(column(rows, "step"))):
        own = [row for row in rows if row[COLUMN["step"]] == number]
        step = {
            "step": number,
            "start_ps": min(column(own, "start_ps")),
            "end_ps": max(column(own, "end_ps")),
        }
        step |= {
            "train_loss": 2.0 / number,
            "energy_j": 1e-6 * number,
            "staleness_steps": None,
            "delay_ps": 0,
        }
        found.append(step | ({"test_accuracy": 1 - 0.5 / number} if number % 2 == 0 else {}))
    return found


def write_run(
    folder: Path,
    rows: Sequence[tuple],
    parts: int = 1,
    steps: list | None = None,
    events: list | None = None,
    **extras,
) -> dict[str, Any]:
    """A finished run folder from rows, cut into parts; returns its summary."""
    steps, events = steps_of(rows) if steps is None else steps, events or []
    writer = RunWriter(folder, force=True, scenario="name: made up\n")
    for i in range(parts):
        slices = (
            slice(len(x) * i // parts, len(x) * (i + 1) // parts) for x in (rows, events, steps)
        )
        a, b, c = slices
        writer.write(Chunk(rows[a], events[b], steps[c]))
    return writer.finish(
        {"status": "complete", "seed": 0}, STATIC, {"name": "made up", "batch_size": 8, **extras}
    )
