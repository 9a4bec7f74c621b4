"""Whole steps that are measured: small shipped networks under drawn options and algorithms."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any

from hybridsim.calibration.families import DTYPES, Case
from hybridsim.scenario.load import load
from hybridsim.scenario.schema import Scenario
from hybridsim.simulate import load_task
from hybridsim.tasks.task import Task

STEP = "step"
"""The family of whole steps."""
_NETWORKS: dict[str, dict[str, tuple[int, ...]]] = {
    "digits_mlp": {"hidden": (8, 16, 32, 64, 128, 256), "depth": (1, 2, 4, 6)},
    "digits_cnn": {"channels": (2, 4, 8, 16), "hidden": (8, 16, 32, 64)},
    "gpt": {
        "width": (8, 16, 32),
        "depth": (1, 2),
        "sequence": (4, 8),
        "train_size": (128,),
        "test_size": (8,),
    },
}
_BATCHES = (4, 8, 16, 32, 64)
_ALGORITHMS: dict[str, dict[str, Any]] = {  # Any: as a scenario file says it
    "sgd": {},
    "adam": {},
    "muon": {},
    "kfac": {"method": "digital", "damping": 0.1},
}


def draw_steps(number: int, seed: int) -> list[Case]:
    """The first ``number`` cases of a seed, all networks and algorithms in turn."""
    found = []
    for place in range(number):
        generator = random.Random(f"{seed} step {place}")
        algorithm = list(_ALGORITHMS)[place % len(_ALGORITHMS)]
        network = list(_NETWORKS)[place // len(_ALGORITHMS) % len(_NETWORKS)]
        options = {name: generator.choice(among) for name, among in _NETWORKS[network].items()}
        texts = [f"{name}={value}" for name, value in options.items()]
        shape = " ".join([network, *texts, f"batch={generator.choice(_BATCHES)}"])
        found.append(Case(STEP, algorithm, shape, generator.choice(DTYPES)))
    return found


def scenario_of(case: Case, device: str, threads: int, gpu: str = "host-cpu") -> Scenario:
    """The scenario of a step's case; ``gpu``: a part that has room for it."""
    network, *texts = case.shape.split(" ")
    options = {name: int(value) for name, value in (text.split("=") for text in texts)}
    batch = options.pop("batch")
    algorithm = {"kind": case.operator, "learning_rate": 1e-3, **_ALGORITHMS[case.operator]}
    return load(
        {
            "name": re.sub(r"\W+", "-", f"{case.operator} {case.shape}"),
            "workload": {"source": network, "options": options},
            "training": {
                "batch_size": batch,
                "steps": 1,
                "precision": case.dtype,
                "algorithm": algorithm,
            },
            "machine": {"gpu": gpu},
            "host": {"device": device, "threads": threads},
        }
    )


def task_of(case: Case, device: str) -> Task:
    """The workload of a step's case; those of the last few cases are kept."""
    return _task(case._replace(operator="sgd"), device)


@lru_cache(maxsize=32)
def _task(case: Case, device: str) -> Task:
    return load_task(scenario_of(case, device, 1))
