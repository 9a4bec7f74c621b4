"""T9 on MNIST: is injected noise kappa0 <= 0.01 harmless at t = tau?

One epoch of 10,000 images at b = 32 (312 steps; ``mnist_runs`` says what is reduced): early in
training, because at t = tau a step is hardly longer than SGD's. State reset, ideal converters, one
reading per step, the same batches and initial parameters for every kappa0. Harmless: the upper end
of the 95 % t interval of the paired loss ratio to kappa0 = 0 stays below 1.05.

    python -m analysis.papers.t9_noise --out analysis/papers/results/t9_noise.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from analysis.papers import sweep
from analysis.papers.mnist_runs import IDEAL, REDUCED, SEEDS, SETTLE, Curve, by_setting, simulate
from analysis.papers.paired import difference, mean_interval, ratio, verdict
from analysis.papers.record import save
from analysis.papers.sweep import Variant

STEPS = 312
NOISES = ("0", "1e-3", "1e-2", "1e-1")
MEASURES = ("test_loss", "late_train_loss", "mean_train_loss")
MARGIN = 0.05


FIELDS = {"training.steps": STEPS, **REDUCED, **IDEAL, SETTLE: "1 tau"}


def runs(given: argparse.Namespace) -> list[Curve]:
    """All noise levels for all seeds."""
    noise = "training.algorithm.noise"
    return simulate(given, {n: Variant("mnist-tngd", {**FIELDS, noise: float(n)}) for n in NOISES})


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """Means by kappa0, loss ratios to kappa0 = 0, accuracy differences, verdicts by measure."""
    accuracy = by_setting(curves, "test_accuracy")
    summary: dict[str, Any] = {
        "test_accuracy": {
            "mean": {noise: mean_interval(v) for noise, v in accuracy.items()},
            "minus kappa0 = 0": {
                noise: difference(accuracy[noise], accuracy["0"]) for noise in NOISES[1:]
            },
        }
    }
    for measure in MEASURES:
        values = by_setting(curves, measure)
        ratios = {noise: ratio(values[noise], values["0"]) for noise in NOISES[1:]}
        summary[measure] = {
            "mean": {noise: mean_interval(v) for noise, v in values.items()},
            "ratio to kappa0 = 0": ratios,
            "harmless": {noise: verdict(found, 0, 1 + MARGIN) for noise, found in ratios.items()},
        }
    return summary


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    curves = runs(given)
    setting = {**FIELDS, "seeds": list(SEEDS), "margin": MARGIN}
    save(given.out, "t9_noise", setting, summarise(curves), [c.row() for c in curves])


if __name__ == "__main__":
    main()
