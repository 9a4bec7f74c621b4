"""Runs without a folder: without tensors, on another machine, on a clock of somebody's own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.algorithms.session import Line, Progress, Session
from hybridsim.execute import (
    BACKENDS,
    Mode,
    Nowhere,
    Setup,
    Watched,
    execute,
    execute_dry,
    session_of,
    setup_of,
    shapes_for,
)
from hybridsim.hardware.extent import Size
from hybridsim.hardware.part import Limit, StaticPower
from hybridsim.host_memory import Weighed, check_host_memory
from hybridsim.operations.backend import (
    Backend,
    Live,
    Timing,
)
from hybridsim.operations.facts import FactStore
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.tasks.device import on_host
from hybridsim.tasks.task import Task
from hybridsim.trace.spans import Rows, SpanRow


def run_watched(
    scenario: Scenario,
    task: Task,
    mode: Mode,
    facts: Path | None,
    watched: Watched,
    ready: Callable[[Session[Any]], None],  # Any: whatever the algorithm's settings
    spec: MachineSpec | None = None,
) -> None:
    """Run a scenario on somebody's own clock, without a run folder.

    Args:
        scenario: what to run.
        task: its workload, loaded.
        mode: as of ``run``.
        facts: the fact store.
        watched: clock and trace.
        ready: is given the session before it begins.
        spec: another machine than the scenario's.

    Raises:
        MissingFacts: a replay met what the store does not know.
        HybridsimError: the run failed.
    """
    with on_host(scenario.host.device, scenario.host.threads), contextlib.ExitStack() as stack:
        store = FactStore(facts) if facts is not None else None
        if store is not None:
            stack.callback(store.close)
        setup = setup_of(scenario, task, store)
        backend = BACKENDS[mode](setup.salt, setup.shapes, store)
        steps = scenario.training.steps
        session = session_of(setup, backend, Nowhere(), steps, None, spec, watched)
        ready(session)
        execute(session)


def run_on(
    scenario: Scenario, task: Task, steps: int, backend: Backend, progress: Progress
) -> None:
    """Run some steps on a backend of somebody's own, without a run folder; of the last one the
    diagnostics are evaluated.

    Raises:
        HybridsimError: the run failed.
    """
    setup = setup_of(scenario, task)
    with on_host(scenario.host.device, scenario.host.threads):
        session = session_of(setup, backend, Nowhere(), steps, progress)
        session.evaluate_every = steps
        execute(session)


def last_key(scenario: Scenario, task: Task) -> bytes:
    """The key of the parameters that a run would end with, found without tensors; writes nothing.

    Where facts steer the program a live run may end with another key.

    Raises:
        CapacityError: something does not fit.
    """
    setup = setup_of(scenario, task)
    backend = Timing(setup.salt, setup.shapes)
    session = session_of(setup, backend, Nowhere(), scenario.training.steps, None)
    execute_dry(session)
    return session.theta.key


def first_steps(scenario: Scenario, task: Task, steps: int) -> list[float]:
    """Host seconds of each of the first steps of a live run, the last one with its evaluation;
    writes nothing.

    Raises:
        HybridsimError: the run fails.
    """
    setup = setup_of(scenario, task)
    ends: list[float] = []
    with on_host(scenario.host.device, scenario.host.threads):
        check_capacity(setup)
        started = time.perf_counter()
        backend = Live(setup.salt, setup.shapes)

        def progress(_: Line) -> None:
            ends.append(time.perf_counter())

        execute(session_of(setup, backend, Nowhere(), steps, progress))
    return [end - start for start, end in zip([started, *ends], ends, strict=False)]


class Recorded(NamedTuple):
    """All that a run without tensors knows of its machine."""

    spans: list[SpanRow]
    static_power: list[StaticPower]
    limits: list[Limit]
    sizes: list[Size]


class DryRun:
    """Two steps of a scenario without tensors, on one machine after the other."""

    def __init__(self, scenario: Scenario, task: Task) -> None:
        self._setup = Setup(scenario, task, shapes_for(task, scenario), b"dry run", None, None)

    def recorded(self, spec: MachineSpec) -> Recorded:
        """What they would record.

        Raises:
            CapacityError: something does not fit.
        """
        sink = _InMemory()
        backend = Timing(self._setup.salt, self._setup.shapes)
        session = session_of(self._setup, backend, sink, 2, None, spec)
        execute_dry(session)
        machine = session.machine
        return Recorded(sink.spans, machine.static_power(), machine.limits(), machine.sizes())

    def plan(self, spec: MachineSpec) -> object:
        """What the program would decide by the machine's constants before it begins.

        Raises:
            CapacityError: something does not fit.
        """
        backend = Timing(self._setup.salt, self._setup.shapes)
        session = session_of(self._setup, backend, Nowhere(), 1, None, spec)
        return algorithm_of(session.settings)(session).plan


class _InMemory:
    """A sink that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[SpanRow] = []

    def write(self, rows: Rows) -> None:
        """Keep the spans; requests differ in number only."""
        self.spans += [row._replace(request=0) for row in rows.spans]


def check_capacity(setup: Setup, mode: Mode = "live") -> None:
    """Some steps without tensors, so that whatever does not fit is refused before the run starts:
    the machine's parts, and in a live run this computer's memory.

    Raises:
        CapacityError: names the tensor or array, its size and the knob to turn.
    """
    backend = Weighed(setup.salt, setup.shapes)
    training = setup.scenario.training
    steps = max(2, min(training.steps, training.algorithm.telling_steps))
    execute_dry(session_of(setup, backend, Nowhere(), steps=steps, progress=None))
    if mode == "live":
        check_host_memory(backend, setup.scenario.host.device)
