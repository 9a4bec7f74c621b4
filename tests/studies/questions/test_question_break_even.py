"""Break-even: all sign changes of a dense grid, intervals that cover, none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lab import ToyLab, axis, study

from hybridsim.scenario.quantity import parse_quantity
from hybridsim.studies.questions._cells import Cell
from hybridsim.studies.questions._contest import contest
from hybridsim.studies.questions._crossings import (
    Line,
    Reading,
    Scale,
    crossings,
    refine,
    refine_ends,
)
from hybridsim.studies.questions.break_even import BreakEven

SIDES = ["thermodynamic", "digital"]
LINK, SPUS = "machine.link.bandwidth", "machine.spus.count"
GRID = [f"{10 * 2**k} Gb/s" for k in range(8)]
QUESTION = BreakEven(kind="break_even")


def lab_of(gap, values, field=LINK, seeds=1, axes=(), **extra):
    """``gap(x, seed, values)``: logarithm of first over second."""

    def outcome(side, own, seed):
        raw = own[field]
        x = parse_quantity(raw, "b/s") if isinstance(raw, str) else raw
        found = gap(x, seed, own) if side == SIDES[0] else 0.0
        if found == math.inf:
            return {"reached": False}
        return {"seconds": 2 * math.exp(found), "reached": True} | {
            key: value(x, side) for key, value in extra.items()
        }

    return ToyLab(study(SIDES, [axis({field: values}), *axes], seeds=seeds), outcome)


def roots_of(answer, line=0):
    return [one["at"] for one in answer.facts["lines"][line]["crossings"]]


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=7, max_size=7), st.data())
def test_all_sign_changes_of_a_dense_grid_are_found_where_neighbours_of_the_grid_see_them(
    cells, data
):
    """A polynomial in the logarithm with at most one root between neighbours of the grid."""
    roots = [
        math.log(10e9) + math.log(2) * (k + data.draw(st.floats(0.05, 0.95)))
        for k, some in enumerate(cells)
        if some
    ]
    sign = data.draw(st.sampled_from([-1, 1]))

    def gap(x, seed, values):
        return sign * 0.3 * math.prod(math.log(x) - root for root in roots)

    answer = QUESTION.answer(lab_of(gap, GRID))
    dense = np.exp(np.linspace(math.log(10e9), math.log(1280e9), 9001)) * 1.00001
    values = np.sign([gap(x, 0, None) for x in dense])
    places = dense[:-1][values[1:] != values[:-1]]
    found = roots_of(answer)
    assert len(found) == len(roots) == len(places)
    assert found == pytest.approx(places.tolist(), rel=0.002)
    for one, place in zip(answer.facts["lines"][0]["crossings"], places, strict=True):
        low, high = one["between"]
        assert low <= place * 1.001 and place <= high * 1.001 and high / low <= 1.0101
        assert one["kind"] == "sign" and one["trusted"]
    assert len(answer.sentence) <= 300
    if not roots:
        who = SIDES if sign < 0 else SIDES[::-1]
        assert f"no break-even: {who[0]} beats {who[1]}" in answer.sentence.lower()


def test_one_crossing_reads_like_a_sentence():
    noise = [-0.1, -0.02, 0.0, 0.03, 0.09]
    lab = lab_of(lambda x, seed, _: math.log(32e9 / x) + noise[seed], GRID, seeds=5)
    answer = QUESTION.answer(lab)
    assert answer.sentence.startswith(
        "Thermodynamic beats digital in seconds from link bandwidth 32 Gb/s ["
    )
    assert answer.sentence.endswith("] on (95 % over 5 seeds)")
    one = answer.facts["lines"][0]["crossings"][0]
    assert one["low"] < one["at"] < one["high"]
    # The difference is a shift that all places share: the interval is that of the mean shift.
    from hybridsim.reports.statistics import mean_interval

    found = mean_interval(noise)
    assert one["low"] == pytest.approx(32e9 * math.exp(found.low), rel=0.002)
    assert one["high"] == pytest.approx(32e9 * math.exp(found.high), rel=0.002)
    assert one["wins_before"] == "digital" and one["wins_behind"] == "thermodynamic"
    lab = lab_of(lambda x, seed, _: math.log(x / 32e9), GRID)
    assert QUESTION.answer(lab).sentence == (
        "Thermodynamic beats digital in seconds up to link bandwidth 32 Gb/s (one seed: not tested)"
    )


def test_whole_numbers_are_bisected_to_neighbours():
    lab = lab_of(lambda x, seed, _: math.log(8.5 / x), [1, 4, 16, 64], SPUS, seeds=3)
    answer = QUESTION.answer(lab)
    assert answer.sentence == (
        "Thermodynamic beats digital in seconds from between 8 and 9 SPUs [8, 9] on "
        "(95 % over 3 seeds)"
    )
    assert all(type(values[SPUS]) is int for values in lab.asked)
    lab = lab_of(lambda x, seed, _: math.log(8 / x), [1, 4, 16, 64], SPUS)
    one = QUESTION.answer(lab).facts["lines"][0]["crossings"][0]
    assert one["at"] == 8 and one["equal_at"] == [8] and one["between"] == [8, 8]


def test_a_field_that_takes_fractions_is_bisected_to_them_from_whole_numbers_too():
    lab = lab_of(lambda x, seed, _: math.log(2.5 / x), [1, 2, 4], "training.algorithm.damping")
    assert roots_of(QUESTION.answer(lab)) == pytest.approx([2.5], rel=0.001)


def test_several_crossings_are_all_said():
    def gap(x, seed, _):
        return math.sin(math.log(x / 15e9) * math.pi / math.log(6))

    answer = QUESTION.answer(lab_of(gap, GRID))
    assert roots_of(answer) == pytest.approx([15e9, 90e9, 540e9], rel=0.002)
    assert answer.sentence == (
        "Thermodynamic beats digital in seconds up to link bandwidth 15 Gb/s and from link "
        "bandwidth 90 Gb/s to link bandwidth 540 Gb/s (one seed: not tested)"
    )


def test_none_in_range_says_so_with_the_smallest_margin():
    lab = lab_of(lambda x, seed, _: math.log(2) + 0.1 * abs(math.log(x / 80e9)), GRID, seeds=3)
    answer = QUESTION.answer(lab)
    assert answer.sentence == (
        "No break-even: digital beats thermodynamic in seconds throughout, from 10 Gb/s to link "
        "bandwidth 1.28 Tb/s, by 2 times at least (at link bandwidth 80 Gb/s) (95 % over 3 seeds)"
    )
    line = answer.facts["lines"][0]
    assert line["throughout"] == "digital" and line["smallest_margin"] == pytest.approx(2)
    assert not lab.asked and any("up to a factor 2 apart" in note for note in answer.notes)


def test_where_only_some_places_tell_the_sides_apart_it_is_said():
    """A gap that falls from a factor 8 into the noise: never an answer 'throughout'."""
    noise = [-0.9, 0.1, 0.8]
    lab = lab_of(lambda x, seed, _: 0.3 + math.log(8) * (x < 15e9) + noise[seed], GRID, seeds=3)
    answer = QUESTION.answer(lab)
    assert "beats" not in answer.sentence.partition(":")[0]
    lab = lab_of(lambda x, seed, _: 0.3 + 3 * (x < 15e9) + noise[seed], GRID, seeds=3)
    assert QUESTION.answer(lab).sentence.startswith(
        "No break-even in seconds from 10 Gb/s to link bandwidth 1.28 Tb/s: digital beats "
        "thermodynamic at 1 of 8 places, by 27.1 times at least (at link bandwidth 10 Gb/s), "
        "elsewhere no difference is detectable"
    )


def test_seeds_alone_are_no_break_even():
    noise = np.random.default_rng(1).normal(0, 1, (8, 5))

    def gap(x, seed, _):
        place = math.log2(x / 10e9)
        return float(np.interp(place, range(8), noise[:, seed]))

    answer = QUESTION.answer(lab_of(gap, GRID, seeds=5))
    assert answer.sentence.startswith("No detectable difference between thermodynamic and digital")
    assert all(not one["detectable"] for one in answer.facts["lines"][0]["crossings"])
    assert any("Crossings of single seeds" in note for note in answer.notes)


def test_a_side_that_stops_getting_there_is_a_crossing_of_another_kind():
    lab = lab_of(lambda x, seed, _: -0.5 if x < 100e9 else math.inf, GRID, seeds=3)
    answer = QUESTION.answer(lab)
    (one,) = answer.facts["lines"][0]["crossings"]
    assert one["kind"] == "reach" and one["at"] == pytest.approx(100e9, rel=0.01)
    assert "where thermodynamic no longer gets there" in answer.sentence
    assert any("of another kind" in note for note in answer.notes)

    def lost(x, seed, _):
        return 0.5 if x < 100e9 else math.inf

    # Digital wins on both sides of it: no break-even.
    assert not roots_of(QUESTION.answer(lab_of(lost, GRID, seeds=3)))


def test_a_crossing_of_marked_points_is_not_trusted():
    marks = {"mark": lambda x, side: "solver error 0.41 above 0.3" if side == SIDES[0] else ""}
    lab = lab_of(lambda x, seed, _: math.log(32e9 / x), GRID, seeds=3, **marks)
    answer = QUESTION.answer(lab)
    assert not answer.trusted and not answer.facts["lines"][0]["crossings"][0]["trusted"]
    assert answer.sentence.startswith("Not trusted (thermodynamic: solver error 0.41 above 0.3): ")
    alone = QUESTION.answer(lab_of(lambda x, seed, _: math.log(32e9 / x), GRID, **marks))
    assert alone.sentence.endswith("from link bandwidth 32 Gb/s on (one seed: not tested)")


def test_other_axes_have_a_crossing_each():
    counts = axis({SPUS: [1, 2, 4]})
    places = {1: 30e9, 2: 200e9, 4: 1e14}

    def gap(x, seed, values):
        return math.log(places[values[SPUS]] / x)

    lab = lab_of(gap, GRID, seeds=2, axes=[counts])
    answer = BreakEven(kind="break_even", axis=LINK).answer(lab)
    assert roots_of(answer, 0) == pytest.approx([30e9], rel=1e-3)
    assert roots_of(answer, 1) == pytest.approx([200e9], rel=1e-3)
    assert answer.facts["lines"][2]["throughout"] == "digital"
    found = answer.facts["lines"][0]["crossings"][0]
    assert answer.sentence.startswith(
        "Thermodynamic beats digital in seconds from link bandwidth 30 Gb/s [30 Gb/s, 30 Gb/s] "
        "on at 1 SPU; from link bandwidth 200 Gb/s [200 Gb/s, 200 Gb/s] on at 2 SPUs; nowhere at 4"
    )
    assert found["detectable"] and len(answer.sentence) <= 300
    assert len(answer.table) == 24 + len(lab.asked)


def test_means_that_cross_within_the_noise_of_one_line_are_not_throughout():
    """At 1 SPU a clear crossing; at 2 one side is ahead by next to nothing, then far behind."""
    noise = [-0.9, 0.1, 0.8]

    def gap(x, seed, values):
        if values[SPUS] == 1:
            return math.log(30e9 / x)
        return noise[seed] + (-0.02 if x < 15e9 else 4.0 if x > 700e9 else 0.02)

    lab = lab_of(gap, GRID, seeds=3, axes=[axis({SPUS: [1, 2]})])
    answer = BreakEven(kind="break_even", axis=LINK).answer(lab)
    assert any(answer.facts["lines"][1]["crossings"])
    assert "throughout" not in answer.sentence
    assert "; nowhere detectably at 2 SPUs" in answer.sentence


def test_many_other_values_are_summed_up_by_the_lowest_and_the_highest_place():
    counts = axis({SPUS: [1, 2, 3, 4, 5, 6, 7, 8]})

    def gap(x, seed, values):
        return math.log(20e9 * 1.5 ** values[SPUS] / x)

    lab = lab_of(gap, GRID[:-1], axes=[counts])
    answer = BreakEven(kind="break_even", axis=LINK).answer(lab)
    assert answer.sentence == (
        "Thermodynamic beats digital in seconds from link bandwidth 30 Gb/s (1 SPU) to link "
        "bandwidth 513 Gb/s (8 SPUs) on, at 8 of 8 values of SPUs (one seed: not tested)"
    )


def test_where_the_first_side_never_wins_the_second_is_spoken_of():
    """Digital wins until it does not get there either."""

    def outcome(side, values, seed):
        x = parse_quantity(values[LINK], "b/s")
        if side == SIDES[0] or x > 100e9:
            return {"reached": False}
        return {"seconds": 1.0, "reached": True}

    answer = QUESTION.answer(ToyLab(study(SIDES, [axis({LINK: GRID})], seeds=2), outcome))
    assert answer.sentence.startswith(
        "Digital beats thermodynamic in seconds up to link bandwidth 100 Gb/s, where digital no "
        "longer gets there"
    )


def test_places_of_which_nothing_is_known_are_not_asked_for_again():
    def outcome(side, values, seed):
        x = parse_quantity(values[LINK], "b/s")
        if values[LINK] not in GRID:
            return {"status": "failed", "reason": "x"}
        return {"seconds": 40e9 / x if side == SIDES[0] else 0.9}

    answer = QUESTION.answer(ToyLab(study(SIDES, [axis({LINK: GRID})]), outcome))
    (one,) = answer.facts["lines"][0]["crossings"]
    assert one["between"] == [40e9, 80e9]
    assert any("runs have no seconds and are left out" in note for note in answer.notes)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_place_where_the_true_means_are_equal(seeds):
    """Seeds shift the ratio and tilt it: the place is 1, its interval covers it in 95 %."""
    samples, truth = 200, 1.0
    scale = Scale(True, False, 99.9, 0.01)
    rng, covered, both = np.random.default_rng(seeds), 0, 0
    for _ in range(samples):
        shift, tilt = rng.normal(0, 0.3, seeds), rng.normal(0, 0.3, seeds)

        def ask(places, shift=shift, tilt=tilt):
            for line, at in places:
                first, second = Cell("a", {}), Cell("b", {})
                gap = (1 + tilt) * math.log(at / truth) + shift
                first.by_seed = dict(enumerate(np.exp(gap).tolist()))
                second.by_seed = dict.fromkeys(range(seeds), 1.0)
                line.readings[at] = Reading(at, at, contest(first, second), (first, second))

        line = Line({})
        ask([(line, at) for at in (0.001, 0.1, 0.9, 10.0, 1000.0)])
        refine([line], scale, ask)
        refine_ends([line], scale, ask)
        found = crossings(line, scale)
        if len(found) == 1 and found[0].detectable:
            both += 1
            covered += found[0].low <= truth <= found[0].high
        else:
            covered += 1  # open: it says that it cannot tell
    assert both > 0.5 * samples
    assert abs(covered / samples - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / samples)


def test_pictures():
    lab = lab_of(lambda x, seed, _: math.log(32e9 / x) + 0.1 * seed, GRID, seeds=3)
    answer = QUESTION.answer(lab)
    figure = QUESTION.picture(lab, answer)
    assert figure.layout.xaxis.type == "log" and figure.layout.meta and figure.to_json()
    assert len(figure.layout.shapes) == 3


@pytest.mark.parametrize(
    ("sides", "axes", "asked", "path"),
    [
        (["a"], [axis({LINK: GRID})], None, ("scenarios",)),
        (["a", "b", "c"], [axis({LINK: GRID})], None, ("scenarios",)),
        (["a", "b"], [], None, ("axes",)),
        (["a", "b"], [axis({LINK: GRID[:1]})], None, ("axes",)),
        (["a", "b"], [axis({"m": ["x", "y"]})], None, ("axes",)),
        (["a", "b"], [axis({LINK: GRID, SPUS: range(8)}, "zip")], None, ("axes",)),
        (["a", "b"], [axis({LINK: GRID}), axis({SPUS: [1, 2]})], None, ("question", "axis")),
        (["a", "b"], [axis({LINK: GRID})], SPUS, ("question", "axis")),
        (
            ["a", "b"],
            [axis({"x": [1, 2]}, "sample"), axis({"y": [1, 2]}, "sample")],
            None,
            ("axes",),
        ),
    ],
)
def test_studies_that_do_not_fit(sides, axes, asked, path):
    ((where, expected, got),) = BreakEven(kind="break_even", axis=asked).problems(
        study(sides, axes)
    )
    assert where == path and expected and got


def test_studies_that_fit():
    assert not QUESTION.problems(study(SIDES, [axis({LINK: GRID}), axis({"m": ["x", "y"]})]))
    two = study(SIDES, [axis({LINK: GRID}), axis({SPUS: [1, 2]})])
    assert not BreakEven(kind="break_even", axis=SPUS).problems(two)
