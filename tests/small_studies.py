"""Small studies whose points take a fraction of a second, and what is held against each other."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import hybridsim
from hybridsim import cli
from hybridsim.scenario.emit import emit
from hybridsim.studies.collect.base import Pool, Progress, Settings
from hybridsim.studies.collect.collector import Collector
from hybridsim.studies.collect.here import Here
from hybridsim.studies.collect.local import LocalWorkers
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.folder import Folder
from hybridsim.studies.outcome import outcome_of
from hybridsim.studies.points import points_of
from hybridsim.studies.schema import Study
from hybridsim.studies.table import table_of

WORKLOAD = {"source": "digits_mlp", "options": {"hidden": 4, "depth": 1}}
TNGD = {"kind": "tngd", "learning_rate": 0.2, "damping": 0.1, "settle": "20 tau"}
KFAC = {"kind": "kfac", "learning_rate": 0.05, "damping": 0.1, "settle": "5 tau"}
ADAM = {"kind": "adam", "learning_rate": 0.01}
MACHINE = {
    "gpu": "a100-sxm4-80gb",
    "link": "paper-50gbps",
    "spus": {"count": 2, "part": "rc-1us", "imperfections": "ideal"},
}
SLOW = """
import time
import torch
from torch import nn
from hybridsim import Data, Workload

class Slow(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.inner, self.seconds = nn.Linear(3, 2), seconds

    def forward(self, x):
        if x.device.type != "meta":
            time.sleep(self.seconds)
        return self.inner(x)

def build(seconds: float = 0.02):
    x, y = torch.randn(60, 3), torch.randint(2, (60,))
    data = Data(x[:40], y[:40], x[40:], y[40:])
    return Workload(network=lambda: Slow(seconds), data=data, loss="cross_entropy")
"""
"""A network that takes its time, so that a test can meet it at work."""


def scenario(
    path: Path, algorithm: dict[str, Any], machine: dict[str, Any], **training: Any
) -> str:
    """A small scenario's file."""
    document = {
        "name": path.stem,
        "workload": training.pop("workload", WORKLOAD),
        "training": {"batch_size": 4, "steps": 4, "evaluate_every": 2, "algorithm": algorithm}
        | training,
        "machine": machine,
    }
    path.write_text(emit(document))
    return str(path)


def tngd(folder: Path, **training: Any) -> str:
    """TNGD on two SPUs."""
    return scenario(folder / "tngd.yaml", TNGD, MACHINE, **training)


def adam(folder: Path, **training: Any) -> str:
    """Adam on a GPU."""
    return scenario(folder / "adam.yaml", ADAM, {"gpu": "a100-sxm4-80gb"}, **training)


def document(scenarios: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A study of these sides that asks for its table."""
    return {"name": "test", "scenarios": scenarios, "question": {"kind": "table"}} | changes


def slow_study(folder: Path, points: int = 4, seconds: float = 0.02) -> Path:
    """A study file of so many live points, some of which share numerics with a retimed one."""
    (folder / "slow.py").write_text(SLOW)
    workload = {"source": str(folder / "slow.py"), "options": {"seconds": seconds}}
    study = document(
        {"tngd": tngd(folder, workload=workload, steps=4)},
        seeds=points,
        axes=[{"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "50 Gb/s"]}],
    )
    (folder / "study.yaml").write_text(emit(study))
    return folder / "study.yaml"


def evaluated(
    study: Study,
    out: Path,
    workers: int = 0,
    place: Callable[[Path], Pool] | None = None,
    watch: Callable[[Progress, Pool], object] = lambda progress, pool: None,
) -> pd.DataFrame:
    """The table of a study's points, without the question and the page."""
    folder, points = Folder(out), points_of(study)
    if place is not None:
        pool = place(folder.facts)
    else:
        scratch = tempfile.TemporaryDirectory()
        desk = Desk(Path(scratch.name), folder.facts, None)
        pool = LocalWorkers(workers, folder.facts, None) if workers else Here(desk)
    shared = Settings(study.backend, study.gate.solver_error)
    collector = Collector(folder, pool, shared, lambda progress: watch(progress, pool))
    try:
        outcomes = collector.outcomes(points)
    finally:
        collector.close()
    return table_of(points, outcomes, fields(study))


def each_alone(study: Study) -> pd.DataFrame:
    """The same table, every point run by itself."""
    outcomes, points = {}, points_of(study)
    for point in points:
        if point.id not in outcomes:
            run = hybridsim.run(point.scenario, backend=study.backend)
            outcomes[point.id] = outcome_of(run, study.gate.solver_error)
    return table_of(points, outcomes, fields(study))


def fields(study: Study) -> list[str]:
    """What its axes vary."""
    return [field for axis in study.axes for field in axis.fields]


_HOST = ["how", "digest", "wall_s"]


def assert_same_points(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same table to the last bit, however each point came about."""
    kept = [name for name in expected.columns if name not in _HOST]
    pd.testing.assert_frame_equal(found[kept], expected[kept], check_exact=True, check_dtype=False)


def computed(folder: Path) -> Counter[str]:
    """How often each point was computed, by all launches on a folder."""
    lines = (line for log in (folder / "log").glob("*.jsonl") for line in log.open())
    return Counter(next(iter(json.loads(line).values())) for line in lines)


class Launch:
    """A launch of a study in a process of its own: a copy of this one, so that nothing is imported
    again.
    """

    def __init__(self, out: Path, work: Callable[[], object]) -> None:
        self._said = out.with_name(f"{out.name}.said")
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                said = os.open(self._said, os.O_WRONLY | os.O_CREAT)
                os.dup2(said, 1)
                os.dup2(said, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                torch.set_num_threads(1)
                work()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def ended(self) -> tuple[int, str]:
        """Exit code (or minus the signal), and what it has said, when it has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self._said.read_text()


def command(*words: object) -> None:
    """The command line in a process of its own."""
    sys.argv = ["hybridsim", *map(str, words)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
