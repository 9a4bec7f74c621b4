"""The arrow of the design as one function: scenario -> machine + program + task -> trace + history
-> run folder.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import simpy
import torch

from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.algorithms.loop import train
from hybridsim.algorithms.session import Line, Progress, Session
from hybridsim.errors import HybridsimError, InputError, MissingFacts
from hybridsim.files import DiskFailed
from hybridsim.hardware.extent import Size
from hybridsim.hardware.lane import Context
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.part import Limit, StaticPower
from hybridsim.interrupt import held_back_when_interrupted
from hybridsim.operations.arithmetic import Arithmetic
from hybridsim.operations.backend import (
    Backend,
    ComputationRaised,
    Live,
    Replay,
    Shapes,
    Timing,
    shapes_of,
)
from hybridsim.operations.facts import FactStore
from hybridsim.operations.keys import salt
from hybridsim.results.keys import Json
from hybridsim.results.manifest import manifest
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter, Superseded
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.schema import Scenario, Target
from hybridsim.scenario.workload_options import check_options
from hybridsim.tasks.device import check_device, on_host
from hybridsim.tasks.task import Task, load_workload
from hybridsim.tasks.users_code import line_of, problem_of, text_of
from hybridsim.trace.spans import Rows, Sink, SpanRow, Trace

Mode = Literal["live", "timing", "replay"]
_BACKENDS: dict[str, type[Backend]] = {"live": Live, "timing": Timing, "replay": Replay}


class RunFailed(HybridsimError):
    """The run could not go on; the message says what stopped it."""


@dataclass(frozen=True)
class _Setup:
    """What every attempt at one scenario shares."""

    scenario: Scenario
    task: Task
    shapes: Shapes
    salt: bytes
    store: FactStore | None
    progress: Progress | None


def run(
    scenario: Scenario,
    out: Path | str | None = None,
    *,
    backend: Mode = "live",
    facts: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    data: Path | str | None = None,
    task: Task | None = None,
) -> Run:
    """Simulate a scenario and write its run folder.

    Args:
        scenario: what to simulate.
        out: run folder; without it a temporary one that lives as long as the returned object.
        backend: ``live`` trains with tensors; ``timing`` gives the schedule alone; ``replay`` takes
            facts from the store, and starts over live where one is missing
            (``summary["host"]["replay_missing"]`` says so).
        facts: the fact store (sqlite); live runs fill it, a replay needs it.
        force: replace an existing run folder.
        progress: called with every line of the learning curve.
        data: folder of external data sets, for workloads that need one (default:
            ``HYBRIDSIM_DATA``).
        task: what ``load_task`` gave for a scenario with the same workload, precision and host
            device, so that many runs load a large network once; ``data`` is then not used.

    Raises:
        InputError: the scenario cannot run (unknown workload, something does not fit, the task is
            another scenario's, the folder exists).
        HybridsimError: the run failed; what it had written is kept.
        KeyboardInterrupt: the run was interrupted; what it had written is kept.
    """
    if backend == "replay" and (facts is None or not Path(facts).is_file()):
        raise InputError(
            f"replay: expected an existing fact store (--facts FILE), got {facts or 'none'}"
        )
    temporary = None
    if out is None:
        temporary = tempfile.TemporaryDirectory(prefix="hybridsim-")
        out = temporary.name
    folder = Path(out)
    with on_host(scenario.host.device, scenario.host.threads), contextlib.ExitStack() as stack:
        store = FactStore(facts) if facts is not None else None
        if store is not None:
            stack.callback(store.close)
        task = load_task(scenario, data) if task is None else _checked(task, scenario)
        setup = _Setup(
            scenario,
            task,
            _shapes(task, scenario),
            salt(scenario.host.device, scenario.host.threads),
            store,
            progress,
        )
        check_capacity(setup)
        _write(setup, folder, force or temporary is not None, backend)
    result = Run.open(folder)
    result.temporary = temporary
    return result


def arithmetic_of(scenario: Scenario) -> Arithmetic:
    """In what its GPUs compute products of FP32 numbers."""
    training = scenario.training
    return Arithmetic(training.tf32.matmul, training.tf32.convolution, training.amp)


def _shapes(task: Task, scenario: Scenario) -> Shapes:
    return shapes_of(task, arithmetic_of(scenario))


def load_task(scenario: Scenario, data: Path | str | None = None) -> Task:
    """The workload of a scenario, on the scenario's host device and in its precision.

    Raises:
        InputError: the device is not there; the workload cannot be loaded, does not compute in this
            precision, or has no such target.
    """
    check_device(scenario.host.device)
    check_options(scenario)
    folder = str(data) if data is not None else os.environ.get("HYBRIDSIM_DATA")
    workload = scenario.workload
    task = load_workload(workload.source, dict(workload.options), folder)
    return _checked(
        task.to(scenario.host.device, getattr(torch, scenario.training.precision)), scenario
    )


def _checked(task: Task, scenario: Scenario) -> Task:
    """The task, once it is known to be this scenario's and to have its target.

    Raises:
        InputError: it was loaded for another workload, precision or device, or has no such target.
    """
    workload, target = scenario.workload, scenario.training.target
    asked = {
        "workload.source": (workload.source, task.name),
        "workload.options": (_sorted(workload.options), _sorted(task.options)),
        "training.precision": (f"torch.{scenario.training.precision}", str(task.dtype)),
        "host.device": (scenario.host.device, task.data.train_x.device.type),
    }
    for path, (expected, got) in asked.items():
        if expected != got:
            raise InputError(f"{path}: expected a task loaded for {expected}, got one for {got}")
    for path, part in (("training.target", target), ("thresholds", scenario.thresholds)):
        if part is None or part.test_accuracy is None or task.loss == "cross_entropy":
            continue
        raise InputError(
            f"{path}: expected test_loss for workload '{workload.source}', whose loss "
            f"is {task.loss}, "
            "got test_accuracy"
        )
    return task


def _sorted(options: Mapping[str, Any]) -> str:  # Any: as a workload's Options
    return repr(sorted(options.items()))


def check_capacity(setup: _Setup) -> None:
    """Some steps without tensors, so that whatever does not fit is refused before the run starts.

    Raises:
        CapacityError: names the tensor or array, its size and the knob to turn.
    """
    backend = Timing(setup.salt, setup.shapes)
    training = setup.scenario.training
    steps = max(2, min(training.steps, training.algorithm.telling_steps))
    _execute_dry(_session(setup, backend, _Nowhere(), steps=steps, progress=None))


def _write(setup: _Setup, folder: Path, force: bool, mode: Mode) -> None:
    """Attempt the run; a replay that misses a fact is thrown away and done again live."""
    if mode != "replay":
        return _attempt(setup, folder, force, mode, "")
    try:
        return _attempt(setup, folder, force, mode, "")
    except MissingFacts as error:
        return _attempt(setup, folder, True, "live", str(error))


def _attempt(setup: _Setup, folder: Path, force: bool, mode: str, missing: str) -> None:
    """One attempt with its run folder; what was written is kept when it fails or is interrupted."""
    started = time.perf_counter()
    writer = RunWriter(folder, force)
    writer.scenario(setup.scenario.to_yaml())
    head = manifest(setup.scenario, mode, setup.salt, setup.task) | _extras(setup.scenario)
    writer.manifest(head | {"status": "running"})
    backend = _BACKENDS[mode](setup.salt, setup.shapes, setup.store)
    try:
        session = _session(setup, backend, writer, setup.scenario.training.steps, setup.progress)
    except HybridsimError as error:
        writer.manifest(head | {"status": "failed", "reason": str(error)})
        raise
    machine = session.machine
    writer.static_power = lambda: [row._asdict() for row in machine.static_power()]
    status: str = "complete"
    failure: BaseException | None = None
    try:
        _execute(session)
    except MissingFacts:
        raise
    except KeyboardInterrupt:
        status = "interrupted"
        failure = KeyboardInterrupt(f"interrupted; the results so far are in {folder}")
    except Exception as error:
        status, failure = "failed", error
    host = {"backend": mode, "replay_missing": missing, "numeric_s": backend.numeric_s}
    host["facts_failure"] = setup.store.failure if setup.store is not None else ""
    host["wall_s"] = time.perf_counter() - started
    basis = {"basis": [row._asdict() for row in machine.basis()]}
    reason = str(failure) if status == "failed" else ""
    ending = {"status": status, "reason": reason} | basis
    used = {
        "gpu_peak_bytes": {gpu.name: gpu.peak_bytes for gpu in machine.gpus},
        "limits": [row._asdict() | {"share": row.share} for row in machine.limits()],
        "sizes": machine.sizes(),
    }
    summary = _extras(setup.scenario) | ending | session.notes | used | {"host": host}
    ending |= {"last_key": session.theta.key.hex()}
    _finish(writer, head | ending, summary, failure)
    if failure is not None:
        raise failure


def _finish(
    writer: RunWriter,
    ending: dict[str, Json],
    summary: dict[str, Json],
    failure: BaseException | None,
) -> None:
    """Complete the folder, whatever signals come; where that fails its manifest says so.

    Raises:
        RunFailed: it could not be completed; or ``failure``, where there was one before.
    """
    try:
        with held_back_when_interrupted():
            writer.finish(ending, writer.static_power(), summary)
    except Superseded as error:
        raise failure or RunFailed(_incomplete(writer.folder, error)) from error
    except (OSError, DiskFailed) as error:
        text = _incomplete(writer.folder, error)
        with contextlib.suppress(OSError, HybridsimError):  # it may be too full for that
            writer.manifest(ending | {"status": "failed", "reason": text})
        raise failure or RunFailed(text) from error


def _incomplete(folder: Path, error: BaseException) -> str:
    return f"{folder}: the results could not be completed: {error}"


def _session(
    setup: _Setup,
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
    )


def _execute(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    """Train to the end; the trace is closed whatever happens.

    Raises:
        InputError: the algorithm needs an SPU and the machine has none.
        RunFailed: the user's network, torch, arithmetic or a disk raised something.
    """
    if session.settings.needs_spu and not session.machine.spus:
        expected = f"at least one SPU for algorithm '{session.settings.kind}'"
        raise InputError(f"machine: expected {expected}, got none")
    env, store = session.machine.context.env, session.backend.store
    try:
        algorithm = algorithm_of(session.settings)(session)
        session.plan = algorithm.plan
        env.run(env.process(train(algorithm)))
        if isinstance(session.backend, Replay) and session.backend.missing is not None:
            raise session.backend.missing
    except (HybridsimError, KeyboardInterrupt):
        raise
    except Exception as raised:
        error = raised.error if isinstance(raised, ComputationRaised) else raised
        failed = _named(error, session.task.file)
        raise failed from None if failed is error else error
    finally:
        session.trace.close()
        if store is not None:
            store.commit()


def _named(error: BaseException, file: str) -> BaseException:
    """What to raise for an error of a computation: it names the user's file where that is to
    blame.
    """
    if line_of(error, file) is not None or isinstance(error, SystemExit):
        return RunFailed(str(problem_of(error, file, "network", "a network that computes")))
    if isinstance(error, RuntimeError | ArithmeticError | OSError | MemoryError):
        return RunFailed(text_of(error))  # of torch, of arithmetic, of disks
    return error  # a bug: it keeps its traceback


def _execute_dry(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    """As ``_execute``, before anything is written: what fails is a mistake in the scenario.

    Raises:
        InputError: it does.
    """
    try:
        _execute(session)
    except RunFailed as error:
        raise InputError(str(error)) from error


def _extras(scenario: Scenario) -> dict[str, Any]:  # Any: goes to JSON
    """What the summary repeats of the scenario."""
    training, target = scenario.training, scenario.training.target
    asked = scenario.thresholds.asked() if scenario.thresholds is not None else ()
    thresholds = [
        {"name": name, "sign": bound.sign, "value": bound.value, "unit": unit, "asked": text}
        for name, bound, unit, text in asked
    ]
    return ({"thresholds": thresholds} if thresholds else {}) | {
        "name": scenario.name,
        "seed": scenario.seed,
        "batch_size": training.batch_size,
        "target": None if target is None else _threshold(target),
    }


def _threshold(target: Target) -> dict[str, Any]:  # Any: goes to JSON
    """The metric that decides, and on which side of its threshold the target lies."""
    if target.test_accuracy is not None:
        return {"metric": "test_accuracy", "threshold": target.test_accuracy, "direction": "above"}
    return {"metric": "test_loss", "threshold": target.test_loss, "direction": "below"}


class Watched(NamedTuple):
    """A clock and a trace of somebody's own."""

    env: simpy.Environment
    trace: Trace


def _plain_setup(scenario: Scenario, task: Task, store: FactStore | None = None) -> _Setup:
    """The setup of a run that nobody watches."""
    numerics = salt(scenario.host.device, scenario.host.threads)
    return _Setup(scenario, task, _shapes(task, scenario), numerics, store, None)


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
        setup = _plain_setup(scenario, task, store)
        backend = _BACKENDS[mode](setup.salt, setup.shapes, store)
        steps = scenario.training.steps
        session = _session(setup, backend, _Nowhere(), steps, None, spec, watched)
        ready(session)
        _execute(session)


def run_on(
    scenario: Scenario, task: Task, steps: int, backend: Backend, progress: Progress
) -> None:
    """Run some steps on a backend of somebody's own, without a run folder; of the last one the
    diagnostics are evaluated.

    Raises:
        HybridsimError: the run failed.
    """
    setup = _plain_setup(scenario, task)
    with on_host(scenario.host.device, scenario.host.threads):
        session = _session(setup, backend, _Nowhere(), steps, progress)
        session.evaluate_every = steps
        _execute(session)


def last_key(scenario: Scenario, task: Task) -> bytes:
    """The key of the parameters that a run would end with, found without tensors; writes nothing.

    Where facts steer the program a live run may end with another key.

    Raises:
        CapacityError: something does not fit.
    """
    setup = _plain_setup(scenario, task)
    backend = Timing(setup.salt, setup.shapes)
    session = _session(setup, backend, _Nowhere(), scenario.training.steps, None)
    _execute_dry(session)
    return session.theta.key


def first_steps(scenario: Scenario, task: Task, steps: int) -> list[float]:
    """Host seconds of each of the first steps of a live run, the last one with its evaluation;
    writes nothing.

    Raises:
        HybridsimError: the run fails.
    """
    setup = _plain_setup(scenario, task)
    ends: list[float] = []
    with on_host(scenario.host.device, scenario.host.threads):
        check_capacity(setup)
        started = time.perf_counter()
        backend = Live(setup.salt, setup.shapes)

        def progress(_: Line) -> None:
            ends.append(time.perf_counter())

        _execute(_session(setup, backend, _Nowhere(), steps, progress))
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
        self._setup = _Setup(scenario, task, _shapes(task, scenario), b"dry run", None, None)

    def recorded(self, spec: MachineSpec) -> Recorded:
        """What they would record.

        Raises:
            CapacityError: something does not fit.
        """
        sink = _InMemory()
        backend = Timing(self._setup.salt, self._setup.shapes)
        session = _session(self._setup, backend, sink, 2, None, spec)
        _execute_dry(session)
        machine = session.machine
        return Recorded(sink.spans, machine.static_power(), machine.limits(), machine.sizes())

    def plan(self, spec: MachineSpec) -> object:
        """What the program would decide by the machine's constants before it begins.

        Raises:
            CapacityError: something does not fit.
        """
        backend = Timing(self._setup.salt, self._setup.shapes)
        session = _session(self._setup, backend, _Nowhere(), 1, None, spec)
        return algorithm_of(session.settings)(session).plan


class _InMemory:
    """A sink that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[SpanRow] = []

    def write(self, rows: Rows) -> None:
        """Keep the spans; requests differ in number only."""
        self.spans += [row._replace(request=0) for row in rows.spans]


class _Nowhere:
    """A sink that forgets."""

    def write(self, rows: Rows) -> None:
        """Forget."""
