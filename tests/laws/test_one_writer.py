"""A folder belongs to the run that is under way in it; whoever comes meanwhile is told so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from programs import PROGRAMS
from shared_tasks import task_of

import hybridsim
from hybridsim.errors import InputError
from hybridsim.results import alive
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter

BUSY = "expected a folder without a run under way, got one where process"
HOLD = """
import pathlib, sys
from hybridsim.results.alive import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
    pass
"""


@pytest.fixture
def scenario():
    return hybridsim.load(PROGRAMS["tngd"])


def test_a_run_that_is_under_way_is_left_alone_and_ends_as_it_would(scenario, live, tmp_path):
    folder, refused = tmp_path / "run", []

    def others(line) -> None:
        for force in (False, True):
            for checkpoint in (None, "1 steps"):
                with pytest.raises(InputError, match=BUSY if force else "got "):
                    hybridsim.run(
                        scenario, folder, force=force, checkpoint=checkpoint, task=task_of(scenario)
                    )
        with pytest.raises(InputError, match=f"{BUSY} {os.getpid()} is running one|no checkpoint"):
            hybridsim.resume(folder)
        refused.append(line["step"])

    task = task_of(scenario)
    found = hybridsim.run(scenario, folder, checkpoint="2 steps", progress=others, task=task)
    assert refused == [1, 2, 3, 4]
    assert found.manifest["digest"] == live("tngd")[0].manifest["digest"]


def test_a_run_that_is_gone_on_with_is_left_alone_too(scenario, live, tmp_path):
    folder = tmp_path / "run"

    def leave(line) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        hybridsim.run(scenario, folder, checkpoint="1 steps", progress=leave)

    def others(line) -> None:
        for go in (hybridsim.resume, lambda to: hybridsim.run(scenario, to, force=True)):
            with pytest.raises(InputError, match=BUSY):
                go(folder)

    found = hybridsim.resume(folder, progress=others)
    assert found.manifest["digest"] == live("tngd")[0].manifest["digest"]


def test_another_process_is_refused_while_a_folder_is_held(tmp_path):
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with alive.alone_in(tmp_path):
        held = subprocess.run(words, capture_output=True, text=True)
    free = subprocess.run(words, capture_output=True, text=True)
    assert "another process is running one" in held.stderr and free.returncode == 0


def test_where_there_are_no_locks_the_manifest_is_believed(tmp_path, monkeypatch):
    def without(number, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(alive.fcntl, "flock", without)
    writer = RunWriter(tmp_path / "run")
    with alive.alone_in(tmp_path / "run"):
        pass  # its own
    init = {"pid": 1, "started": alive._started(1), **alive._place()}
    writer._process = init
    writer.manifest({"status": "running"})
    with (
        pytest.raises(InputError, match=f"{BUSY} 1 is running one"),
        alive.alone_in(tmp_path / "run"),
    ):
        pass
    writer.manifest({"status": "failed"})
    with alive.alone_in(tmp_path / "run"):
        pass


def test_a_run_that_could_not_say_how_it_ended_is_gone_on_with_in_the_same_process(
    scenario, live, tmp_path
):
    """As in a notebook whose disk was full: its process is there still."""
    folder = tmp_path / "run"

    def leave(line) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        hybridsim.run(scenario, folder, checkpoint="1 steps", progress=leave)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    writer = RunWriter(tmp_path / "other")
    writer.folder = folder
    writer.manifest(manifest | {"status": "running"})
    assert Run.open(folder).status == "running"
    assert hybridsim.resume(folder).manifest["digest"] == live("tngd")[0].manifest["digest"]
