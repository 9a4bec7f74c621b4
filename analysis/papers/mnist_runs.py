"""What the MNIST claims share: the reduced setting, one run and its learning curve, the result
file.

The paper (TNGD, arXiv 2405.13817): b = 64, ten epochs of 10,000 images (1,560 steps), five seeds, a
CNN of unpublished widths. Here, unless a claim says otherwise: b = 32, 4 + 32 channels and hidden
units (N = 5,074), four seeds, and the number of steps that each script states. Learning rates,
damping, settling times and data are the paper's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import hybridsim
from analysis.papers import exact_gradient
from analysis.papers.revision import revision

SEEDS = (0, 1, 2, 3)
BATCH_SIZE, EVERY = 32, 52
LAST = 52  # training losses are averaged over this many steps at the end
REDUCED = (
    f"training.batch_size={BATCH_SIZE}",
    "workload.options.channels=4",
    "workload.options.hidden=32",
)
IDEAL = tuple(f"machine.spus.{side}_bits=ideal" for side in ("input", "bias", "output"))
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
    setting: str, name: str, seed: int, steps: int, overrides: Sequence[str], every: int = EVERY
) -> Curve:
    """Run a shipped scenario with overrides."""
    counts = (f"seed={seed}", f"training.steps={steps}", f"training.evaluate_every={every}")
    started = time.perf_counter()
    run = hybridsim.run(hybridsim.load(name, [*counts, *overrides]))
    table = run.steps
    tested = table.dropna(subset=["test_loss"])
    columns = ("step", "test_loss", "test_accuracy", "time_s", "energy_j")
    _report(setting, seed, started, float(tested["test_loss"].iloc[-1]))
    return Curve(
        setting,
        seed,
        run.manifest["digest"],
        table["train_loss"].tolist(),
        *(tested[c].tolist() for c in columns),
    )


def exact(
    setting: str, seed: int, steps: int, overrides: Sequence[str], every: int = EVERY
) -> Curve:
    """The same task and batches under exact natural gradient descent, outside the simulator."""
    scenario = hybridsim.load("mnist-tngd", list(overrides))
    started = time.perf_counter()
    torch.set_num_threads(1)
    task, size = hybridsim.load_task(scenario), scenario.training.batch_size
    found = exact_gradient.train(task, seed, steps, size, RATE, DAMPING, every)
    losses, accuracies = zip(*found["test"].values(), strict=True)
    _report(setting, seed, started, losses[-1])
    return Curve(
        setting,
        seed,
        None,
        found["train_loss"],
        list(found["test"]),
        [*losses],
        [*accuracies],
        [],
        [],
    )


def by_setting(curves: Sequence[Curve], measure: str) -> dict[str, list[float]]:
    """One measure of all runs: a list in the order of the seeds for each setting."""
    result: dict[str, list[float]] = {}
    for curve in sorted(curves, key=lambda c: c.seed):
        result.setdefault(curve.setting, []).append(curve.measures()[measure])
    return result


def out_path(description: str | None) -> Path:
    """The command line's one option."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    parser.add_argument("--out", type=Path, required=True)
    path: Path = parser.parse_args().out
    return path


def save(
    path: Path,
    module: str,
    setting: dict[str, Any],
    summary: dict[str, Any],
    curves: Sequence[Curve],
) -> None:
    """Write the result with the command that makes it, and print the summary."""
    result = {
        "command": f"python -m analysis.papers.{module} --out {path}",
        "version": hybridsim.__version__,
        "revision": revision(),
        "setting": setting,
        "summary": summary,
        "runs": [curve.row() for curve in curves],
    }
    path.write_text(json.dumps(_short(result), indent=1) + "\n")
    print(json.dumps(_short(summary), indent=1))


def _short(value: Any) -> Any:
    """Floats to seven digits, and lists of numbers kept as they are."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _report(setting: str, seed: int, started: float, loss: float) -> None:
    wall_s = time.perf_counter() - started
    print(
        f"{setting}, seed {seed}: test loss {loss:.4f}, {wall_s:.0f} s", file=sys.stderr, flush=True
    )
