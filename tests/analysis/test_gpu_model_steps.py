"""The script of whole steps: every pair in every round, closed forms of its errors, a real run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from analysis.gpu_model import steps
from analysis.gpu_model.steps import ALGORITHMS, NETWORKS, STEPS, Pair, errors, measured
from hybridsim.calibration.networks import _NETWORKS

PART = Path(hybridsim.__file__).parent / "models" / "parts" / "gpus" / "host-cpu.yaml"


def test_no_network_is_one_that_a_calibration_fits_on():
    assert not {source for source, _, _ in NETWORKS.values()} & set(_NETWORKS)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_errors_are_quantiles_of_the_distance_from_one(ratios):
    off = sorted(abs(ratio - 1) for ratio in ratios)
    median, p90 = errors(ratios)
    assert median == pytest.approx((off[(len(off) - 1) // 2] + off[len(off) // 2]) / 2)
    assert p90 == pytest.approx(np.quantile(off, 0.9)) and median <= p90 <= off[-1]


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_pair_comes_once_in_every_round(monkeypatch, rounds):
    names, visited = ("vit", "gnn"), []
    pairs = [Pair(network, algorithm) for network in names for algorithm in ALGORITHMS]

    def timed(scenario, number, task):
        visited.append(scenario.name)
        seconds = float(len(visited))
        return [SimpleNamespace(measured_s=seconds, predicted_s=2 * rounds, launches=7)] * number

    monkeypatch.setattr(hybridsim, "time_steps", timed, raising=False)
    found = measured(pairs, PART, rounds)
    orders = [visited[n : n + len(pairs)] for n in range(0, len(visited), len(pairs))]
    assert len(orders) == rounds and all(set(order) == set(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == rounds
    assert Counter(visited) == dict.fromkeys(orders[0], rounds)
    for step, pair in zip(found, pairs, strict=True):
        turns = [n + 1 for n, name in enumerate(visited) if name == f"{pair[1]} on {pair[0]}"]
        expected = float(np.median(np.repeat(turns, STEPS)))
        assert step[:4] == (*pair, 7, expected)
        assert (step.low_s, step.high_s) == (min(turns), max(turns))
        assert step.ratio == pytest.approx(2 * rounds / expected)


def test_a_step_is_predicted_as_it_is_simulated():
    (found,) = measured([Pair("gnn", "adam")], PART, 1)
    run = hybridsim.run(steps.scenario_of(Pair("gnn", "adam"), PART, "cpu", 1), backend="timing")
    simulated = (run.steps["end_ps"] - run.steps["start_ps"]).iloc[1] * 1e-12
    assert found.predicted_s == pytest.approx(simulated, rel=1e-6)
    assert found.measured_s > 0
