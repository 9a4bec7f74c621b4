"""A run as a graph of moments, with what was asked of every part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybridsim.algorithms.session import Session
from hybridsim.circuits.load import Load
from hybridsim.dry import run_watched
from hybridsim.execute import Mode, Watched
from hybridsim.hardware.causes import CausalEnvironment, Graph
from hybridsim.hardware.part import Limit, Standing
from hybridsim.hardware.requests import Compute, Drift, Request, Settle, decode
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import GpuSpec, MachineSpec, SpuSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.retiming.prices import prices
from hybridsim.tasks.task import Task
from hybridsim.trace.spans import Rows, SpanRow, Trace

Row = Mapping[str, Any]  # Any: facts of the algorithm's own


class Step(NamedTuple):
    """A line of the learning curve: the node of its end, and by part what draws power by then."""

    row: Row
    moment: int
    standing: dict[str, list[Standing]]


class Asked(NamedTuple):
    """What a part is asked for; where energy is proportional to an amount, for one of it."""

    part: str
    request: Request


@dataclass(frozen=True)
class Recording:
    """A run that can be timed and priced again.

    Spans are in the order in which they ended; those that were cut at the end of the run come last.

    Attributes:
        scenario: what was run.
        spec: its machine.
        mode: ``replay`` with facts of a live run, or ``timing``.
        graph: the moments.
        orders: of each shared resource the moments at which it was asked for, in order.
        steps: the learning curve.
        asked: the different things that parts are asked for.
        spans: the operations.
        asked_of: (spans,) index into ``asked``.
        amounts: (spans,) how much of it.
        starts: (spans,) node of the start.
        ends: (spans,) node of the end.
        open: how many of the last spans were cut.
        limits: what the run needed of what parts have only so much of.
        loads: of the largest system of each SPU.
        plan: what the program decided before it began.
        fixed_ps: (nodes,) where the program reads the clock: when every moment is; nothing moves.
    """

    scenario: Scenario
    task: Task
    spec: MachineSpec
    mode: Mode
    graph: Graph
    orders: list[np.ndarray]
    steps: list[Step]
    asked: list[Asked]
    spans: list[SpanRow]
    asked_of: np.ndarray
    amounts: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    open: int
    limits: list[Limit]
    loads: dict[str, Load]
    plan: object
    fixed_ps: np.ndarray | None = None

    @property
    def sheets(self) -> dict[str, Datasheet]:
        """The datasheets of the machine's parts by name."""
        return sheets_of(self.spec)


def sheets_of(spec: MachineSpec) -> dict[str, Datasheet]:
    """The datasheets of a machine's parts by name."""
    nodes = {n.name: n.sheet for n in spec.nodes if isinstance(n, GpuSpec | SpuSpec)}
    return nodes | {edge.name: edge.sheet for edge in spec.edges if edge.sheet is not None}


def record(
    scenario: Scenario,
    task: Task,
    facts: Path | None = None,
    backend: Mode | None = None,
) -> Recording:
    """Run a scenario once and keep what every moment follows from; no run folder is written.

    Args:
        scenario: what to run.
        task: its workload, loaded.
        facts: the fact store of a live run with the same numbers; without it nothing is computed.
        backend: default ``replay`` with facts and ``timing`` without.

    Raises:
        MissingFacts: the store does not have them.
        HybridsimError: the run failed.
    """
    mode: Mode = backend or ("timing" if facts is None else "replay")
    env = CausalEnvironment()
    trace = _Listening(env)
    run_watched(scenario, task, mode, facts, Watched(env, trace), trace.attend)
    return _recording(scenario, task, mode, env, trace)


