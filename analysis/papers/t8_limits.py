"""T8 on MNIST: TNGD after no settling is SGD, after a long one the exact natural gradient.

The paper's batch of 64 and the shipped CNN (N = 19,354), ideal converters, no noise, ten steps for
each seed. Step for step, the loss on each batch and the test loss of "0 tau" are compared with
those of SGD at the same rate, those of "1e9 tau" with natural gradient descent by an LU solve in
float64 outside the simulator. Equal: to 1e-5 relative, the rounding of float32. "moved" is how far
the two limits are from each other: what a mistake would have to hide in.

    python -m analysis.papers.t8_limits --out analysis/papers/results/t8_limits.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.papers.mnist_runs import IDEAL, RATE, SEEDS, Curve, exact, out_path, save, simulate

STEPS, EVERY = 10, 5
TOLERANCE = 1e-5
NONE, SGD, REST, EXACT = "0 tau", "sgd", "1e9 tau", "exact"


def runs() -> list[Curve]:
    """The two limits and what they should equal, for all seeds."""
    return [curve for seed in SEEDS for curve in _runs(seed)]


def _runs(seed: int) -> list[Curve]:
    first_order = (f"training.algorithm={{kind: sgd, learning_rate: {RATE}}}",)
    settled = {s: (*IDEAL, f"training.algorithm.settle={s}") for s in (NONE, REST)}
    return [
        simulate(NONE, "mnist-tngd", seed, STEPS, settled[NONE], EVERY),
        simulate(SGD, "mnist-adam", seed, STEPS, first_order, EVERY),
        simulate(REST, "mnist-tngd", seed, STEPS, settled[REST], EVERY),
        exact(EXACT, seed, STEPS, (), EVERY),
    ]


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
    path = out_path(__doc__)
    curves = runs()
    setting = {
        "steps": STEPS,
        "batch_size": 64,
        "overrides": list(IDEAL),
        "seeds": list(SEEDS),
        "tolerance": TOLERANCE,
    }
    save(path, "t8_limits", setting, summarise(curves), curves)


if __name__ == "__main__":
    main()
