"""Settling times that are shipped, or taken where none is given, train; the paper's 1 RC does
not."""

from __future__ import annotations

import hybridsim
from hybridsim.results.solves import MOST_ERROR, solves

STEPS = ["training.steps=60", "training.evaluate_every=30"]
SMALL_GPT = [
    "workload={source: gpt, options: {vocabulary: 100, width: 32, sequence: 16, depth: 2, "
    "heads: 4, train_size: 256, test_size: 64}}",
    "training.batch_size=32",
    "training.steps=20",
    "training.evaluate_every=20",
]


def trained(*overrides: str) -> tuple[float, float]:
    run = hybridsim.run(hybridsim.load("kfac-digits", [*STEPS, *overrides]))
    found = solves(run.steps)
    assert found is not None
    return run.summary["final"]["test_accuracy"], found.error


def test_the_default_trains_and_one_rc_does_not():
    default = hybridsim.load("kfac-digits").document()
    del default["training"]["algorithm"]["settle"]
    settle = hybridsim.load(default).training.algorithm.settle_tau
    accuracy, error = trained(f"training.algorithm.settle={settle:g} tau")
    assert accuracy > 0.9 and error < MOST_ERROR
    accuracy, error = trained("training.algorithm.settle=1 tau", "training.steps=30")
    assert accuracy < 0.5 and error > MOST_ERROR


def test_what_is_shipped_for_timing_alone_would_solve():
    """The same transformer, small enough to train here."""
    found = solves(hybridsim.run(hybridsim.load("kfac-gpt", SMALL_GPT)).steps)
    assert found is not None and found.solved
