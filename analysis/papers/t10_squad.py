"""T10 on SQuAD: TNGD and TNGD-Adam against Adam, fine-tuning an encoder by LoRA.

The shipped scenarios ``squad-*``: MiniLM (N = 37,634), b = 4, windows of L = 24 tokens, so r = 2 b
L = 192; 416 questions to train on, 64 of other articles to test; no dropout. Rates, damping and
settling times are the paper's, Adam's 1e-3 with its usual betas. ``adam, betas 0`` is TNGD-Adam at
t = 0, ``sgd`` TNGD at t = 0: what differs from them the SPU has done. Differences are paired by
seed, 95 % t intervals; Adam goes on until it has used TNGD-Adam's seconds and joules.

    python -m analysis.papers.t10_squad --out analysis/papers/results/t10_squad.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.papers import sweep
from analysis.papers.mnist_runs import SETTLE, Curve, simulate
from analysis.papers.paired import difference, mean_interval
from analysis.papers.record import save
from analysis.papers.sweep import Variant
from analysis.papers.t5_adam import at

SEEDS = (0, 1, 2)
STEPS, EVERY = 24, 8
ADAM_STEPS = 168  # a step of TNGD takes 3.5 times Adam's seconds and 6.9 times its joules
TIMES = ("0.1 tau", "0.2 tau", "0.4 tau")
TNGD, ADAM, SIGN, SGD = "tngd 0.4 tau", "adam", "adam, betas 0", "sgd"
HYBRID = {settle: f"tngd-adam {settle}" for settle in TIMES}
BEST = HYBRID[TIMES[-1]]
ALGORITHM = "training.algorithm"
STATEMENTS = {
    "tngd minus adam": (TNGD, ADAM),
    "tngd-adam minus adam": (BEST, ADAM),
    "tngd-adam minus tngd": (BEST, TNGD),
    "0.2 minus 0.1 tau": (HYBRID["0.2 tau"], HYBRID["0.1 tau"]),
    "0.4 minus 0.2 tau": (BEST, HYBRID["0.2 tau"]),
    "0.4 minus 0.1 tau": (BEST, HYBRID["0.1 tau"]),
    "tngd-adam minus its t = 0": (BEST, SIGN),
    "tngd minus its t = 0": (TNGD, SGD),
}
MEASURES = ("test_loss", "test_accuracy", "mean_train_loss")


def variants(times: Sequence[str] = TIMES) -> dict[str, Variant]:
    """Sides by name; ``times`` are the settling times of TNGD-Adam."""
    steps = {"training.steps": STEPS}
    sign = {f"{ALGORITHM}.beta1": 0, f"{ALGORITHM}.beta2": 0}
    sgd = {ALGORITHM: {"kind": "sgd", "learning_rate": 0.01}}
    hybrid = {HYBRID[t]: Variant("squad-tngd-adam", steps | {SETTLE: t}) for t in times}
    return {
        TNGD: Variant("squad-tngd", steps),
        BEST: hybrid.pop(BEST),
        ADAM: Variant("squad-adam", {"training.steps": ADAM_STEPS}),
        SIGN: Variant("squad-adam", steps | sign),
        SGD: Variant("squad-adam", steps | sgd),
        **hybrid,
    }


def measured(curve: Curve, measure: str) -> float:
    """After ``STEPS`` steps; of training losses the mean over them."""
    if measure == "mean_train_loss":
        return sum(curve.train_loss[:STEPS]) / STEPS
    found: list[float] = getattr(curve, measure)
    return found[curve.step.index(STEPS)]


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """Each side after ``STEPS`` steps, what the statements compare, and Adam at equal budgets."""
    sides: dict[str, list[Curve]] = {}
    for curve in sorted(curves, key=lambda c: c.seed):
        sides.setdefault(curve.setting, []).append(curve)
    summary: dict[str, Any] = {"per step": _per_step(sides)}
    for measure in MEASURES:
        values = {name: [measured(c, measure) for c in side] for name, side in sides.items()}
        summary[measure] = {
            **{name: mean_interval(found) for name, found in values.items()},
            **{
                name: difference(values[one], values[other])
                for name, (one, other) in STATEMENTS.items()
                if {one, other} <= set(values)
            },
        }
    for budget in ("seconds", "joules"):
        summary[f"at equal {budget}"] = {
            measure: _at_equal(sides[BEST], sides[ADAM], budget, measure)
            for measure in MEASURES[:2]
        }
    return summary


def _per_step(sides: dict[str, list[Curve]]) -> dict[str, Any]:
    return {
        name: {b: getattr(side[0], b)[-1] / side[0].step[-1] for b in ("seconds", "joules")}
        for name, side in sides.items()
    }


def _at_equal(ours: list[Curve], theirs: list[Curve], budget: str, measure: str) -> dict[str, Any]:
    """TNGD-Adam after its last step minus Adam where it has used as much."""
    amounts = [getattr(curve, budget)[-1] for curve in ours]
    values = [at(c, budget, amount, measure) for c, amount in zip(theirs, amounts, strict=True)]
    found = difference([measured(curve, measure) for curve in ours], values)
    return {budget: amounts[0], "adam": mean_interval(values), "tngd-adam minus adam": found}


def _row(curve: Curve) -> dict[str, Any]:
    kept = curve.row()
    del kept["late_train_loss"]  # over more steps than these
    return kept | {"mean_train_loss": measured(curve, "mean_train_loss")}


def main() -> None:
    """Run and write."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--times", nargs="+", default=TIMES, help="of TNGD-Adam, with 0.4 tau")
    given = parser.parse_args()
    curves = simulate(given, variants(given.times), EVERY, SEEDS)
    setting = {"steps": STEPS, "adam's steps": ADAM_STEPS, "seeds": list(SEEDS)}
    setting |= {"times": list(given.times)}
    save(given.out, "t10_squad", setting, summarise(curves), [_row(c) for c in curves])


if __name__ == "__main__":
    main()
