"""What the MNIST claims share: the reduced setting, one run and its learning curve, the result
file.

The paper (TNGD, arXiv 2405.13817): b = 64, ten epochs of 10,000 images (1,560 steps), five seeds, a
CNN of unpublished widths. Here, unless a claim says otherwise: b = 32, 4 + 32 channels and hidden
units (N = 5,074), four seeds, and the number of steps that each script states. Learning rates,
damping, settling times and data are the paper's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import hybridsim
from analysis.papers import exact_gradient, sweep
from analysis.papers.sweep import Fields, Variant

SEEDS = (0, 1, 2, 3)
BATCH_SIZE, EVERY = 32, 52
LAST = 52  # training losses are averaged over this many steps at the end
REDUCED: Fields = {
    "training.batch_size": BATCH_SIZE,
    "workload.options.channels": 4,
    "workload.options.hidden": 32,
}
IDEAL: Fields = {f"machine.spus.{side}_bits": "ideal" for side in ("input", "bias", "output")}
SETTLE = "training.algorithm.settle"
RATE = DAMPING = 0.01


@dataclass(frozen=True)
class Curve:
    """One run: ``train_loss`` per step, the rest at evaluated steps; simulated seconds and joules
    from the start.
    """

    setting: str
    seed: int
    digest: str | None
    train_loss: list[float]
    step: list[int]
    test_loss: list[float]
    test_accuracy: list[float]
    seconds: list[float]
    joules: list[float]

    @property
    def late_train_loss(self) -> float:
        """Mean over the last steps of the loss on the batch at hand."""
        return sum(self.train_loss[-LAST:]) / len(self.train_loss[-LAST:])

    @property
    def mean_train_loss(self) -> float:
        """Area under the training-loss curve, per step."""
        return sum(self.train_loss) / len(self.train_loss)

    def measures(self) -> dict[str, float]:
        """What runs are compared by."""
        return {
            "test_loss": self.test_loss[-1],
            "test_accuracy": self.test_accuracy[-1],
            "late_train_loss": self.late_train_loss,
            "mean_train_loss": self.mean_train_loss,
        }

    def row(self) -> dict[str, Any]:
        """For the result file: everything but the losses step by step."""
        kept = {k: v for k, v in asdict(self).items() if k != "train_loss"}
        return kept | {
            "late_train_loss": self.late_train_loss,
            "mean_train_loss": self.mean_train_loss,
        }


def simulate(
    given: argparse.Namespace,
    variants: Mapping[str, Variant],
    every: int = EVERY,
    seeds: Sequence[int] = SEEDS,
) -> list[Curve]:
    """The curves of all seeds, variants named like their settings.

    Raises:
        ValueError: a run has no curve.
    """
    evaluated = {"training.evaluate_every": every}
    sides = {name: Variant(v.scenario, v.fields | evaluated) for name, v in variants.items()}
    return [_curve(found) for found in sweep.made(given, sides, seeds)]


def _curve(found: sweep.Made) -> Curve:
    if found.run is None:
        raise ValueError(f"{found.variant}, seed {found.seed}: {found.reason}")
    tested = found.run.steps.dropna(subset=["test_loss"])
    columns = ("step", "test_loss", "test_accuracy", "time_s", "energy_j")
    return Curve(
        found.variant,
        found.seed,
        found.run.manifest["digest"],
        found.run.steps["train_loss"].tolist(),
        *(tested[name].tolist() for name in columns),
    )


def exact(setting: str, seed: int, steps: int, fields: Fields, every: int = EVERY) -> Curve:
    """The same task and batches under exact natural gradient descent, outside the simulator."""
    scenario = Variant("mnist-tngd", fields).load()
    torch.set_num_threads(1)
    task, size = hybridsim.load_task(scenario), scenario.training.batch_size
    found = exact_gradient.train(task, seed, steps, size, RATE, DAMPING, every)
    losses, accuracies = (list(values) for values in zip(*found["test"].values(), strict=True))
    return Curve(
        setting, seed, None, found["train_loss"], list(found["test"]), losses, accuracies, [], []
    )


def by_setting(curves: Sequence[Curve], measure: str) -> dict[str, list[float]]:
    """One measure of all runs: a list in the order of the seeds for each setting."""
    result: dict[str, list[float]] = {}
    for curve in sorted(curves, key=lambda c: c.seed):
        result.setdefault(curve.setting, []).append(curve.measures()[measure])
    return result
