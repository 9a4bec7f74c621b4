"""Claims on natural gradients without an SPU: what the scripts say follows from their runs."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.papers import t13_truncated_cg as t13
from analysis.papers import t14_curvature as t14

FLAT, RISING = [2.0] * t13.STEPS, [2.0 + step for step in range(t13.STEPS)]
FALLING = [2.0 / (1 + step) for step in range(t13.STEPS)]


def found(losses):
    """Runs of every solver: training as given by solver, solves that leave 0.5, 1.5 and 3.0."""
    return [
        t13.Found(name, damping, seed, trained, [0.5, 1.5, 3.0], losses[name], {}, "")
        for name in t13.SOLVERS
        for damping in t13.DAMPINGS
        for seed in t13.SEEDS
        for trained in (False, True)
    ]


def test_where_cg_diverges_and_the_spu_does_not():
    losses = {name: RISING if name.startswith("cg") else FALLING for name in t13.SOLVERS}
    losses["spu 1000 tau"] = []
    summary = t13.summarise(found(losses))
    everywhere = [f"cg {c}, lambda {d:g}" for d in t13.DAMPINGS for c in t13.ITERATIONS]
    assert summary["SPU trains where CG diverges"] == {
        "10 tau": everywhere, "100 tau": everywhere, "1000 tau": []
    }  # fmt: skip
    assert summary["training"]["0.1"]["spu 1000 tau"]["diverged"] == len(t13.SEEDS)
    left = summary["systems"]["0.1"]["cg 5"]
    assert (left["median"], left["largest"]) == (1.5, 3.0)
    assert left["share worse than x = 0"] == pytest.approx(2 / 3)


def test_a_loss_that_stays_has_not_diverged():
    (one, *_) = found(dict.fromkeys(t13.SOLVERS, FLAT))
    assert not one.diverged and one.late == 2.0


@pytest.mark.parametrize("name", list(t13.SOLVERS))
@pytest.mark.parametrize("trained", [False, True])
def test_the_variants_are_scenarios(name, trained):
    algorithm = t13.variant(t13.SOLVERS[name], 1e-3, trained).load().training.algorithm
    assert algorithm.damping == 1e-3 and algorithm.learning_rate == (0.2 if trained else 1e-12)


def test_curvatures_are_compared_over_the_seeds_of_both():
    rows = [
        {"side": side, "seed": seed, "reached": step is not None, "step": step or float("nan")}
        for side, steps in (("ggn", [10, 20, 30]), ("fisher", [20, 40, None]))
        for seed, step in enumerate(steps)
    ]
    summary = t14.summarise(pd.DataFrame(rows))
    assert summary["ggn"]["seeds that reached the target"] == "3 of 3"
    assert summary["fisher"]["seeds that reached the target"] == "2 of 3"
    assert summary["fisher over ggn, paired by seed"]["mean"] == pytest.approx(2.0)
