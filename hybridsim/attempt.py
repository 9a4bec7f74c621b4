"""One attempt at a scenario: the program run to its end, and its run folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridsim.algorithms.session import Line, Progress, Session
from hybridsim.checkpoints import (
    Checkpoints,
    Every,
    forget,
    last_checkpoint,
    values_of,
)
from hybridsim.errors import HybridsimError, MissingFacts
from hybridsim.execute import BACKENDS, Mode, Setup, execute, session_of
from hybridsim.failures import RunFailed
from hybridsim.files import cannot_write
from hybridsim.interrupt import held_back_when_interrupted
from hybridsim.operations.backend import (
    Backend,
)
from hybridsim.operations.facts import FactStore
from hybridsim.operations.resumed import NotResumable, OnDemand, Resumable
from hybridsim.operations.values import Values
from hybridsim.results.alive import alone_in
from hybridsim.results.keys import Json
from hybridsim.results.manifest import manifest
from hybridsim.results.write import FACTS, RunWriter, Superseded, check_folder
from hybridsim.scenario.schema import Scenario, Target
from hybridsim.tasks.users_code import text_of


def write_run(setup: Setup, folder: Path, force: bool, mode: Mode) -> None:
    """Attempt the run; a replay that misses a fact is thrown away and done again with numbers:
    those that its missing facts need, from values that a checkpoint beside the facts has.
    """
    with _alone(folder):
        if mode != "replay":
            return _attempt(setup, folder, force, mode, "")
        try:
            return _attempt(setup, folder, force, mode, "")
        except MissingFacts as error:
            missing = str(error)
        try:
            return _attempt(setup, folder, True, "on demand", missing)
        except NotResumable:  # facts of another computer
            return _attempt(setup, folder, True, "live", missing)


def _values_beside(store: FactStore) -> Values | None:
    """Those of the last checkpoint of the run whose facts these are."""
    folder = store.path.parent
    found = last_checkpoint(folder)
    return None if found is None else values_of(folder, found)


def write_resumable(setup: Setup, folder: Path, force: bool, every: Every) -> None:
    """A live run that keeps checkpoints, and goes on from one."""
    with _alone(folder):
        check_folder(folder, force)
        with contextlib.closing(FactStore(folder / FACTS)) as store:
            checkpoints = Checkpoints(folder, every, setup.salt.hex())
            kept = replace(setup, store=store, checkpoints=checkpoints)
            _attempt(kept, folder, force, "live", "")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder is there, and no other process writes a run to it.

    Raises:
        InputError, DiskFailed: it cannot be made, or another one does.
    """
    try:
        check_folder(folder, True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "a folder") from error
    with alone_in(folder):
        yield


def _attempt(setup: Setup, folder: Path, force: bool, mode: str, missing: str) -> None:
    """One attempt with its run folder; what was written is kept when it fails or is interrupted.

    Signals wait while files are written, so that what the folder says is always true.
    """
    started = time.perf_counter()
    with held_back_when_interrupted() as hold:
        check_folder(folder, force)
        backend = _backend(setup, mode)
        if setup.resumed is None:
            forget(folder)
        writer = RunWriter(folder, force, setup.scenario.to_yaml())
        head: dict[str, Json] = {}
        session: Session[Any] | None = None  # Any: whatever the algorithm's settings
        failure: BaseException | None = None
        try:
            head = manifest(setup.scenario, backend.name, setup.salt, setup.task)
            head |= _extras(setup.scenario)
            writer.manifest(head | {"status": "running"})
            with hold.open():
                session = _begun(setup, backend, writer)
                execute(session)
        except KeyboardInterrupt:
            failure = KeyboardInterrupt(f"interrupted; the results so far are in {folder}")
        except BaseException as error:
            failure = error
        if session is None or _is_done_again(failure, mode):
            _tell(writer, failure)
        else:
            host = _host(setup, backend, missing) | session.told
            host |= {"wall_s": time.perf_counter() - started}
            _finish(writer, head, session, failure, _extras(setup.scenario) | {"host": host})
        if failure is not None:
            raise failure


