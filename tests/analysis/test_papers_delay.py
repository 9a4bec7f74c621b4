"""T7's script: what its verdicts ask for, on made-up losses."""

from __future__ import annotations

import pytest

from analysis.papers import t7_delay
from analysis.papers.mnist_runs import SETTLE, Curve
from analysis.papers.t7_delay import EXACT, KEPT, RESET, delayed

LOSSES = {RESET: 2.0, KEPT: 0.5, EXACT: 1.0, delayed(RESET, "1 tau"): 2.2}
FACTORS = {"0.2 tau": 1.0, "1 tau": 0.9, "5 tau": 1.2}


def curves(factor: float = 1.0) -> list[Curve]:
    """Losses of three seeds that differ by one factor; delays scale a kept state's."""
    losses = LOSSES | {delayed(KEPT, d): factor * f * LOSSES[KEPT] for d, f in FACTORS.items()}
    losses[delayed(RESET, "0.2 tau")] = 2.0
    return [
        Curve(name, seed, None, [more * loss], [1], [more * loss], [0.5], [1.0], [1.0])
        for name, loss in losses.items()
        for seed, more in enumerate((1.0, 1.1, 0.9))
    ]


def test_state_and_delay_are_told_apart():
    found = t7_delay.summarise(curves())["test_loss"]
    assert found["kept over reset, no delay"]["mean"] == pytest.approx(0.25)
    assert found["delay over none, kept"][delayed(KEPT, "1 tau")]["mean"] == pytest.approx(0.9)
    assert found["delay over none, reset"][delayed(RESET, "1 tau")]["mean"] == pytest.approx(1.1)
    assert found["keeping the state helps"] == found["some delay helps"] == "holds"
    worse = t7_delay.summarise(curves(factor=1.5))["test_loss"]
    assert worse["some delay helps"] == "does not"
    assert worse["delayed beats exact"] == "holds"  # though the delay only harms


def test_settings_differ_in_state_delay_and_rest_alone():
    sides = {name: side.fields for name, side in t7_delay.sides(7).items()}
    shared = set.intersection(*({*map(str, f.items())} for f in sides.values()))
    assert str(("training.steps", 7)) in shared
    assert sides[EXACT][SETTLE] == "1e9 tau" and sides[KEPT][SETTLE] == "5 tau"
    assert delayed(RESET, "5 tau") not in sides  # that would be a step along the gradient
    for side in t7_delay.sides(7).values():
        assert side.load().training.algorithm.kind == "tngd"
