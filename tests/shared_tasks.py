"""Workloads that tests share: each is loaded once in a process, as `load_task` allows."""

from __future__ import annotations

from hybridsim.scenario.schema import Scenario
from hybridsim.simulate import load_task
from hybridsim.tasks.task import Task

_loaded: dict[tuple[str, ...], Task] = {}


def task_of(scenario: Scenario) -> Task:
    """The task of a scenario without a target."""
    workload, precision = scenario.workload, scenario.training.precision
    key = (workload.source, repr(sorted(workload.options.items())), precision, scenario.host.device)
    if key not in _loaded:
        _loaded[key] = load_task(scenario)
    return _loaded[key]
