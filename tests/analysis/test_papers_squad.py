"""T10's summary and verdicts follow its curves."""

from __future__ import annotations

import math

import pytest

from analysis.papers import t10_squad
from analysis.papers.mnist_runs import Curve
from analysis.papers.squad_verdicts import CLAIMS
from analysis.papers.t10_squad import ADAM, BEST, HYBRID, SEEDS, SGD, SIGN, STEPS, TNGD

HALF = {
    BEST: 1.0,
    HYBRID["0.2 tau"]: 1.5,
    HYBRID["0.1 tau"]: 1.8,
    ADAM: 2.0,
    SIGN: 2.1,
    TNGD: 3.0,
    SGD: 3.1,
}


def curves(losses: dict[str, float], noise: float) -> list[Curve]:
    """Losses that rise with the seed, as everybody's, and by noise of their own; a step of Adam
    takes a second, others' four. Adam's loss falls by 0.1 in every further ``STEPS`` steps."""
    return [
        one(name, seed, loss + seed + noise * math.cos(7 * number + 3 * seed))
        for number, (name, loss) in enumerate(losses.items())
        for seed in SEEDS
    ]


def one(name: str, seed: int, loss: float) -> Curve:
    ends = [STEPS, 5 * STEPS] if name == ADAM else [STEPS]
    spent = [float(n if name == ADAM else 4 * n) for n in ends]
    fallen = [loss - 0.1 * (n / STEPS - 1) for n in ends]
    half = [0.5 for _ in ends]
    return Curve(name, seed, None, [loss] * ends[-1], ends, fallen, half, spent, spent)


def verdicts(losses: dict[str, float], noise: float = 0.0) -> list[str]:
    summary = t10_squad.summarise(curves(losses, noise))
    assert all("[" in claim.figure(summary) for claim in CLAIMS)
    return [claim.verdict(summary) for claim in CLAIMS]


@pytest.mark.parametrize(("change", "expected"), [
    ({}, ["holds", "holds", "holds"]),
    ({TNGD: 1.9}, ["does not", "holds", "holds"]),
    ({ADAM: 0.9}, ["holds", "does not", "holds"]),
    ({HYBRID["0.2 tau"]: 1.9}, ["holds", "holds", "does not"]),
])  # fmt: skip
def test_each_statement_is_read_from_the_differences_that_it_is_about(change, expected):
    assert verdicts(HALF | change, noise=1e-3) == expected


def test_what_noise_hides_is_not_separable():
    assert verdicts(HALF, noise=50.0) == ["not separable"] * 3


def test_what_was_not_run_says_so():
    summary = t10_squad.summarise(curves({n: HALF[n] for n in (BEST, ADAM, SIGN, TNGD, SGD)}, 0.0))
    assert [claim.verdict(summary) for claim in CLAIMS] == ["holds", "holds", "not run"]
    assert CLAIMS[-1].figure(summary) == "none"


def test_adam_is_taken_where_it_has_used_as_much():
    found = t10_squad.summarise(curves(HALF, noise=0.0))["at equal seconds"]["test_loss"]
    assert found["seconds"] == 4 * STEPS
    assert found["adam"]["mean"] == pytest.approx(2.0 + 1 - 0.3)
    assert found["tngd-adam minus adam"]["mean"] == pytest.approx(1.0 - 1.7)
