"""Tables: the best point, who wins where, and no verdict that seeds alone could explain."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lab import ToyLab, axis, study

from hybridsim.reports.statistics import log_interval, paired_ratio
from hybridsim.studies.questions.table import Table

COUNTS = axis({"machine.spus.count": [1, 2, 4]})
LINKS = axis({"machine.link.bandwidth": ["10 Gb/s", "50 Gb/s"]})
QUESTION = Table(kind="table")


def noisy(mean, values, seed, size=0.1):
    key = zlib.crc32(f"{sorted(values.items())}{seed}".encode())
    return mean * math.exp(np.random.default_rng(key).normal(0, size))


def test_the_best_of_one_side_has_students_interval_over_its_seeds():
    times = {1: 3.0, 2: 2.0, 4: 5.0}
    found = {}

    def outcome(side, values, seed):
        value = times[values["machine.spus.count"]] * (1 + 0.01 * seed)
        found.setdefault(values["machine.spus.count"], []).append(value)
        return {"seconds": value}

    lab = ToyLab(study(["kfac"], [COUNTS], seeds=4), outcome)
    answer = QUESTION.answer(lab)
    interval = log_interval(found[2])
    best = answer.facts["best"]
    assert best["machine.spus.count"] == 2 and best["side"] == "kfac"
    assert (best["mean"], best["low"], best["high"]) == pytest.approx(interval[:3])
    assert answer.facts["no_detectable_difference"] == 0
    assert "at 2 SPUs" in answer.sentence and "(95 % over 4 seeds)" in answer.sentence
    assert answer.sentence.startswith("Lowest seconds: 2.03 s [1.99 s")
    assert len(answer.table) == 3 and answer.trusted


def test_points_that_differ_by_seeds_only_are_said_to():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.3, (3, 5))
    where = {1: 0, 2: 1, 4: 2}

    def outcome(side, values, seed):
        return {"seconds": math.exp(noise[where[values["machine.spus.count"]], seed])}

    answer = QUESTION.answer(ToyLab(study(["kfac"], [COUNTS], seeds=5), outcome))
    assert "no detectable difference from 2 of the other 2 points" in answer.sentence


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_two_sides_win_where_a_paired_t_test_says_so(seeds, draw):
    rng = np.random.default_rng(draw)
    logs = rng.normal(0, 0.3, (2, 3, 2, seeds)) + rng.normal(0, 0.5, (2, 3, 2, 1))
    where = {1: 0, 2: 1, 4: 2, "10 Gb/s": 0, "50 Gb/s": 1, "a": 0, "b": 1}

    def outcome(side, values, seed):
        place = tuple(where[v] for v in (side, *values.values()))
        return {"joules": math.exp(logs[(*place, seed)])}

    lab = ToyLab(study(["a", "b"], [COUNTS, LINKS], seeds=seeds), outcome)
    answer = Table(kind="table", measure="joules").answer(lab)
    wins = {"a": 0, "b": 0}
    for one, two in zip(logs[0].reshape(-1, seeds), logs[1].reshape(-1, seeds), strict=True):
        tested = paired_ratio(np.exp(two).tolist(), np.exp(one).tolist())
        if tested.detectable:
            wins["a" if tested.interval.mean < 1 else "b"] += 1
    assert answer.facts["wins"] == wins
    assert answer.facts["same"] == 6 - sum(wins.values())
    assert len(answer.sentence) <= 300
    if max(wins.values()):
        winner = max(wins, key=wins.get)
        assert f"at {wins[winner]} of 6 points" in answer.sentence


def test_two_sides_at_one_point():
    def outcome(side, values, seed):
        return {"seconds": (1.0 if side == "thermodynamic" else 1.3) * (1 + 0.1 * seed)}

    sides = ["thermodynamic", "digital"]
    answer = QUESTION.answer(ToyLab(study(sides, seeds=5), outcome))
    assert answer.sentence == (
        "Thermodynamic beats digital in seconds by 1.3 times [1.3, 1.3] (95 % over 5 seeds)"
    )
    alone = QUESTION.answer(ToyLab(study(sides), outcome))
    assert alone.sentence.endswith("by 1.3 times (one seed: not tested)")


def test_a_difference_of_seeds_only_is_none():
    noise = np.random.default_rng(0).normal(0, 0.2, (2, 5))

    def outcome(side, values, seed):
        return {"seconds": math.exp(noise["ab".index(side), seed])}

    answer = QUESTION.answer(ToyLab(study(["a", "b"], seeds=5), outcome))
    assert answer.sentence.startswith("No detectable difference between a and b in seconds: ratio")
    assert answer.facts["same"] == 1


@pytest.mark.parametrize("status", ["diverged", "refused", "missed"])
def test_a_side_that_does_not_get_there_loses_and_marked_ones_win_nothing(status):
    def outcome(side, values, seed):
        if side == "b" and seed == 2:
            return {"reached": False} if status == "missed" else {"status": status}
        return {"seconds": 100.0 if side == "a" else 1.0, "reached": True}

    answer = QUESTION.answer(ToyLab(study(["a", "b"], seeds=3), outcome))
    assert answer.facts["wins"] == {"a": 1, "b": 0} and answer.trusted
    assert answer.sentence.startswith("A beats b in seconds because b does not get there")
    assert any("did not get there" in note for note in answer.notes)

    def marked(side, values, seed):
        mark = "solver error 0.41 above 0.3" if side == "a" else ""
        return {**outcome(side, values, seed), "mark": mark}

    answer = QUESTION.answer(ToyLab(study(["a", "b"], seeds=3), marked))
    assert answer.facts["wins"] == {"a": 0, "b": 0} and not answer.trusted
    assert answer.sentence.startswith("Not trusted: ")
    assert answer.sentence.endswith("but a: solver error 0.41 above 0.3")


def test_runs_that_failed_are_left_out_with_their_reason():
    def outcome(side, values, seed):
        if side == "a" and seed == 1:
            return {"status": "failed", "reason": "ValueError: x"}
        return {"seconds": 1.0 if side == "a" else 2.0 + 0.01 * seed}

    answer = QUESTION.answer(ToyLab(study(["a", "b"], seeds=4), outcome))
    assert answer.facts["wins"] == {"a": 1, "b": 0} and "over 3 seeds" in answer.sentence
    assert (
        "1 of 8 runs have no seconds and are left out, e.g. a, seed 1: failed: ValueError: x."
        in (answer.notes)
    )


def test_a_marked_best_gives_way_to_a_trusted_one_and_is_named():
    def outcome(side, values, seed):
        count = values["machine.spus.count"]
        return {"seconds": 1 / count, "mark": "settling was never run live" if count == 4 else ""}

    answer = QUESTION.answer(ToyLab(study(["kfac"], [COUNTS]), outcome))
    assert answer.facts["best"]["machine.spus.count"] == 2 and answer.trusted
    assert any(note.startswith("Lower, but not trusted: 250 ms at 4") for note in answer.notes)


def test_nothing_known_and_nothing_reached_are_told_apart():
    lab = ToyLab(study(["kfac"], [COUNTS]), lambda *_: {"how": "timing"})
    answer = QUESTION.answer(lab)
    assert answer.sentence == "Nothing is known of seconds at any point"
    assert any("nothing was trained" in note for note in answer.notes)
    lab = ToyLab(study(["kfac"], [COUNTS]), lambda *_: {"reached": False})
    assert "is not reached" in QUESTION.answer(lab).sentence


def test_what_costs_nothing_is_compared_without_logarithms():
    def outcome(side, values, seed):
        return {"joules": 0.0 if side == "a" else 1.0 + seed}

    answer = Table(kind="table", measure="joules").answer(
        ToyLab(study(["a", "b"], seeds=5), outcome)
    )
    assert answer.facts["wins"]["a"] == 1
    same = Table(kind="table", measure="joules").answer(
        ToyLab(study(["a", "b"], seeds=5), lambda *_: {"joules": 0.0})
    )
    assert same.facts["same"] == 1


@pytest.mark.parametrize(
    ("sides", "axes", "kinds"),
    [
        (["a", "b"], [COUNTS, LINKS], ["heatmap"]),
        (["a"], [COUNTS, LINKS, axis({"seed": [1, 2]})], ["heatmap"]),
        (["a", "b"], [COUNTS], ["scatter"]),
        (["a", "b", "c"], [LINKS, COUNTS], ["scatter"] * 9),
        (["a", "b"], [axis({"x": [1, 2], "y": ["u", "v"]}, "zip")], ["scatter"]),
        (["a", "b", "c"], [], ["scatter"]),
        (["a", "b"], [], ["scatter"]),
    ],
)
def test_pictures_by_the_number_of_axes(sides, axes, kinds):
    def outcome(side, values, seed):
        return {"seconds": noisy(1 + len(side), values, seed), "mark": "x" if seed else ""}

    lab = ToyLab(study(sides, axes, seeds=2), outcome)
    answer = QUESTION.answer(lab)
    figure = QUESTION.picture(lab, answer)
    shown = [trace.type for trace in figure.data]
    assert set(kinds) <= set(shown) and len(shown) >= len(kinds)
    assert figure.layout.meta and figure.to_json()
