"""Runs that are killed at random instants, some again while they go on, end as if nothing had been;
so do runs in whose folders others try to begin meanwhile.

Run by ``make soak``; HYBRIDSIM_KILLS says how many (default 100), HYBRIDSIM_SEED where it begins.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from programs import PROGRAMS
from warm import ended, start

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
STEPS = 60
OTHERS = (("run", "{file}", "--out"), ("run", "{file}", "--force", "--out"), ("resume",))
SEEN: Counter[str] = Counter()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files of the programs made long, the digests that they end with, and how long they take."""
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
    yield found
    print(f"\n{dict(SEEN)}")


def begun(folder: Path, log: Path, *words: object) -> BaseProcess:
    """A command whose run has begun."""
    process = start(log, *words)
    deadline = time.monotonic() + 120
    while process.is_alive() and _writer(folder) != process.pid:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def _writer(folder: Path) -> int | None:
    try:
        return Run.open(folder).manifest.get("process", {}).get("pid")
    except hybridsim.InputError:
        return None


def left(process: BaseProcess, folder: Path, log: Path, by: signal.Signals, after_s: float) -> bool:
    """Send a signal so long after now; False: the run ended before."""
    process.join(after_s)
    if process.is_alive():
        os.kill(process.pid, by)
    code, printed = ended(process, log)
    assert "Traceback" not in printed, printed
    if code == 0:
        return False
    SEEN[by.name] += 1
    assert code == (-by if by == signal.SIGKILL else 130), printed
    expected = ("died",) if by == signal.SIGKILL else ("interrupted", "complete")
    assert Run.open(folder).status in (*expected, "complete"), printed
    return Run.open(folder).status != "complete"


@pytest.mark.parametrize("number", range(SEED, SEED + KILLS))
def test_a_killed_run_ends_as_one_that_was_not(number, whole, tmp_path):
    random_ = random.Random(number)
    name = NAMES[number % len(NAMES)]
    file, digest, length_s = whole[name]
    folder, log = tmp_path / "run", tmp_path / "log"
    words = ["run", file, "--out", folder, "--checkpoint", f"{random_.choice((1, 7))} steps"]
    by, after_s = signal.SIGKILL, random_.uniform(0, length_s)
    while left(begun(folder, log, *words), folder, log, by, after_s):
        by = random_.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        after_s = random_.choice((random_.uniform(0, length_s), 1000))
        if last_checkpoint(folder) is not None:
            words = ["resume", folder]
        elif "--force" not in words:
            words.append("--force")
    assert Run.open(folder).manifest["digest"] == digest
    assert not any(verdict.wrong for verdict in verify(folder))


@pytest.mark.parametrize("number", range(SEED, SEED + KILLS // 4))
def test_a_run_is_left_alone_by_those_that_come_meanwhile(number, whole, tmp_path):
    random_ = random.Random(number)
    file, digest, length_s = whole[NAMES[number % len(NAMES)]]
    folder, log = tmp_path / "run", tmp_path / "log"
    process = begun(folder, log, "run", file, "--out", folder, "--checkpoint", "2 steps")
    after_s = random_.uniform(0.3, 1) * length_s
    if number % 2 and left(process, folder, log, signal.SIGKILL, after_s):  # gone on with
        again = ["run", file, "--out", folder, "--force"]
        again = ["resume", folder] if last_checkpoint(folder) is not None else again
        process = begun(folder, log, *again)
    process.join(random_.uniform(0, length_s / 3))
    for other in random_.sample(OTHERS, 3):
        words = [word.format(file=file) for word in other]
        code, printed = ended(start(tmp_path / "other", *words, folder), tmp_path / "other")
        assert "Traceback" not in printed, printed
        if process.is_alive():
            SEEN[f"refused {other[0]}"] += 1
            assert code == 2 and "got " in printed
    assert ended(process, log)[0] == 0
    assert Run.open(folder).manifest["digest"] == digest
