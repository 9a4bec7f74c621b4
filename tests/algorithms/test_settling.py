"""How long a solve settles, and when two readings agree."""

from __future__ import annotations

import math

import pytest
import torch
from harness import IDEAL, document
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from hybridsim.algorithms.refinement import correct, scaled
from hybridsim.algorithms.settling import compare, cut_bits, readings_tau
from hybridsim.errors import InputError
from hybridsim.scenario.settings.tngd import Tngd
from hybridsim.scenario.unused import unused_fields


def rule(**settling):
    return Tngd.model_validate({"kind": "tngd", "update": {"kind": "sgd"}, "settling": settling})


@given(bits=st.integers(1, 24), slowest=st.floats(1e-4, 10), longest=st.floats(1e-3, 1e4))
def test_bits_of_the_slowest_mode(bits, slowest, longest):
    given_rule = rule(rule="bits", bits=bits)
    (tau,) = readings_tau(given_rule, longest, slowest, 1)
    reached = cut_bits(given_rule, longest, slowest)
    if reached is None:
        assert math.exp(-slowest * tau) == pytest.approx(2.0**-bits) and tau <= longest
    else:
        assert tau == longest and math.exp(-slowest * tau) == pytest.approx(2.0**-reached)
        assert reached < bits
    assert readings_tau(given_rule, longest, None, 1) == [longest]


@given(longest=st.floats(0, 1e4), first=st.floats(1e-6, 100))
def test_readings_at_twice_the_time_up_to_the_bound(longest, first):
    times = readings_tau(rule(rule="agreement", first=f"{first} tau"), longest, 0.1, 3)
    assert times[-1] == longest and times == sorted(set(times))
    assert all(t == first * 2**k for k, t in enumerate(times[:-1]))
    assert len(times) == 1 or 2 * times[-2] >= longest


@given(longest=st.floats(0, 1e4), solves=st.integers(1, 500))
def test_a_budget_is_shared_by_all_solves(longest, solves):
    (tau,) = readings_tau(rule(rule="budget"), longest, 0.1, solves)
    assert tau * solves == pytest.approx(longest)


@given(seed=st.integers(0, 1000), columns=st.integers(0, 4))
def test_a_residual_takes_the_range_of_what_was_given_and_its_answer_goes_back(seed, columns):
    generator = torch.Generator().manual_seed(seed)
    shape = (7, columns) if columns else (7,)
    given_one, left, x = (torch.randn(shape, generator=generator) for _ in range(3))
    (sent, scale), facts = scaled(left, given_one)
    assert torch.allclose(sent.abs().amax(dim=0), given_one.abs().amax(dim=0))
    assert float(facts["residual"]) == pytest.approx(float(left.norm() / given_one.norm()))
    assert torch.allclose(correct(x, 3 * sent, scale).value, x + 3 * left, atol=1e-5)
    (sent, scale), facts = scaled(0 * left, given_one)
    assert not sent.any() and torch.equal(scale, torch.ones_like(scale)) and not facts["residual"]
    (sent, scale), _ = scaled(left, 0 * given_one)  # a device answers to nothing, too
    assert torch.equal(sent, left) and torch.equal(scale, torch.ones_like(scale))


def test_readings_are_compared_by_the_last():
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])
    assert float(compare(x, y).facts["disagreement"]) == 0.75
    assert float(compare(0 * x, 0 * x).facts["disagreement"]) == 0.0


KFAC = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1}


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        ({"kind": "tngd", "programmes": 3}, "programmes: expected 1 under rounding: nearest"),
        ({"kind": "tngd", "mode": "asynchronous", "settling": "bits"}, "settling: expected fixed"),
        ({"kind": "tngd", "mode": "asynchronous", "spus": "ensemble"}, "spus: expected first"),
        ({"kind": "tngd", "state": "kept", "refinement": 1}, "state: expected reset"),
        ({"kind": "tngd", "state": "kept", "calibration_every": 1}, "state: expected reset"),
        ({"kind": "tngd", "calibration_every": 1, "settling": "agreement"}, "settling: expected"),
        ({"kind": "tngd", "curvature": "sampled_fisher", "refinement": 1}, "curvature: expected"),
        ({**KFAC, "method": "noise", "noise": 0.1, "refinement": 1}, "refinement: expected 0"),
        ({**KFAC, "settling": "budget", "tiling": True}, "tiling: expected no tiling"),
    ],
)
def test_what_does_not_go_together_is_refused(algorithm, text):
    with pytest.raises(InputError, match=text):
        hybridsim.load(document(algorithm))


@pytest.mark.parametrize(
    ("algorithm", "count", "expected"),
    [
        ({"kind": "tngd", "settling": {"rule": "budget", "bits": 6}}, 1, {"settling.bits"}),
        ({"kind": "tngd", "settling": {"rule": "agreement", "first": "2 tau"}}, 1, set()),
        ({"kind": "tngd", "spus": "ensemble"}, 1, {"spus (there is one SPU)"}),
        ({"kind": "tngd", "spus": "ensemble"}, 2, set()),
        ({**KFAC, "method": "digital", "refinement": 2}, 0, {"refinement"}),
        ({**KFAC, "method": "digital", "settling": "bits"}, 0, {"settling"}),
        (
            {"kind": "tngd", "rounding": "stochastic"},
            1,
            {"rounding (input_bits and bias_bits are ideal: nothing is rounded)"},
        ),
    ],
)
def test_what_changes_nothing_is_said(algorithm, count, expected):
    machine = {"spus": {**IDEAL, "count": count}} if count else {"spus": None, "link": None}
    found = unused_fields(hybridsim.load(document(algorithm, machine=machine)))
    assert {path.removeprefix("training.algorithm.") for path in found} == expected
