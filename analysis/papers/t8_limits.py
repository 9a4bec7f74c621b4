"""T8 on MNIST: TNGD after no settling is SGD, after a long one the exact natural gradient.

The paper's batch of 64 and the shipped CNN (N = 19,354), ideal converters, no noise, ten steps for
each seed. Step for step, the loss on each batch and the test loss of "0 tau" are compared with
those of SGD at the same rate, those of "1e9 tau" with natural gradient descent by an LU solve in
float64 outside the simulator. Equal: to 1e-5 relative, the rounding of float32. "moved" is how far
the two limits are from each other: what a mistake would have to hide in.

    python -m analysis.papers.t8_limits --out analysis/papers/results/t8_limits.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from analysis.papers import sweep
from analysis.papers.mnist_runs import IDEAL, RATE, SEEDS, SETTLE, Curve, exact, simulate
from analysis.papers.record import save
from analysis.papers.sweep import Variant

STEPS, EVERY = 10, 5
TOLERANCE = 1e-5
NONE, SGD, REST, EXACT = "0 tau", "sgd", "1e9 tau", "exact"


def runs(given: argparse.Namespace) -> list[Curve]:
    """The two limits and what they should equal, for all seeds."""
    steps = {"training.steps": STEPS}
    sgd = {"training.algorithm": {"kind": "sgd", "learning_rate": RATE}}
    sides = {s: Variant("mnist-tngd", {**steps, **IDEAL, SETTLE: s}) for s in (NONE, REST)}
    simulated = simulate(given, {**sides, SGD: Variant("mnist-adam", {**steps, **sgd})}, EVERY)
    return [*simulated, *(exact(EXACT, seed, STEPS, {}, EVERY) for seed in SEEDS)]


def gap(first: Curve, second: Curve) -> float:
    """Largest relative difference of the two curves' losses, on batches and on the test set."""
    pairs = zip(
        first.train_loss + first.test_loss, second.train_loss + second.test_loss, strict=True
    )
    return max(abs(a - b) / abs(b) for a, b in pairs)


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """Largest relative differences over seeds and steps, and verdicts."""
    found = {(c.setting, c.seed): c for c in curves}
    seeds = sorted({c.seed for c in curves})

    def largest(first: str, second: str) -> float:
        return max(gap(found[first, s], found[second, s]) for s in seeds)

    summary: dict[str, Any] = {}
    for first, second in ((NONE, SGD), (REST, EXACT)):
        worst = largest(first, second)
        summary[f"{first} against {second}"] = {
            "largest relative difference": worst,
            "verdict": "holds" if worst <= TOLERANCE else "does not",
        }
    summary["moved"] = largest(NONE, REST)
    return summary


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    curves = runs(given)
    setting = {"steps": STEPS, "batch_size": 64, **IDEAL, "seeds": list(SEEDS)}
    setting |= {"tolerance": TOLERANCE}
    save(given.out, "t8_limits", setting, summarise(curves), [c.row() for c in curves])


if __name__ == "__main__":
    main()
