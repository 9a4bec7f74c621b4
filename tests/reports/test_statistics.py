"""Intervals over seeds: they cover what they say they cover, and agree with scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import hybridsim
from hybridsim.reports.statistics import (
    log_interval,
    mean_interval,
    paired_difference,
    paired_ratio,
)

SAMPLES = 1500
FOUR_ERRORS = 4 * math.sqrt(0.95 * 0.05 / SAMPLES)
values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)
positive = st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=40)


@pytest.mark.parametrize("seeds", range(2, 20))
def test_95_per_cent_of_intervals_cover_the_mean(seeds):
    """Normal samples: the arithmetic mean; log-normal ones: the geometric mean."""
    rng = np.random.default_rng(seeds)
    mean, deviation = rng.normal(), rng.uniform(0.1, 2)
    covered = {"mean": 0, "log": 0}
    for sample in rng.normal(mean, deviation, (SAMPLES, seeds)):
        _, low, high, *_ = mean_interval(sample)
        covered["mean"] += low <= mean <= high
        _, low, high, *_ = log_interval(np.exp(sample))
        covered["log"] += low <= math.exp(mean) <= high
    for count in covered.values():
        assert abs(count / SAMPLES - 0.95) <= FOUR_ERRORS


@pytest.mark.parametrize("pairs", [2, 5, 19])
def test_five_per_cent_of_pairs_alike_are_said_to_differ(pairs):
    rng = np.random.default_rng(pairs)
    draws = rng.normal(size=(SAMPLES, 2, pairs))
    ratios = sum(paired_ratio(*np.exp(pair)).detectable for pair in draws)
    gaps = sum(paired_difference(*pair).detectable for pair in draws)
    for found in (ratios, gaps):
        assert abs(found / SAMPLES - 0.05) <= FOUR_ERRORS


@given(values)
def test_the_mean_and_its_interval_are_scipys(data):
    found = mean_interval(data)
    error = stats.sem(data)
    assert found.mean == pytest.approx(np.mean(data), abs=1e-9)
    if error > 1e-9:
        ends = stats.t.interval(0.95, len(data) - 1, np.mean(data), error)
        assert (found.low, found.high) == pytest.approx(ends, rel=1e-9, abs=1e-6)
    assert found.low <= found.mean <= found.high
    assert found.basis == f"95 % interval, Student's t, {len(data)} seeds"


@given(positive)
def test_on_logs_the_unit_does_not_matter(data):
    found, scaled = log_interval(data), log_interval([1e3 * value for value in data])
    assert found.mean == pytest.approx(stats.gmean(data))
    assert scaled[:3] == pytest.approx([1e3 * end for end in found[:3]], rel=1e-6)
    assert found.basis == f"95 % interval, Student's t on logs, {len(data)} seeds"


@given(positive, st.randoms())
def test_comparing_the_other_way_round_says_the_same(first, random):
    second = [value * random.uniform(0.5, 2) for value in first]
    one, other = paired_ratio(first, second), paired_ratio(second, first)
    assert one.interval.mean == pytest.approx(1 / other.interval.mean)
    assert one.p_value == pytest.approx(other.p_value, abs=1e-9)
    assert one.detectable == other.detectable == (one.p_value < 0.05)


def test_pairs_alike_do_not_differ_and_a_constant_factor_does():
    data = [1.0, 2.0, 5.0]
    assert not paired_ratio(data, data).detectable
    rounded = [value * (1 + 1e-15) for value in data]
    assert not paired_ratio(data, rounded).detectable
    assert not paired_difference(data, rounded).detectable
    assert paired_ratio(data, [3 * value for value in data]).detectable


def test_one_value_has_no_interval_and_one_pair_is_not_tested():
    assert log_interval([3.0]).mean == pytest.approx(3) and math.isnan(log_interval([3.0]).low)
    assert log_interval([3.0]).basis == "one seed: no interval"
    assert math.isnan(mean_interval([]).mean)
    found = paired_ratio([1.0], [100.0])
    assert not found.detectable and math.isnan(found.p_value)


@pytest.mark.parametrize("function", [paired_ratio, paired_difference])
def test_what_cannot_be_compared_is_refused(function):
    for first, second in (([], []), ([1.0], [1.0, 2.0]), ([1.0], [math.inf])):
        with pytest.raises(ValueError, match="expected"):
            function(first, second)
    with pytest.raises(ValueError, match="positive"):
        log_interval([1.0, 0.0])


def test_the_public_functions_are_these():
    for function in (mean_interval, log_interval, paired_ratio, paired_difference):
        assert getattr(hybridsim, function.__name__) is function
