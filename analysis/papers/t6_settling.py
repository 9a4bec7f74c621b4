"""T6 on MNIST: does the loss fall over t = 5, 10, 20, 50 tau at equal steps, and is 50 tau as good
as the exact solve?

One epoch of 10,000 images at b = 32 (312 steps; see ``mnist_runs`` for what is reduced), state
reset, ideal converters, no noise. "exact" is natural gradient descent by an LU solve in float64
outside the simulator; "1e9 tau" is the simulated SPU at rest. Monotone: every paired difference
between neighbours above zero (95 % t interval over seeds). Like the exact solve: the interval of
the paired loss ratio within 5 %.

    python -m analysis.papers.t6_settling --out analysis/papers/results/t6_settling.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from analysis.papers import sweep
from analysis.papers.mnist_runs import (
    IDEAL,
    REDUCED,
    SEEDS,
    SETTLE,
    Curve,
    by_setting,
    exact,
    simulate,
)
from analysis.papers.paired import difference, mean_interval, ratio, verdict
from analysis.papers.record import save
from analysis.papers.sweep import Variant

STEPS = 312
SETTLES = ("5 tau", "10 tau", "20 tau", "50 tau")
REST, EXACT = "1e9 tau", "exact"
MEASURES = ("test_loss", "late_train_loss", "mean_train_loss", "test_accuracy")
MARGIN = 0.05


def runs(given: argparse.Namespace) -> list[Curve]:
    """All settings for all seeds."""
    fields = {"training.steps": STEPS, **REDUCED, **IDEAL}
    sides = {s: Variant("mnist-tngd", {**fields, SETTLE: s}) for s in (*SETTLES, REST)}
    return [*simulate(given, sides), *(exact(EXACT, seed, STEPS, REDUCED) for seed in SEEDS)]


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """Means by setting, falls between neighbours, loss ratios to the exact solve, verdicts by
    measure.
    """
    summary: dict[str, Any] = {}
    for measure in MEASURES:
        values = by_setting(curves, measure)
        summary[measure] = {"mean": {setting: mean_interval(v) for setting, v in values.items()}}
        if measure != "test_accuracy":
            summary[measure] |= _compared(values)
    return summary


def _compared(values: dict[str, list[float]]) -> dict[str, Any]:
    falls = {
        f"{a} minus {b}": difference(values[a], values[b])
        for a, b in zip(SETTLES, SETTLES[1:], strict=False)
    }
    ratios = {setting: ratio(values[setting], values[EXACT]) for setting in (*SETTLES, REST)}
    monotone = all(found["low"] > 0 for found in falls.values())
    rises = any(found["high"] < 0 for found in falls.values())
    return {
        "falls": falls,
        "ratio to exact": ratios,
        "monotone": "holds" if monotone else "does not" if rises else "not separable",
        "50 tau within 5 % of exact": verdict(ratios["50 tau"], 1 / (1 + MARGIN), 1 + MARGIN),
        "1e9 tau within 5 % of exact": verdict(ratios[REST], 1 / (1 + MARGIN), 1 + MARGIN),
    }


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    curves = runs(given)
    setting = {"steps": STEPS, **REDUCED, **IDEAL, "seeds": list(SEEDS), "margin": MARGIN}
    save(given.out, "t6_settling", setting, summarise(curves), [c.row() for c in curves])


if __name__ == "__main__":
    main()
