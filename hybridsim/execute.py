"""A session of a scenario's program on its machine, run to its end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import simpy

from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.algorithms.loop import train
from hybridsim.algorithms.session import Progress, Session
from hybridsim.checkpoints import (
    Checkpoint,
    Checkpoints,
)
from hybridsim.errors import InputError, MissingFacts
from hybridsim.failures import RunFailed, failure_of
from hybridsim.hardware.lane import Context
from hybridsim.hardware.machine import Machine
from hybridsim.operations.arithmetic import Arithmetic
from hybridsim.operations.backend import (
    Backend,
    Live,
    Replay,
    Shapes,
    Timing,
    shapes_of,
)
from hybridsim.operations.facts import FactStore
from hybridsim.operations.keys import salt
from hybridsim.operations.values import Values
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.tasks.task import Task
from hybridsim.trace.spans import Rows, Sink, Trace

Mode = Literal["live", "timing", "replay"]
BACKENDS: dict[str, type[Backend]] = {"live": Live, "timing": Timing, "replay": Replay}


@dataclass(frozen=True)
class Setup:
    """What every attempt at one scenario shares."""

    scenario: Scenario
    task: Task
    shapes: Shapes
    salt: bytes
    store: FactStore | None
    progress: Progress | None
    checkpoints: Checkpoints | None = None
    resumed: tuple[Checkpoint, Values] | None = None


def setup_of(
    scenario: Scenario,
    task: Task,
    store: FactStore | None = None,
    progress: Progress | None = None,
) -> Setup:
    """What every attempt at a scenario shares."""
    numerics = salt(scenario.host.device, scenario.host.threads)
    return Setup(scenario, task, shapes_for(task, scenario), numerics, store, progress)


def arithmetic_of(scenario: Scenario) -> Arithmetic:
    """In what its GPUs compute products of FP32 numbers."""
    training = scenario.training
    return Arithmetic(training.tf32.matmul, training.tf32.convolution, training.amp)


def shapes_for(task: Task, scenario: Scenario) -> Shapes:
    """The counts of a task in the arithmetic of a scenario's GPUs."""
    return shapes_of(task, arithmetic_of(scenario))


class Watched(NamedTuple):
    """A clock and a trace of somebody's own."""

    env: simpy.Environment
    trace: Trace


def session_of(
    setup: Setup,
    backend: Backend,
    sink: Sink,
    steps: int,
    progress: Progress | None,
    spec: MachineSpec | None = None,
    watched: Watched | None = None,
) -> Session[Any]:  # Any: whatever the algorithm's settings
    """Machine, clock and trace for one attempt."""
    scenario, training = setup.scenario, setup.scenario.training
    if watched is None:
        env = simpy.Environment()
        trace = Trace(sink, lambda: int(env.now))
    else:
        env, trace = watched
    machine = Machine(Context(env, trace, backend), spec or scenario.machine.expand())
    return Session(
        setup.task,
        machine,
        backend,
        trace,
        training.algorithm,
        scenario.seed,
        training.batch_size,
        steps,
        training.evaluate_every,
        progress,
        training.diverged_above,
        scenario.wanted_jacobian,
    )


def execute(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    """Train to the end; the trace is closed whatever happens.

    Raises:
        InputError: the algorithm needs an SPU and the machine has none.
        RunFailed: the user's network, torch, arithmetic or a disk raised something.
    """
    if session.settings.needs_spu and not session.machine.spus:
        expected = f"at least one SPU for algorithm '{session.settings.kind}'"
        raise InputError(f"machine: expected {expected}, got none")
    store = session.backend.store
    try:
        with contextlib.nullcontext() if session.backend.tensors else _uncollected():
            _train(session)
        if isinstance(session.backend, Replay) and session.backend.missing is not None:
            raise session.backend.missing
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        kind, failed = failure_of(raised, session.task.file, session.ended + 1)
        if kind and not isinstance(failed, MissingFacts):
            session.trace.event(kind, "", session.ended + 1, note=str(failed))
        if failed is raised:
            raise
        raise failed from (raised if isinstance(failed, RunFailed) else None)
    finally:
        try:
            session.trace.close()
        finally:
            if store is not None:
                store.commit()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: a simulation leaves none behind, and it would walk through
    all that is imported again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _train(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    env = session.machine.context.env
    algorithm = algorithm_of(session.settings)(session)
    session.plan = algorithm.plan
    env.run(env.process(train(algorithm)))


def execute_dry(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    """As ``execute``, before anything is written: what fails is a mistake in the scenario.

    Raises:
        InputError: it does.
    """
    try:
        execute(session)
    except RunFailed as error:
        raise InputError(str(error)) from error


class Nowhere:
    """A sink that forgets."""

    def write(self, rows: Rows) -> None:
        """Forget."""
