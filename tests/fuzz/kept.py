"""Damaged folders that are gone on with or checked, damaged studies and users' workloads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from mutations import damaged_bytes, damaged_text, damaged_tree

import hybridsim
from hybridsim.results.read import Run
from hybridsim.studies.load import shipped_studies

Command = Callable[..., tuple[int, str, str]]
WORKLOAD = """import torch
from torch import nn
from hybridsim import Data, Workload

class Network(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x):
        return self.layers(x)

def build(hidden: int = 4):
    x = torch.randn(60, 3)
    y = (x.sum(1) > 0).long()
    return Workload(lambda: Network(hidden), Data(x[:40], y[:40], x[40:], y[40:]), "cross_entropy")
"""
STUDY = {
    "name": "small",
    "set": {"training.steps": 2},
    "backend": "timing",
    "axes": [{"field": "machine.link.bandwidth", "grid": ["1 Gb/s", "40 Gb/s"]}],
    "seeds": [1],
    "question": {"kind": "table", "measure": "step_seconds"},
}


class Kept:
    """Folders that are copied before they are damaged: a run that was left, and a study."""

    def __init__(self, folder: Path) -> None:
        self.small = folder / "small.yaml"

        def leave(line: Any) -> None:
            if line["step"] == 3:
                raise KeyboardInterrupt

        self.left = folder / "left"
        with suppress(KeyboardInterrupt):
            hybridsim.run(
                hybridsim.load(self.small), self.left, checkpoint="1 steps", progress=leave
            )
        self.document = STUDY | {"base": str(self.small)}
        self.study = folder / "study"


def damage_a_file(random: Random, folder: Path) -> Path:
    """One file of a folder is gone, or another."""
    damaged = random.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    content = damaged.read_bytes()
    if random.random() < 0.1:
        damaged.unlink()
    elif damaged.suffix == ".json" and random.random() < 0.6:
        damaged.write_text(json.dumps(damaged_tree(random, json.loads(content))))
    else:
        damaged.write_bytes(damaged_bytes(random, content))
    return damaged


def resumed(random: Random, place: Any, command: Command) -> int:
    """A damaged run that was left goes on to the undisturbed outcome, or not at all."""
    run = Path(shutil.copytree(place.kept.left, "left"))
    scenario = run / "scenario.yaml"
    asked = scenario.read_text()
    damage_a_file(random, run)
    same = scenario.is_file() and scenario.read_bytes() == asked.encode()
    code = command("resume", run, expected=(0, 1, 2))
    assert code != 0 or not same or Run.open(run).manifest["digest"] == place.digest
    with suppress(hybridsim.InputError):
        assert (Run.open(run).status == "complete") == (code == 0)
        assert Run.open(run).status != "running"
    return code


def checked(random: Random, place: Any, command: Command) -> int:
    """A damaged file of a run that has ended is found; a list of runs says what can be said."""
    run = Path(shutil.copytree(random.choice((place.run, place.unfinished, place.kept.left)), "r"))
    manifest = json.loads((run / "manifest.json").read_text())
    damaged = damage_a_file(random, run)
    assert command("runs", ".", expected=(0,)) == 0
    code = command("verify", run, expected=(0, 1, 2))
    covered = damaged.name in manifest.get("files_sha256", {})
    assert code != 0 or not covered, damaged
    return code


def study(random: Random, place: Any, command: Command) -> int:
    """A damaged study is checked, or run where it is small: what is a success has its table."""
    if random.random() < 0.6:
        text = shipped_studies()[random.choice(sorted(shipped_studies()))].read_text()
        Path("s.yaml").write_bytes(damaged_text(random, text).encode(errors="surrogatepass"))
        return command("study", "s.yaml", "--check", "--out", "out", expected=(0, 2))
    document = damaged_tree(random, place.kept.document)
    if isinstance(document.get("set"), dict) and "training.steps" in document["set"]:
        document["set"]["training.steps"] = 2  # a million steps take what they take
    Path("s.yaml").write_text(json.dumps(document))
    code = command("study", "s.yaml", "--out", "out", expected=(0, 1, 2))
    assert code != 0 or (Path("out") / "points.parquet").is_file()
    return code


def study_folder(random: Random, place: Any, command: Command) -> int:
    """A study goes on in its damaged folder, and has the answer that it had."""
    kept = place.kept
    Path("s.yaml").write_text(json.dumps(kept.document))
    if not kept.study.exists():
        assert command("study", "s.yaml", "--out", kept.study, expected=(0,)) == 0
    out = Path(shutil.copytree(kept.study, "out"))
    damage_a_file(random, out)
    code = command("study", "s.yaml", "--out", out, expected=(0, 1, 2))
    if code == 0:
        before, after = (json.loads((p / "study.json").read_text()) for p in (kept.study, out))
        assert before["answer"] == after["answer"]
    return code


def workload(random: Random, place: Any, command: Command) -> int:
    """A damaged workload is run: what is a success has a complete run folder."""
    Path("mine.py").write_bytes(damaged_text(random, WORKLOAD).encode(errors="surrogatepass"))
    document = json.loads(json.dumps(place.small)) | {"workload": {"source": "mine.py"}}
    Path("s.yaml").write_text(json.dumps(document))
    code = command("run", "s.yaml", "--out", "run", expected=(0, 1, 2))
    complete = Path("run").is_dir() and Run.open("run").status == "complete"
    assert complete == (code == 0)
    return code


CASES = {
    "resumed": resumed,
    "checked": checked,
    "study": study,
    "study folder": study_folder,
    "workload": workload,
}
