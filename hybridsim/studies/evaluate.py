"""Evaluating points that may share numerics: one live run, the others from what it found."""

from __future__ import annotations

import contextlib
import shutil
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hybridsim.algorithms.session import Diverged
from hybridsim.dry import last_key
from hybridsim.errors import HybridsimError, InputError
from hybridsim.execute import Mode
from hybridsim.files import DiskFailed
from hybridsim.results.integrity import file_sha256
from hybridsim.results.read import Run
from hybridsim.scenario.schema import Scenario
from hybridsim.simulate import load_task, run
from hybridsim.studies.asked import Asked
from hybridsim.studies.drawing import Drawn, Draws, draw
from hybridsim.studies.outcome import Outcome, outcome_of, without_result
from hybridsim.studies.retiming import cost_signature, record
from hybridsim.studies.retiming.outcomes import outcomes
from hybridsim.tasks.task import Task

Backend = Literal["live", "timing"]
_MOST_TASKS = 4
"""Kept by a process: those used last."""
_WORTH_RECORDING = 2
"""A recording costs about one replay."""


class Evaluated(NamedTuple):
    """A point that has its outcome.

    Attributes:
        point: its id.
        outcome: of it.
        backend: of the study: ``live``, or ``timing``: nothing is trained.
        last_key: of the parameters that its run ended with (hex); empty where it did not end.
        workload: key of what was trained; empty where it could not be loaded.
        final: the same would come out again; else the next launch tries again.
        facts: name of the file below ``facts`` that its numbers came from; empty: none.
    """

    point: str
    outcome: Outcome
    backend: Backend
    last_key: str = ""
    workload: str = ""
    final: bool = True
    facts: str = ""


class Group(NamedTuple):
    """Points that are evaluated together, since they may share numerics.

    Attributes:
        name: of the group, one of its points.
        points: what is to be evaluated.
        backend: ``live``, or ``timing``: nothing is trained.
        gate: median relative error above which an analog answer is no solution.
        numerics: what they share: their last key (hex), or something else where it is not known.
        facts: name of a file below ``facts`` that may hold their facts; empty: none is known.
    """

    name: str
    points: tuple[Asked, ...]
    backend: Backend
    gate: float
    numerics: str
    facts: str = ""


class Keys(NamedTuple):
    """Points whose last key is asked for.

    Attributes:
        name: of the job.
        points: of which.
    """

    name: str
    points: tuple[Asked, ...]


class Keyed(NamedTuple):
    """The key of the parameters that a point ends with (hex), empty where it cannot be told."""

    point: str
    last_key: str


class Desk:
    """Where one process evaluates: its tasks, loaded once, and its facts.

    Args:
        scratch: a folder of its own.
        facts: where fact stores are published, whole and never changed again; None: nowhere.
        data: folder of external data sets.
    """

    def __init__(self, scratch: Path, facts: Path | None, data: str | None) -> None:
        self.scratch, self.facts, self.data = scratch, facts, data
        self._tasks: dict[tuple[str, ...], Task] = {}
        self._published: dict[Path, str] = {}

    def task(self, scenario: Scenario) -> Task:
        """The scenario's workload.

        Raises:
            InputError: it cannot be loaded.
        """
        workload = scenario.workload
        options = repr(sorted(workload.options.items()))
        key = (workload.source, options, scenario.training.precision, scenario.host.device)
        found = self._tasks.pop(key, None) or load_task(scenario, self.data)
        self._tasks[key] = found
        while len(self._tasks) > _MOST_TASKS:
            del self._tasks[next(iter(self._tasks))]
        return found

    def store(self, numerics: str, published: str) -> Path:
        """The place of a fact store of this process; filled already where one was published."""
        path = self.scratch / f"{numerics}.sqlite"
        if self.facts is None or not published or path.exists():
            return path
        with contextlib.suppress(OSError):
            shutil.copyfile(self.facts / published, path)
            if published == _published_name(path, published.partition("-")[0]):
                self._published[path] = published
            else:
                path.unlink()  # damaged: what it held is computed again
        return path

    def publish(self, store: Path, key: str) -> None:
        """Copy a fact store, which is closed, to where it is looked for by its last key."""
        if store.stem != key:
            shutil.copyfile(store, self.scratch / f"{key}.sqlite")
        if self.facts is None:
            return
        name = _published_name(store, key)
        if not (self.facts / name).exists():
            unfinished = self.facts / f"{name}.{uuid.uuid4().hex}.tmp"
            shutil.copyfile(store, unfinished)
            unfinished.replace(self.facts / name)
        self._published[store] = self._published[self.scratch / f"{key}.sqlite"] = name

    def published(self, store: Path) -> str:
        """Under which name others find it; empty: they do not."""
        return self._published.get(store, "")


