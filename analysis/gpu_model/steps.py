"""Whole steps on this computer, measured beside what a part file predicts.

    hybridsim calibrate --out runs/cpu
    python -m analysis.gpu_model.steps --part runs/cpu/part.yaml --out runs/steps.csv

The networks are none of those that ``hybridsim calibrate`` fits on. All pairs of network and
algorithm are visited in turn, round by round and each round in another order, so that drift of the
machine spreads over them. Of a hybrid algorithm the digital part alone is timed and predicted.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import hybridsim

NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {  # Any: a workload's options; batch size
    "small vit": (
        "vit",
        {"width": 8, "depth": 1, "mlp": 16, "train_size": 64, "test_size": 8},
        4,
    ),
    "small gnn": ("gnn", {"latent": 4, "train_size": 64, "test_size": 8}, 4),
    "vit": ("vit", {"width": 24, "depth": 2, "mlp": 48, "train_size": 64, "test_size": 8}, 8),
    "wider vit": ("vit", {"width": 64, "mlp": 128, "train_size": 64, "test_size": 8}, 16),
    "gnn": ("gnn", {"latent": 16, "train_size": 64, "test_size": 8}, 8),
    "wider gnn": ("gnn", {"latent": 48, "train_size": 64, "test_size": 8}, 16),
    "cifar mlp": (
        "mlp_cifar",
        {"depth": 3, "width": 48, "synthetic": True, "train_size": 128, "test_size": 16},
        8,
    ),
}
ALGORITHMS: dict[str, dict[str, Any]] = {  # Any: as a scenario file says it
    "sgd": {"kind": "sgd"},
    "adam": {"kind": "adam"},
    "muon": {"kind": "muon"},
    "kfac": {"kind": "kfac", "method": "digital", "damping": 0.1},
    "ngd": {"kind": "ngd", "method": "cholesky"},
    "ngd-cg": {"kind": "ngd", "method": "cg", "iterations": 10},
    "ngd-woodbury": {"kind": "ngd", "method": "woodbury"},
    "tngd": {"kind": "tngd", "damping": 0.1, "settle": "1 tau"},
}
ANALOG = {"link": "paper-50gbps", "spus": {"count": 1, "part": "rc-1us", "imperfections": "ideal"}}
STEPS = 3
ONLY_ON = {"ngd": ("small vit", "small gnn"), "ngd-cg": ("cifar mlp",)}
"""Networks of which a curvature of N x N fits; of which forward-mode derivatives are priced."""


class Pair(NamedTuple):
    """A network and an algorithm, by their names in the tables above."""

    network: str
    algorithm: str


class Step(NamedTuple):
    """A step of a pair: the median of all that were timed, the fastest and the slowest.

    Attributes:
        ratio: predicted / measured.
    """

    network: str
    algorithm: str
    launches: int
    measured_s: float
    low_s: float
    high_s: float
    predicted_s: float
    ratio: float


def scenario_of(pair: Pair, part: Path, device: str, threads: int) -> hybridsim.Scenario:
    """The scenario of a pair on a machine of this part."""
    source, options, batch = NETWORKS[pair.network]
    algorithm = {"learning_rate": 1e-3} | ALGORITHMS[pair.algorithm]
    machine: dict[str, Any] = {"gpu": {"part": str(part.resolve())}}  # Any: as a file says it
    machine |= ANALOG if algorithm["kind"] == "tngd" else {}
    return hybridsim.load(
        {
            "name": f"{pair.algorithm} on {pair.network}",
            "workload": {"source": source, "options": options},
            "training": {"batch_size": batch, "steps": STEPS, "algorithm": algorithm},
            "machine": machine,
            "host": {"device": device, "threads": threads},
        }
    )


def measured(
    pairs: Sequence[Pair], part: Path, rounds: int, device: str = "cpu", threads: int = 1
) -> list[Step]:
    """Every pair, ``rounds`` times ``STEPS`` steps of it.

    Raises:
        hybridsim.InputError: the part is none, or the device is not there.
    """
    scenarios = {pair: scenario_of(pair, part, device, threads) for pair in pairs}
    networks = {pair.network: scenario for pair, scenario in scenarios.items()}
    tasks = {name: hybridsim.load_task(scenario) for name, scenario in networks.items()}
    times: dict[Pair, list[tuple[float, float, int]]] = {pair: [] for pair in pairs}
    for number in range(rounds):
        for pair in random.Random(number).sample(list(pairs), len(pairs)):
            found = hybridsim.time_steps(scenarios[pair], STEPS, task=tasks[pair.network])
            times[pair] += [(one.measured_s, one.predicted_s, one.launches) for one in found]
    return [_step(pair, found) for pair, found in times.items()]


def _step(pair: Pair, found: Sequence[tuple[float, float, int]]) -> Step:
    seconds, predictions, launches = zip(*found, strict=True)
    median, predicted = statistics.median(seconds), statistics.median(predictions)
    ends = min(seconds), max(seconds)
    return Step(*pair, launches[0], median, *ends, predicted, predicted / median)


def errors(ratios: Iterable[float]) -> tuple[float, float]:
    """Median and 90th percentile of ``|predicted / measured - 1|``."""
    off = np.abs(np.asarray(list(ratios)) - 1)
    return float(np.median(off)), float(np.quantile(off, 0.9))


def lines(steps: Sequence[Step]) -> Iterable[str]:
    """Errors over all steps, and by algorithm and network."""
    yield _line("all", steps)
    for name in dict.fromkeys(step.algorithm for step in steps):
        yield _line(name, [step for step in steps if step.algorithm == name])
    for name in dict.fromkeys(step.network for step in steps):
        yield _line(name, [step for step in steps if step.network == name])


def _line(name: str, steps: Sequence[Step]) -> str:
    median, p90 = errors(step.ratio for step in steps)
    return f"{name}: median {median:.1%}, p90 {p90:.1%} of {len(steps)}"


def main() -> None:
    """Measure, print the table and the errors, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=Path, required=True, help="part file of this device")
    parser.add_argument("--out", type=Path, help="the table as CSV")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    pairs = [
        Pair(network, algorithm)
        for network in NETWORKS
        for algorithm in ALGORITHMS
        if network in ONLY_ON.get(algorithm, NETWORKS)
    ]
    steps = measured(pairs, given.part, given.rounds, given.device, given.threads)
    table = pd.DataFrame(steps)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for line in lines(steps):
        print(line)
    if given.out is not None:
        table.to_csv(given.out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
