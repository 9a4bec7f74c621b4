"""The arrow of the design as one function: scenario -> machine + program + task -> trace + history
-> run folder.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hybridsim.algorithms.session import Progress
from hybridsim.attempt import write_resumable, write_run
from hybridsim.checkpoints import (
    every_of,
    last_checkpoint,
    values_of,
)
from hybridsim.dry import check_capacity
from hybridsim.errors import InputError
from hybridsim.execute import Mode, setup_of
from hybridsim.operations.facts import FactStore
from hybridsim.operations.keys import salt
from hybridsim.operations.resumed import NotResumable
from hybridsim.results.alive import this_process
from hybridsim.results.read import Run
from hybridsim.scenario.load import load
from hybridsim.scenario.quantity import QuantityError, parse_quantity
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.workload_options import check_options
from hybridsim.tasks.device import check_device, on_host
from hybridsim.tasks.task import LARGE, Task, load_workload


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
    checkpoint: str | None = None,
    facts_limit: str | None = None,
) -> Run:
    """Simulate a scenario and write its run folder.

    Args:
        scenario: what to simulate.
        out: run folder; without it a temporary one that lives as long as the returned object.
        backend: ``live`` trains with tensors; ``timing`` gives the schedule alone; ``replay`` takes
            facts from the store; where one is missing it computes what that needs, from the values
            of a checkpoint beside it if there is one (``summary["host"]["replay_missing"]`` says
            so).
        facts: the fact store (sqlite); live runs fill it, a replay needs it.
        force: replace an existing run folder.
        progress: called with every line of the learning curve.
        data: folder of external data sets, for workloads that need one (default:
            ``HYBRIDSIM_DATA``).
        task: what ``load_task`` gave for a scenario with the same workload, precision and host
            device, so that many runs load a large network once; ``data`` is then not used.
        checkpoint: how often a live run keeps what ``resume`` needs: ``50 steps``, ``30 s``.
        facts_limit: what the fact store may hold, e.g. ``2 GB``; the oldest facts give way.

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
    folder, every = Path(out), None if checkpoint is None else every_of(checkpoint)
    if every is not None and (backend != "live" or facts is not None):
        raise InputError(
            "--checkpoint: expected a live run without --facts: it keeps its own facts"
        )
    if facts_limit is not None and facts is None:
        raise InputError("--facts-limit: expected a fact store (--facts FILE), got none")
    limit_bytes = math.inf if facts_limit is None else _bytes_of(facts_limit)
    with on_host(scenario.host.device, scenario.host.threads), contextlib.ExitStack() as stack:
        store = FactStore(facts, limit_bytes=limit_bytes) if facts is not None else None
        if store is not None:
            stack.callback(store.close)
        if task is None:
            task = load_task(scenario, data, backend=backend)
        else:
            task = _checked(task, scenario, backend)
        setup = setup_of(scenario, task, store, progress)
        check_capacity(setup, backend)
        if every is None:
            write_run(setup, folder, force or temporary is not None, backend)
        else:
            write_resumable(setup, folder, force or temporary is not None, every)
    result = Run.open(folder)
    result.temporary = temporary
    return result


def _bytes_of(text: str) -> float:
    try:
        found = parse_quantity(text, "B")
        if found > 0:
            return found
        got = repr(text)
    except QuantityError as error:
        got = error.got
    raise InputError(f"--facts-limit: expected bytes, e.g. '2 GB', got {got}")


def resume(
    folder: Path | str,
    *,
    progress: Progress | None = None,
    data: Path | str | None = None,
) -> Run:
    """Go on with a live run that was left, from its last checkpoint; the outcome is that of a run
    that was not, to the bit. What was done before is replayed from facts.

    Args:
        folder: the run folder.
        progress: called with every line of the learning curve, also of what is replayed.
        data: folder of external data sets; see ``run``.

    Raises:
        InputError: there is nothing to go on with: the run is complete or still running, or was
            run without checkpoints.
        NotResumable: code, libraries or processor are others than the run's.
        HybridsimError, KeyboardInterrupt: see ``run``.
    """
    before = Run.open(folder)
    found = last_checkpoint(before.folder)
    elsewhere = before.status == "running" and before.manifest.get("process") != this_process()
    if before.status == "complete" or elsewhere or found is None:
        got = f"one that is {before.status}" if found is not None else "no checkpoint"
        raise InputError(f"{before.folder}: expected a run to go on with, got {got}")
    scenario = load(before.folder / "scenario.yaml")
    numerics = salt(scenario.host.device, scenario.host.threads).hex()
    if numerics != found.numerics:
        raise NotResumable(
            f"{before.folder}: expected the code, libraries and processor that the run had, got "
            "others: its numbers would be others"
        )
    values = values_of(before.folder, found)
    with on_host(scenario.host.device, scenario.host.threads):
        setup = setup_of(scenario, load_task(scenario, data), None, progress)
        kept = replace(setup, resumed=(found, values))
        write_resumable(kept, before.folder, True, every_of(found.every))
    return Run.open(before.folder)


def load_task(
    scenario: Scenario, data: Path | str | None = None, *, backend: Mode = "live"
) -> Task:
    """The workload of a scenario, on the scenario's host device and in its precision.

    Args:
        scenario: the scenario.
        data: folder of external data sets; see ``run``.
        backend: what it is for. For ``timing`` a network of more than 10 million parameters is
            made of shapes alone, and nothing of its size is allocated; its keys are then not those
            of a live run.

    Raises:
        InputError: the device is not there; the workload cannot be loaded, does not compute in this
            precision, or has no such target.
    """
    check_device(scenario.host.device)
    check_options(scenario)
    folder = str(data) if data is not None else os.environ.get("HYBRIDSIM_DATA")
    workload = scenario.workload
    above = LARGE if backend == "timing" else None
    task = load_workload(workload.source, dict(workload.options), folder, shapes_above=above)
    device = "meta" if task.is_meta else scenario.host.device
    task = task.to(device, getattr(torch, scenario.training.precision))
    return _checked(task, scenario, backend)


def _checked(task: Task, scenario: Scenario, backend: Mode) -> Task:
    """The task, once it is known to be this scenario's and to have its target.

    Raises:
        InputError: it was loaded for another workload, precision or device, or has no such target.
    """
    workload, target = scenario.workload, scenario.training.target
    timed = backend == "timing" and task.is_meta  # shapes are on no device
    device = scenario.host.device if timed else task.data.train_x.device.type
    asked = {
        "workload.source": (workload.source, task.name),
        "workload.options": (_sorted(workload.options), _sorted(task.options)),
        "training.precision": (f"torch.{scenario.training.precision}", str(task.dtype)),
        "host.device": (scenario.host.device, device),
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