def _published_name(store: Path, key: str) -> str:
    """Says key and content, so that what was damaged is seen."""
    return f"{key}-{file_sha256(store)[:16]}.sqlite"


def perform(job: Group | Keys | Draws, desk: Desk) -> Iterator[Evaluated | Keyed | Drawn]:
    """Whatever a job asks for, one after the other."""
    if isinstance(job, Draws):
        yield draw(job, desk)
    elif isinstance(job, Group):
        yield from evaluate(job, desk)
    else:
        yield from keys(job.points, desk)


def keys(points: Sequence[Asked], desk: Desk) -> Iterator[Keyed]:
    """The last key of each, by a timing-only pass; what cannot run is told by its evaluation."""
    for point in points:
        try:
            yield Keyed(point.id, last_key(point.scenario, desk.task(point.scenario)).hex())
        except Exception:
            yield Keyed(point.id, "")


def evaluate(group: Group, desk: Desk) -> Iterator[Evaluated]:
    """Every point of a group; whatever stops one becomes its outcome.

    The first is trained, and remembers facts. Those that cost constants alone set apart are retimed
    from one recording where that holds; all others replay the facts, which runs live where one is
    missing.
    """
    for family in _families(group.points):
        first, *others = family
        found = _evaluated(first, group, desk)
        yield found
        retimed: list[Evaluated | None] = [None] * len(others)
        if found.outcome.status == "ok" and len(others) >= _WORTH_RECORDING:
            retimed = _retimed(first, others, found, group, desk)
        for point, known in zip(others, retimed, strict=True):
            yield known or _evaluated(point, group, desk)


def _families(points: Sequence[Asked]) -> list[list[Asked]]:
    """Points that nothing but cost constants set apart stand together."""
    found: dict[str, list[Asked]] = {}
    for point in points:
        found.setdefault(cost_signature(point.scenario), []).append(point)
    return list(found.values())


def _evaluated(point: Asked, group: Group, desk: Desk) -> Evaluated:
    """The outcome of one run."""
    started = time.perf_counter()
    workload, loaded = "", False
    try:
        task = desk.task(point.scenario)
        workload, loaded = task.key, True
        result, published = _run(point.scenario, task, group, desk)
        outcome = outcome_of(result, group.gate)
        key = str(result.manifest.get("last_key", ""))
    except Exception as error:
        outcome = _of_error(error, time.perf_counter() - started)
        final = loaded and not _host(error)
        return Evaluated(point.id, outcome, group.backend, workload=workload, final=final)
    outcome = outcome._replace(wall_s=time.perf_counter() - started)
    return Evaluated(point.id, outcome, group.backend, key, workload, facts=published)


def _run(scenario: Scenario, task: Task, group: Group, desk: Desk) -> tuple[Run, str]:
    """One run, from facts where there are any; and the name of the facts that it left."""
    if group.backend == "timing":
        return run(scenario, backend="timing", task=task), ""
    store = desk.store(group.numerics, group.facts)
    mode: Mode = "replay" if store.is_file() else "live"
    result = run(scenario, backend=mode, facts=store, task=task)
    if result.summary["host"]["backend"] != "live":
        return result, desk.published(store)
    desk.publish(store, str(result.manifest["last_key"]))
    return result, desk.published(store)


def _retimed(
    first: Asked, others: Sequence[Asked], found: Evaluated, group: Group, desk: Desk
) -> list[Evaluated | None]:
    """What one recording says of the others; None: it does not hold for this one."""
    started = time.perf_counter()
    task = desk.task(first.scenario)
    store = desk.store(group.numerics, group.facts) if group.backend == "live" else None
    mode: Mode = "timing" if store is None else "replay"
    try:
        recording = record(first.scenario, task, store, mode)
        found_again = outcomes(recording, [p.scenario for p in others], found.outcome)
    except (HybridsimError, ValueError):  # a fact is missing, the program reads the clock
        return [None] * len(others)
    wall_s = (time.perf_counter() - started) / len(others)
    return [
        None
        if outcome is None
        else found._replace(point=point.id, outcome=outcome._replace(wall_s=wall_s))
        for point, outcome in zip(others, found_again, strict=True)
    ]


def _of_error(error: Exception, wall_s: float) -> Outcome:
    if isinstance(error, Diverged):
        return without_result("diverged", str(error), wall_s=wall_s)
    if isinstance(error, InputError):
        return without_result("refused", str(error), wall_s=wall_s)
    if isinstance(error, HybridsimError):
        return without_result("failed", str(error), wall_s=wall_s)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    return without_result("failed", text, wall_s=wall_s)


def _host(error: Exception) -> bool:
    """Whether the computer is to blame, not the scenario: another try may succeed."""
    causes = (error, error.__cause__)
    return any(isinstance(e, OSError | MemoryError | DiskFailed) for e in causes)