def _begun(setup: Setup, backend: Backend, writer: RunWriter) -> Session[Any]:  # Any: as above
    progress = _observed(setup, backend)
    session = session_of(setup, backend, writer, setup.scenario.training.steps, progress)
    machine = session.machine
    writer.static_power = lambda: [row._asdict() for row in machine.static_power()]
    return session


def _is_done_again(failure: BaseException | None, mode: str) -> bool:
    """Whether an attempt is thrown away: a replay that misses facts, or has another computer's."""
    again = NotResumable if mode == "on demand" else MissingFacts
    return isinstance(failure, again)


def _ending(failure: BaseException | None) -> dict[str, Json]:
    """Status and reason."""
    if failure is None:
        return {"status": "complete", "reason": ""}
    if isinstance(failure, KeyboardInterrupt):
        return {"status": "interrupted", "reason": ""}
    reason = str(failure) if isinstance(failure, HybridsimError) else text_of(failure)
    return {"status": "failed", "reason": reason}


def _tell(writer: RunWriter, failure: BaseException | None) -> None:
    """The manifest says how it ended, unless the disk is too full for that."""
    with contextlib.suppress(OSError, HybridsimError):
        writer.end(_ending(failure))


def _host(setup: Setup, backend: Backend, missing: str) -> dict[str, Json]:
    """What the host did."""
    host = {"backend": backend.name, "replay_missing": missing, "numeric_s": backend.numeric_s}
    host["facts_failure"] = setup.store.failure if setup.store is not None else ""
    if setup.checkpoints is not None:
        host["checkpoints"] = setup.checkpoints.told
    return host


def _backend(setup: Setup, mode: str) -> Backend:
    if setup.store is not None and mode == "on demand":
        values = _values_beside(setup.store)
        return OnDemand(setup.salt, setup.shapes, setup.store, values=values)
    if setup.checkpoints is None:
        return BACKENDS[mode](setup.salt, setup.shapes, setup.store)
    assert setup.store is not None, "checkpoints come with one"
    if setup.resumed is None:
        return Resumable(setup.salt, setup.shapes, setup.store)
    last, values = setup.resumed
    return Resumable(setup.salt, setup.shapes, setup.store, last.evaluations, values)


def _observed(setup: Setup, backend: Backend) -> Progress | None:
    """What is done with every line of the learning curve: it is shown, a checkpoint may be due."""
    store, checkpoints, shown = setup.store, setup.checkpoints, setup.progress
    if checkpoints is None or store is None or not isinstance(backend, Resumable):
        return shown
    last = 0 if setup.resumed is None else setup.resumed[0].step

    def observe(line: Line) -> None:
        if shown is not None:
            shown(line)
        if line["step"] > last:
            checkpoints.after(line["step"], backend, store)

    return observe


def _finish(
    writer: RunWriter,
    head: dict[str, Json],
    session: Session[Any],  # Any: whatever the algorithm's settings
    failure: BaseException | None,
    summary: dict[str, Json],
) -> None:
    """Complete the folder; where that fails its manifest says so.

    Raises:
        RunFailed: it could not be completed; or ``failure``, where there was one before.
    """
    machine = session.machine
    ending = _ending(failure) | {"basis": [row._asdict() for row in machine.basis()]}
    used = {
        "gpu_peak_bytes": {gpu.name: gpu.peak_bytes for gpu in machine.gpus},
        "limits": [row._asdict() | {"share": row.share} for row in machine.limits()],
        "sizes": machine.sizes(),
    }
    last = {"last_key": session.theta.key.hex()}
    try:
        session.trace.close()  # where it was left before it could do so itself
        content = summary | ending | session.notes | used
        writer.finish(head | ending | last, writer.static_power(), content)
    except Exception as error:
        named = isinstance(error, HybridsimError | OSError | MemoryError)
        text = error if isinstance(error, HybridsimError) else text_of(error)
        failed = RunFailed(f"{writer.folder}: the results could not be completed: {text}")
        if not isinstance(error, Superseded):
            _tell(writer, failure or failed)
        raise failure or (failed if named else error) from error


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
