"""T5 on MNIST: TNGD (50 tau, rate 0.01) against Adam (rate 1e-3) at equal steps, simulated seconds
and joules.

Three epochs of 10,000 images at b = 32 for TNGD (936 steps; see ``mnist_runs`` for what is
reduced); Adam goes on until it has used TNGD's seconds and joules. The machine is the shipped
scenarios' own: realistic constants, 16-bit converters, one 50 Gb/s link. Adam's curve between two
evaluations is interpolated linearly; differences are paired by seed, 95 % t intervals. Exact
natural gradient descent (float64, outside the simulator) runs beside them, to tell what of a
difference belongs to the method and what to the machine.

    python -m analysis.papers.t5_adam --out analysis/papers/results/t5_adam.json
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import hybridsim
from analysis.papers import sweep
from analysis.papers.mnist_runs import EVERY, REDUCED, SEEDS, Curve, exact, simulate
from analysis.papers.paired import difference, mean_interval, ratio
from analysis.papers.record import save
from analysis.papers.sweep import Variant

STEPS = 936
TNGD, ADAM, EXACT = "tngd, 50 tau", "adam", "exact"
BUDGETS = ("step", "seconds", "joules")
MEASURES = ("test_loss", "test_accuracy")
CHECKED_AT = (156, 312, 624, 936)  # steps of TNGD, multiples of EVERY


def cost(name: str) -> tuple[float, float]:
    """Simulated seconds and joules per step, from the schedule alone."""
    counts = {**REDUCED, "training.steps": 100, "training.evaluate_every": 100}
    last = hybridsim.run(Variant(name, counts).load(), backend="timing").steps.iloc[-1]
    return float(last["time_s"] / last["step"]), float(last["energy_j"] / last["step"])


def adam_steps() -> int:
    """Steps with which Adam uses at least TNGD's seconds and joules, a multiple of ``EVERY``."""
    dearest = max(
        ours / theirs for ours, theirs in zip(cost("mnist-tngd"), cost("mnist-adam"), strict=True)
    )
    return EVERY * (math.ceil(STEPS * dearest / EVERY) + 1)


def runs(given: argparse.Namespace) -> list[Curve]:
    """All three for all seeds."""
    steps = "training.steps"
    sides = {
        TNGD: Variant("mnist-tngd", {**REDUCED, steps: STEPS}),
        ADAM: Variant("mnist-adam", {**REDUCED, steps: adam_steps()}),
    }
    return [*simulate(given, sides), *(exact(EXACT, seed, STEPS, REDUCED) for seed in SEEDS)]


def at(curve: Curve, budget: str, amount: float, measure: str) -> float:
    """A curve's value where it has used ``amount`` of a budget.

    Raises:
        ValueError: the curve starts later or ends earlier.
    """
    spent = getattr(curve, budget)
    if not spent[0] <= amount * (1 + 1e-9) or not amount <= spent[-1] * (1 + 1e-9):
        raise ValueError(f"expected {spent[0]} to {spent[-1]} {budget}, got {amount}")
    return float(np.interp(amount, spent, getattr(curve, measure)))


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """TNGD minus Adam for every budget, at the amounts that TNGD has used after some of its
    steps.
    """
    tngd, adam, solved = (
        [c for c in curves if c.setting == setting] for setting in (TNGD, ADAM, EXACT)
    )
    per_step = {
        c[0].setting: {b: getattr(c[0], b)[-1] / c[0].step[-1] for b in BUDGETS[1:]}
        for c in (tngd, adam)
    }
    summary: dict[str, Any] = {"per step": per_step}
    for budget in BUDGETS:
        summary[f"at equal {budget}"] = {
            f"after {step} steps of tngd": {
                m: _compared(tngd, adam, budget, step, m) for m in MEASURES
            }
            for step in CHECKED_AT
        }
    summary["tngd over exact, test loss at equal steps"] = {
        step: ratio(_test_losses(tngd, step), _test_losses(solved, step)) for step in CHECKED_AT
    }
    return summary


def _test_losses(curves: list[Curve], step: int) -> list[float]:
    return [curve.test_loss[curve.step.index(step)] for curve in curves]


def _compared(
    tngd: list[Curve], adam: list[Curve], budget: str, step: int, measure: str
) -> dict[str, Any]:
    amounts = [getattr(curve, budget)[curve.step.index(step)] for curve in tngd]
    ours = [at(curve, budget, amount, measure) for curve, amount in zip(tngd, amounts, strict=True)]
    theirs = [
        at(curve, budget, amount, measure) for curve, amount in zip(adam, amounts, strict=True)
    ]
    found = difference(ours, theirs)
    better = "tngd" if (found["mean"] < 0) == (measure == "test_loss") else "adam"
    return {
        budget: float(np.mean(amounts)),
        "tngd": mean_interval(ours),
        "adam": mean_interval(theirs),
        "tngd minus adam": found,
        "better": better if found["separable"] else "not separable",
    }


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    curves = runs(given)
    last = {curve.setting: curve.step[-1] for curve in curves}
    setting = {"steps": {s: last[s] for s in (TNGD, ADAM)}, **REDUCED, "seeds": list(SEEDS)}
    save(given.out, "t5_adam", setting, summarise(curves), [c.row() for c in curves])


if __name__ == "__main__":
    main()
