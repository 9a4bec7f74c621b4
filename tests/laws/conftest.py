"""Each program runs once, for all laws."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from programs import PROGRAMS
from shared_tasks import task_of

import hybridsim


def simulate(document: dict[str, Any], out: Path, **options: Any):
    scenario = hybridsim.load(document)
    return hybridsim.run(scenario, out, force=True, task=task_of(scenario), **options)


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """The live run of a program by name, and its fact store; each program runs once."""

    @functools.cache
    def ran(name: str):
        folder = tmp_path_factory.mktemp(name)
        facts = folder / "facts.sqlite"
        return simulate(PROGRAMS[name], folder / "run", facts=facts), facts

    return ran


@pytest.fixture(scope="session", params=sorted(PROGRAMS))
def program(request, live):
    """(name, scenario document, live run, its fact store)."""
    return request.param, PROGRAMS[request.param], *live(request.param)
