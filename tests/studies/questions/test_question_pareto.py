"""Pareto fronts equal brute force; marked points and points without a value are not on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lab import ToyLab, axis, study

from hybridsim.studies.questions.pareto import Pareto
from hybridsim.studies.questions.table import Table

QUESTION = Pareto(kind="pareto")
VALUES = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 3.0, 4.5, math.inf]), st.sampled_from([1.0, 2.0, 3.0])),
    min_size=2,
    max_size=14,
)


@settings(max_examples=25)
@given(VALUES, st.data())
def test_the_front_is_that_of_brute_force(values, data):
    marks = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))

    def outcome(side, own, seed):
        x, y = values[own["n"]]
        mark = "solver error 0.4 above 0.3" if marks[own["n"]] else ""
        if math.isinf(x):
            return {"reached": False, "mark": mark}
        return {"seconds": x * 1.1**seed, "joules": y / 1.1**seed, "reached": True, "mark": mark}

    lab = ToyLab(study(["kfac"], [axis({"n": range(len(values))})], seeds=2), outcome)
    answer = QUESTION.answer(lab)
    able = [i for i, (x, _) in enumerate(values) if not marks[i] and math.isfinite(x)]
    best = {
        i
        for i in able
        if not any(
            values[j][0] <= values[i][0] and values[j][1] <= values[i][1] and values[j] != values[i]
            for j in able
        )
    }
    assert {row["n"] for row in answer.facts["front"]} == best
    assert set(answer.table["n"][answer.table["front"]]) == best
    assert len(answer.sentence) <= 300 and answer.trusted == bool(best or not any(marks))
    if len(best) > 1:
        assert f"{len(best)} of {len(values)} points are on the front" in answer.sentence
    figure = QUESTION.picture(lab, answer)
    hollow = [s for trace in figure.data[1:] for s in trace.marker.symbol if s == "circle-open"]
    assert len(hollow) == sum(marks[i] for i, (x, _) in enumerate(values) if math.isfinite(x))


def test_points_behind_the_front_by_seeds_only_are_said():
    noise = np.random.default_rng(5).normal(0, 0.2, (4, 2, 6))

    def outcome(side, own, seed):
        n = own["n"]
        found = noise[n, :, seed] + (3 if n == 3 else 0)
        return dict(zip(("seconds", "joules"), np.exp(found).tolist(), strict=True))

    lab = ToyLab(study(["kfac"], [axis({"n": range(4)})], seeds=6), outcome)
    answer = QUESTION.answer(lab)
    front = {row["n"] for row in answer.facts["front"]}
    behind = {row["n"] for row in answer.facts["undetectably_behind"]}
    assert front | behind == {0, 1, 2} and not front & behind
    assert "(means over 6 seeds)" in answer.sentence


def test_one_point_can_be_best_in_both_and_a_side_without_the_axis_counts_once():
    def outcome(side, own, seed):
        value = 0.5 if side == "digital" else own["n"] + 1.0
        return {"seconds": value, "joules": value}

    varied = axis({"n": range(4)}, sides=["thermodynamic"])
    lab = ToyLab(study(["thermodynamic", "digital"], [varied]), outcome)
    lab.table.loc[lab.table["side"] == "digital", "point"] = "one"
    answer = QUESTION.answer(lab)
    assert answer.facts["points"] == 5
    assert answer.sentence.startswith(
        "Digital (500 ms, 500 mJ) is best of 5 points in both seconds and joules"
    )


@pytest.mark.parametrize(
    ("asked", "options", "path"),
    [
        ({"y": "seconds"}, {}, ("question", "y")),
        ({}, {"axes": []}, ("axes",)),
        ({}, {"backend": "timing"}, ("question", "x")),
        ({"x": "step"}, {"target": None}, ("question", "x")),
    ],
)
def test_studies_that_do_not_fit(asked, options, path):
    given_axes = options.pop("axes", [axis({"n": [1, 2]})])
    found = Pareto(kind="pareto", **asked).problems(study(["a"], given_axes, **options))
    assert path in [where for where, _, _ in found]


def test_timing_only_runs_have_measures_of_the_whole_run():
    timed = study(["a"], [axis({"n": [1, 2]})], backend="timing")
    assert not Pareto(kind="pareto", x="step_seconds", y="run_joules").problems(timed)
    assert Table(kind="table").problems(timed)[0][0] == ("question", "measure")
    free = study(["a"], [axis({"n": [1, 2]})], backend="timing", target=None)
    assert not Table(kind="table").problems(free)
