"""Runs that are killed at random instants, some again while they go on, end as if nothing had been.

Run by ``make soak``; HYBRIDSIM_KILLS says how many (default 100), HYBRIDSIM_SEED where it begins.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import PROGRAMS

import hybridsim
from hybridsim.checkpoints import last_checkpoint
from hybridsim.results.read import Run
from hybridsim.results.verify import verify

KILLS = int(os.environ.get("HYBRIDSIM_KILLS", "100"))
SEED = int(os.environ.get("HYBRIDSIM_SEED", "0"))
NAMES = (
    "tngd", "tngd-asynchronous", "tngd-asynchronous-pipelined", "kfac-stale", "kfac-4-gpus",
    "kfac-digital-4-gpus", "adam", "soap",
)  # fmt: skip
STEPS = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files of the programs made long, and the digests that they end with."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for name in NAMES:
        document = PROGRAMS[name] | {"seed": 7}
        document["training"] |= {"steps": STEPS, "evaluate_every": 50}
        file = folder / f"{name}.yaml"
        file.write_text(hybridsim.load(document).to_yaml())
        began = time.perf_counter()
        run = hybridsim.run(hybridsim.load(file), folder / name)
        found[name] = (file, run.manifest["digest"], time.perf_counter() - began)
    return found


def killed(words: list[str], folder: Path, after_s: float) -> bool:
    """Start a command and kill it so long after its run has begun; False: it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridsim", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not _begun(folder, process.pid) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0
    return False


def _begun(folder: Path, pid: int) -> bool:
    try:
        return bool(Run.open(folder).manifest.get("process", {}).get("pid") == pid)
    except hybridsim.InputError:
        return False


@pytest.mark.parametrize("number", range(SEED, SEED + KILLS))
def test_a_killed_run_ends_as_one_that_was_not(number, whole, tmp_path):
    random_ = random.Random(number)
    name = NAMES[number % len(NAMES)]
    file, digest, length_s = whole[name]
    folder = tmp_path / "run"
    words = [
        "run",
        str(file),
        "--out",
        str(folder),
        "--checkpoint",
        f"{random_.choice((1, 7))} steps",
    ]
    alive = not killed(words, folder, random_.uniform(0, length_s))
    while not alive:
        assert Run.open(folder).status == "died"
        if last_checkpoint(folder) is None:
            alive = not killed([*words, "--force"], folder, 1000)
        else:
            again_s = random_.choice((random_.uniform(0, length_s), 1000))
            alive = not killed(["resume", str(folder)], folder, again_s)
    assert Run.open(folder).manifest["digest"] == digest
    assert not any(verdict.wrong for verdict in verify(folder))