class _Listening(Trace):
    """A trace that keeps everything in memory, with the moments of its rows."""

    def __init__(self, env: CausalEnvironment) -> None:
        super().__init__(self, lambda: int(env.now), chunk_rows=2**62, chunk_s=float("inf"))
        self._env = env
        self.kept: list[SpanRow] = []
        self.lines: list[tuple[Row, int]] = []
        self.details: list[tuple[str, str]] = []
        self.standing: list[dict[str, list[Standing]]] = []
        self.session: Session[Any] | None = None  # Any: whatever the algorithm's settings
        self.unfinished = 0

    def attend(self, session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
        """The run that is going to be listened to."""
        self.session = session

    def write(self, rows: Rows) -> None:
        """Keep a chunk."""
        self.kept += rows.spans
        self.details += [(row.form, row.detail) for row in rows.requests]

    def begin(self, row: SpanRow) -> None:
        """A span starts."""
        self._env.begun(row.id)
        super().begin(row)

    def finish(self, span: int) -> None:
        """A span ends; one of the background as soon as it begins."""
        self._env.passed(span)
        super().finish(span)

    def step(self, row: Row) -> None:
        """A step ends."""
        assert self.session is not None, "set before it runs"
        self.lines.append((row, self._env.moment))
        parts = self.session.machine.parts
        self.standing.append({part.name: part.standing() for part in parts})
        super().step(row)

    def close(self) -> None:
        """What is still in flight is cut."""
        self.unfinished = len(self._open)
        super().close()


def _recording(
    scenario: Scenario,
    task: Task,
    mode: Mode,
    env: CausalEnvironment,
    trace: _Listening,
) -> Recording:
    assert trace.session is not None, "it has run"
    requests = [decode(*detail) for detail in trace.details]
    asked: dict[object, tuple[int, Asked]] = {}
    asked_of, amounts = [], []
    for row in trace.kept:
        request, amount = _of_one(requests[row.request])
        # work is not hashed: the table of requests has it once
        key = (row.part, row.request if isinstance(request, Compute) else (type(request), request))
        asked_of.append(asked.setdefault(key, (len(asked), Asked(row.part, request)))[0])
        amounts.append(amount)
    lines = zip(trace.lines, trace.standing, strict=True)
    found = Recording(
        scenario,
        task,
        scenario.machine.expand(),
        mode,
        env.graph,
        [np.array(order) for order in env.orders.values() if len(order) > 1],
        [Step(row, moment, standing) for (row, moment), standing in lines],
        [one for _, one in asked.values()],
        trace.kept,
        np.array(asked_of, dtype=int),
        np.array(amounts, dtype=float),
        np.array([env.starts[row.id] for row in trace.kept], dtype=int),
        np.array([env.ends.get(row.id, 0) for row in trace.kept], dtype=int),
        trace.unfinished,
        trace.session.machine.limits(),
        {spu.name: spu.largest for spu in trace.session.machine.spus},
        trace.session.plan,
    )
    return _fixed(found) if scenario.training.algorithm.reads_clock else found


def _fixed(found: Recording) -> Recording:
    """The same with every moment where it was: two nodes for each span, one for each step."""
    count = len(found.spans)
    starts_ps = np.array([row.start_ps for row in found.spans], dtype=np.int64)
    lengths_ps = prices(found.asked, found.sheets).durations_ps[found.asked_of]
    ends_ps = np.array([row.end_ps for row in found.spans], dtype=np.int64)
    cut = count - found.open  # these would have ended later
    ends_ps[cut:] = (starts_ps + lengths_ps)[cut:]
    marks_ps = np.array([int(step.row["end_ps"]) for step in found.steps], dtype=np.int64)
    return replace(
        found,
        graph=Graph(),
        orders=[],
        steps=[step._replace(moment=2 * count + k) for k, step in enumerate(found.steps)],
        starts=np.arange(count),
        ends=np.arange(count, 2 * count),
        fixed_ps=np.concatenate([starts_ps, ends_ps, marks_ps]),
    )


def _of_one(request: Request) -> tuple[Request, float]:
    """A request for one unit of what its energy is proportional to, and how many units it is for.

    Of a settle whose heat is known, or the charge where that is paid: its time depends on neither.
    """
    if not isinstance(request, Settle | Drift):
        return request, 1.0
    amount = request.charge if request.supplied else request.dissipation
    if amount is None:
        return request, 1.0
    return request._replace(dissipation=1.0, charge=1.0), amount
