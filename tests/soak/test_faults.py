"""A signal, or an error of the disk, at every operation on a file while a run is written, gone on
with and looked at: no traceback, no folder that lies, and the outcome of an undisturbed run.

Run by ``make soak``. At each operation comes one signal, one SIGKILL and one error, which ones is a
matter of HYBRIDSIM_SEED.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from faults import Fault
from outcomes import check_end, go_on
from programs import PROGRAMS, changed
from warm import ended, start

import hybridsim

SEED = int(os.environ.get("HYBRIDSIM_SEED", "0"))
EVERY = int(os.environ.get("HYBRIDSIM_FAULTS_EVERY", "1"))
SIGNALS = [(name, late) for name in ("SIGINT", "SIGTERM", "SIGHUP") for late in (False, True)]
ERRORS = [(name, lasting) for name in ("ENOSPC", "EIO") for lasting in (False, True)]
WORDS = {
    "run": ("run", "{file}", "--out", "{folder}"),
    "checkpoint": ("run", "{file}", "--out", "{folder}", "--checkpoint", "1 steps"),
    "replace": ("run", "{file}", "--out", "{folder}", "--force"),
    "resume": ("resume", "{folder}"),
    "report": ("report", "{folder}"),
    "timeline": ("timeline", "{folder}"),
    "perfetto": ("timeline", "{folder}", "--format", "perfetto"),
    "compare": ("compare", "{folder}", "--out", "{folder}/page.html"),
}
BEFORE = {"replace": "whole", "resume": "left", "run": None, "checkpoint": None}


class Places(NamedTuple):
    """The scenario, what its run ends with, and folders of a whole run and of one that was left."""

    scenario: hybridsim.Scenario
    file: Path
    digest: str
    folder: Path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    scenario = hybridsim.load(changed(PROGRAMS["tngd-asynchronous"], "training.steps", 3))
    file = folder / "s.yaml"
    file.write_text(scenario.to_yaml())
    digest = hybridsim.run(scenario, folder / "whole", checkpoint="2 steps").manifest["digest"]

    def leave(line):
        if line["step"] == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        hybridsim.run(scenario, folder / "left", checkpoint="2 steps", progress=leave)
    return Places(scenario, file, digest, folder)


def once(name: str, places: Places, folder: Path, fault: Fault) -> tuple[int, str]:
    """One command, on a folder as it should be before."""
    shutil.rmtree(folder, ignore_errors=True)
    before = BEFORE.get(name, "whole")
    if before is not None:
        shutil.copytree(places.folder / before, folder)
    log = folder.with_name("log")
    words = [word.format(file=places.file, folder=folder) for word in WORDS[name]]
    return ended(start(log, *words, fault=fault), log)


def faults(folder: Path, number: int) -> Iterator[Fault]:
    """What happens at one operation."""
    signal, late = SIGNALS[(number + SEED) % len(SIGNALS)]
    error, lasting = ERRORS[(number + SEED) % len(ERRORS)]
    yield Fault(folder, number, signal, late=late)
    yield Fault(folder, number, "SIGKILL", late=late)
    yield Fault(folder, number, error, lasting=lasting)


@pytest.mark.parametrize("name", WORDS)
def test_whatever_happens_at_any_operation_on_a_file(name, places, tmp_path):
    folder, count = tmp_path / "run", tmp_path / "count"
    found = once(name, places, folder, Fault(folder, count=count))
    assert found[0] == 0, found[1]
    operations = count.read_text().splitlines()
    last = len(operations)
    for number in range(1 + SEED % EVERY, last + 1, EVERY):
        for fault in faults(folder, number):
            code, printed = once(name, places, folder, fault)
            try:
                before = "interrupted" if name == "resume" else None
                check_end(folder, code, printed, fault, before)
                run = go_on(folder, places.scenario)
                assert run.status == "complete" and run.manifest["digest"] == places.digest
            except Exception as error:
                raise AssertionError(f"{fault}\n{operations[number - 1]}\n{printed}") from error
    print(f"{name}: {last} operations")
