"""Thermodynamic K-FAC, method 2 (arXiv 2502.08603), against dense float64 solves."""

from __future__ import annotations

import pytest
import torch
from forbid import NoSolver
from harness import IDEAL, document, execute

from hybridsim.errors import CapacityError
from hybridsim.learning.kfac import factors, join_gradient, layer_gradient, layers
from hybridsim.learning.task import batch, batch_indices

KFAC = {"kind": "kfac", "learning_rate": 0.05, "damping": 0.1, "settle": "100000 tau", "momentum": 0.0}
SPUS = {**IDEAL, "count": 4}


@pytest.mark.parametrize("rule", ["plain", "pi"])
@pytest.mark.parametrize("seed", [0, 7])
def test_long_settling_is_digital_kfac(rule, seed):
    algorithm = {**KFAC, "damping_rule": rule, "ema": 0.5}
    with NoSolver():
        made, _ = execute(document(algorithm, seed=seed, steps=4, machine={"spus": SPUS}))
    theta = digital(made, rule, 4)
    moved = made.theta.value - made.parameters().value
    assert (made.theta.value - theta).norm() <= 2e-5 * moved.norm()


def digital(made, rule, steps):
    """K-FAC with torch.linalg.solve, its factors averaged with weight 0.5 of the old."""
    theta, kept = made.parameters().value, None
    for step in range(steps):
        data = batch(made.task.data, batch_indices(made.seed, len(made.task.data.train_x), made.batch_size, step))
        value = factors(made.task, theta, data).value
        new = {(side, layer): value[side][layer] for side in "ag" for layer in value[side]}
        kept = new if kept is None else {key: 0.5 * kept[key] + 0.5 * new[key] for key in new}
        parts = {}
        for layer in layers(made.task):
            a, g = kept["a", layer.name].double(), kept["g", layer.name].double()
            pi = 1.0 if rule == "plain" else float(torch.sqrt(a.diagonal().mean() / g.diagonal().mean()))
            root = 0.1 if rule == "plain" else 0.1**0.5
            a = a + pi * root * torch.eye(len(a))
            g = g + root / pi * torch.eye(len(g))
            d = layer_gradient(made.task.layout, value["gradient"], layer.name).double()
            parts[layer.name] = torch.linalg.solve(a, torch.linalg.solve(g, d).T).T.float()
        theta = theta - 0.05 * join_gradient(made.task.layout, parts)
    return theta


def test_columns_are_one_span_with_a_count_and_take_turns():
    _, sink = execute(document({**KFAC, "settle": "2 tau"}, steps=1, machine={"spus": SPUS}), live=False)
    settles = {(s["layer"], s["kind"]): s for s in sink.spans if s["kind"].startswith("settle")}
    counts = {key: s["count"] for key, s in settles.items()}
    assert counts == {
        ("0", "settle g"): 65,
        ("0", "settle a"): 5,
        ("2", "settle g"): 6,
        ("2", "settle a"): 10,
    }
    for span in settles.values():
        assert span["end_ps"] - span["start_ps"] == span["count"] * 2_000_000


def test_factors_are_spread_over_the_spus():
    _, sink = execute(document(KFAC, steps=1, machine={"spus": SPUS}), live=False)
    assert {s["part"] for s in sink.spans if s["kind"].startswith("settle")} == {f"spu{i}" for i in range(4)}


def test_a_factor_larger_than_an_spu_is_refused_by_name():
    spus = {**SPUS, "cells": 20}
    with pytest.raises(CapacityError, match="layer '0'.*65 cells.*20"):
        execute(document(KFAC, machine={"spus": spus}), live=False)
