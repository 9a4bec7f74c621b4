"""T1 to T4: exponents and ratios against closed forms, and the runs at tiny sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from analysis.papers import t1_scaling as t1


@given(st.floats(-1, 4), st.floats(1e-6, 10), st.sets(st.integers(10, 10**6), min_size=2))
def test_exponents_of_a_power_law_are_its_power(power, factor, sizes):
    found = t1.exponents({n: factor * n**power for n in sizes})
    assert list(found.values()) == pytest.approx([power] * (len(sizes) - 1), abs=1e-6)


@given(st.floats(-0.6, 0.6))
def test_as_claimed_is_read_from_the_last_exponent(off):
    slopes = {
        name: {"1 - 2": claimed + 9.0, "2 - 4": claimed + off}
        for name, claimed in t1.CLAIMED.items()
    }
    assert t1.as_claimed(slopes) == dict.fromkeys(t1.CLAIMED, abs(off) <= t1.NEAR) or math.isclose(
        abs(off), t1.NEAR
    )


@pytest.mark.parametrize("outputs", [2, 20])
def test_the_network_has_the_parameters_that_are_asked_for(outputs):
    task = hybridsim.load_task(
        t1.scenario(t1.network(4000, outputs), t1.BATCH, t1.ADAM, t1.MACHINES["A100"])
    )
    assert task.layout.size == 4000


def test_a_step_is_made_of_its_operations(monkeypatch):
    """Synchronous: one after the other, so that they add up; CG takes all its iterations; the
    free link carries no time but its latency."""
    algorithm, beside = t1.ALGORITHMS[t1.CG]
    counted = {**algorithm, "iterations": 7}
    monkeypatch.setitem(t1.ALGORITHMS, t1.CG, (counted, beside))
    rows = {r["algorithm"]: r for r in t1.timed(t1.network(2000, 5), 8, "A100", t1.ALGORITHMS)}
    for name in (t1.CG, t1.NGD, t1.WOODBURY, t1.ADAM):
        assert sum(rows[name]["operations_s"].values()) == pytest.approx(rows[name]["step_s"])
    paid, free = (rows[name]["operations_s"] for name in (t1.TNGD, t1.TNGD_FREE))
    wire_s = 8 * 5 * 2000 * 16 / 50e9
    assert paid["upload jacobian"] - free["upload jacobian"] == pytest.approx(wire_s, rel=1e-3)
    assert paid["settle"] == free["settle"] == pytest.approx(50e-6)
    summary = t1.summarise([{"claim": "T1", "outputs": 5, **row} for row in rows.values()])
    ratio = summary["T2: time over TNGD's"]["A100"][t1.WOODBURY][2000]
    assert ratio == rows[t1.WOODBURY]["step_s"] / rows[t1.TNGD]["step_s"]


def test_what_does_not_fit_is_refused_by_name(monkeypatch):
    small = {"part": "a100-sxm4-80gb", "memory_capacity": "100 MB"}
    monkeypatch.setitem(t1.MACHINES, "A100", small)
    rows = t1.timed(t1.network(4000, 5), 8, "A100", (t1.TNGD, t1.NGD))
    assert rows[1]["step_s"] is None and "has 100 MB" in rows[1]["refusal"]
    assert rows[0]["step_s"] > 0
    summary = t1.summarise([{"claim": "T1", "outputs": 5, **row} for row in rows])
    assert list(summary["refused"]) == ["A100, NGD, N = 4000"]
