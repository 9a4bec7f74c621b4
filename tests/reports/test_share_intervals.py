"""Intervals of shares: they cover the truth at least as often as they say, however few draws."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybridsim.reports.statistics import (
    Stratum,
    binomial_interval,
    clustered_interval,
    paired_difference,
    paired_ratio,
    stratified_interval,
)

SAMPLES = 1500
FOUR_ERRORS = 4 * math.sqrt(0.95 * 0.05 / SAMPLES)
SIZES = (3, 5, 10)


@pytest.mark.parametrize("trials", [*SIZES, 200])
def test_clopper_pearson_covers_every_share_at_least_as_often_as_it_says(trials):
    counts = np.arange(trials + 1)
    ends = np.array([binomial_interval(count, trials)[1:3] for count in counts])
    for share in np.linspace(0.001, 0.999, 211):
        covered = (ends[:, 0] <= share) & (share <= ends[:, 1])
        assert stats.binom.pmf(counts, trials, share)[covered].sum() >= 0.95 - 1e-9


@given(st.integers(1, 2000), st.data())
def test_it_is_scipys_and_mirrors(trials, data):
    successes = data.draw(st.integers(0, trials))
    found = binomial_interval(successes, trials)
    exact = stats.binomtest(successes, trials).proportion_ci(method="exact")
    assert found[1:3] == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.low <= found.share == successes / trials <= found.high
    other = binomial_interval(trials - successes, trials)
    assert other[1:3] == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)
    assert found.basis == f"95 % interval, Clopper-Pearson, {trials:,} draws"


def test_no_draw_leaves_everything_open():
    assert binomial_interval(0, 0)[1:3] == (0, 1) and math.isnan(binomial_interval(0, 0).share)


@pytest.mark.parametrize("seeds", SIZES)
def test_intervals_of_pairs_cover_the_ratio_and_the_difference(seeds):
    rng = np.random.default_rng(seeds)
    ratio, gap, covered = 1.7, -0.4, {"ratio": 0, "gap": 0}
    for _ in range(SAMPLES):
        common, noise = rng.normal(0, 3, seeds), rng.normal(0, 0.2, (2, seeds))
        one, two = common + noise[0], common + noise[1]
        found = paired_ratio(np.exp(one).tolist(), (ratio * np.exp(two)).tolist()).interval
        covered["ratio"] += found.low <= ratio <= found.high
        found = paired_difference(one.tolist(), (two + gap).tolist()).interval
        covered["gap"] += found.low <= gap <= found.high
    for count in covered.values():
        assert abs(count / SAMPLES - 0.95) <= FOUR_ERRORS


@pytest.mark.parametrize("draws", [*SIZES, 60])
@pytest.mark.parametrize("wins", [(0.9, 0.1), (0.5, 0.5), (0.02, 0.97)])
def test_strata_that_were_sampled_cover_the_share(draws, wins):
    """A third of the draws needs simulating; of these at most four are."""
    cached = lru_cache(lambda *strata: stratified_interval([Stratum(*s) for s in strata]))
    rng, hard = np.random.default_rng(draws), 0.35
    truth = (1 - hard) * wins[0] + hard * wins[1]
    covered = 0
    for count in rng.binomial(draws, hard, SAMPLES):
        easy, simulated = draws - count, min(count, 4)
        strata = [(easy, easy, rng.binomial(easy, wins[0]))]
        strata += [(count, simulated, rng.binomial(simulated, wins[1]))] if count else []
        found = cached(*strata)
        covered += found.low <= truth <= found.high
    assert covered / SAMPLES >= 0.95 - FOUR_ERRORS


def test_strata_weigh_by_their_draws_and_complete_ones_are_one():
    found = stratified_interval([Stratum(900, 900, 90), Stratum(100, 10, 5)])
    assert found.share == pytest.approx((90 + 100 * 0.5) / 1000)
    assert found.low < found.share < found.high and found.trials == 910
    complete = stratified_interval([Stratum(900, 900, 90), Stratum(100, 100, 50)])
    assert complete == binomial_interval(140, 1000)
    unknown = stratified_interval([Stratum(500, 500, 250), Stratum(500, 0, 0)])
    assert unknown.share == 0.5 and unknown.low < 0.25 and unknown.high > 0.75


@pytest.mark.parametrize("clusters", [*SIZES, 32])
@pytest.mark.parametrize("concentration", [0.05, 0.5, 4.0, 1e6])
@pytest.mark.parametrize("truth", [0.5, 0.97])
def test_clusters_cover_the_share_however_alike_their_draws_are(clusters, concentration, truth):
    rng, each = np.random.default_rng(clusters), 20
    a, b = concentration * truth, concentration * (1 - truth)
    shares = np.sort(rng.binomial(each, rng.beta(a, b, (600, clusters))) / each, axis=1)
    rows, counts = np.unique(shares, axis=0, return_counts=True)
    ends = [clustered_interval(row, each * clusters)[1:3] for row in rows]
    covered = sum(
        count for (low, high), count in zip(ends, counts, strict=True) if low <= truth <= high
    )
    assert covered / len(shares) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / len(shares))


def test_clusters_alike_count_nearly_as_draws_and_unanimous_ones_once_each():
    found, whole = clustered_interval([0.25] * 32, 1000), binomial_interval(250, 1000)
    assert found.share == 0.25 and found.trials == 1000
    assert whole.high - whole.low < found.high - found.low < 2.5 * (whole.high - whole.low)
    assert clustered_interval([1.0] * 10, 1000)[:3] == binomial_interval(10, 10)[:3]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: binomial_interval(4, 3),
        lambda: binomial_interval(-1, 3),
        lambda: stratified_interval([Stratum(3, 4, 1)]),
        lambda: clustered_interval([0.5], 10),
        lambda: clustered_interval([0.5, 1.5], 10),
    ],
)
def test_what_is_no_share_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()
