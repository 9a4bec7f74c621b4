"""A run on a disk that gets full says so; with room again it goes on to the undisturbed outcome.

Run by ``make soak`` as root (a small disk in memory is mounted); HYBRIDSIM_FULL says how many runs,
HYBRIDSIM_SEED where they begin.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter

import pytest
from outcomes import go_on
from programs import PROGRAMS
from warm import ended, start

import hybridsim
from hybridsim.results.read import Run
from hybridsim.results.verify import verify

COUNT = int(os.environ.get("HYBRIDSIM_FULL", "25"))
SEED = int(os.environ.get("HYBRIDSIM_SEED", "0"))
NAMES = ("tngd", "tngd-asynchronous", "kfac-stale", "kfac-4-gpus", "adam")
DISK_BYTES = 64 << 20
SEEN: Counter[str] = Counter()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files of the programs made long, the digests that they end with, and the bytes they take."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for name in NAMES:
        document = PROGRAMS[name] | {"seed": 5}
        document["training"] |= {"steps": 40, "evaluate_every": 20}
        file = folder / f"{name}.yaml"
        file.write_text(hybridsim.load(document).to_yaml())
        run = hybridsim.run(hybridsim.load(file), folder / name, checkpoint="1 steps")
        sizes = (path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
        found[name] = (file, run.manifest["digest"], sum(sizes))
    yield found
    print(f"\n{dict(SEEN)}")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root mounts a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk, room_bytes: int) -> None:
    """Leave so much room; the file that takes the rest may be removed."""
    found = os.statvfs(disk)
    with (disk / "filled").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - room_bytes)


@pytest.mark.parametrize("number", range(SEED, SEED + COUNT))
def test_a_full_disk_is_said_and_gone_on_from(number, whole, disk, tmp_path):
    random_ = random.Random(number)
    name = NAMES[number % len(NAMES)]
    file, digest, size_bytes = whole[name]
    folder, log = disk / "run", tmp_path / "log"
    words = ["run", file, "--out", folder, "--checkpoint", "1 steps"]
    for _ in range(random_.choice((1, 2))):  # the second time, while it goes on
        fill(disk, int(random_.uniform(0, 1.2) * size_bytes))
        code, printed = ended(start(log, *words), log)
        assert "Traceback" not in printed and "nobody foresaw" not in printed, printed
        (disk / "filled").unlink()
        if not (folder / "manifest.json").exists():
            SEEN["never begun"] += 1
            assert code == 1, printed
            continue
        run = Run.open(folder)
        SEEN[f"{run.status}, exit {code}"] += 1
        assert len(run.steps) == run.summary["steps"]
        assert not any(verdict.wrong for verdict in verify(folder))
        if code == 0:
            break
        assert code == 1 and "No space left" in printed.splitlines()[-1], printed
        assert run.status in ("failed", "died", "complete")
        if run.status == "failed":
            assert "No space left" in run.manifest["reason"] or "about to" in run.manifest["reason"]
        if run.status == "complete":  # there was no room for its report
            break
        again = [*words[:6], "--force"]
        words = ["resume", folder] if (folder / "checkpoint/last.json").exists() else again
    found = go_on(folder, hybridsim.load(file))
    assert found.manifest["digest"] == digest
