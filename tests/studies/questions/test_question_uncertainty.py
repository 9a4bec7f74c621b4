"""Verdicts over draws: known win shares lie in their intervals, marked sides win nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toy_lab import ToyLab, axis, constant, study

from hybridsim.errors import InputError
from hybridsim.reports.statistics import detectable_rows, paired_ratio
from hybridsim.studies.load import load_study
from hybridsim.studies.questions._draws import (
    Outcomes,
    deciding,
    evaluated,
    log_ratios,
    shares_of,
    values_at,
)
from hybridsim.studies.questions.uncertainty import Uncertainty

SIDES = ["a", "b"]
X, Y = constant("gpu.x", 1.0, 100.0), constant("gpu.y", 1.0, 10.0)
SHARED, IDLE = constant("gpu.shared", 0.1, 10.0), constant("spu.idle", 1.0, 2.0)
EVERY = [X, Y, SHARED, IDLE]


def priced(side, own, seed):
    """a wins in seconds where x < y, in 25 % of the draws; in joules where shared < 1, in 50 %."""
    z = own["gpu.shared"] * (1 + 0.1 * seed)
    seconds = z * own["gpu.x" if side == "a" else "gpu.y"]
    return {"seconds": seconds, "joules": z if side == "a" else 1.0 + 0.1 * seed}


def lab_of(seeds=1, draw_seed=0, constants=EVERY, price=priced, axes=()):
    found = study(SIDES, axes, seeds=seeds, draw_seed=draw_seed)
    return ToyLab(found, lambda *_: {"seconds": 1.0}, constants, price)


def wins(answer, measure="seconds", side="a", point=0):
    found = answer.facts["points"][point]["verdicts"][measure]["wins"][side]
    return found["share"], found["low"], found["high"]


def test_a_known_share_lies_in_its_interval_in_95_per_cent_of_studies():
    covered = {"seconds": 0, "joules": 0}
    question, studies = Uncertainty(kind="uncertainty", draws=100), 60
    for seed in range(studies):
        answer = question.answer(lab_of(draw_seed=seed))
        for measure, truth in (("seconds", 0.25), ("joules", 0.5)):
            _, low, high = wins(answer, measure)
            covered[measure] += low <= truth <= high
    for count in covered.values():
        assert count / studies >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / studies)


def test_the_sentence_the_deciding_constants_and_the_facts():
    answer = Uncertainty(kind="uncertainty").answer(lab_of(seeds=3))
    share, low, high = wins(answer)
    assert low < 0.25 < high and share == pytest.approx(0.25, abs=0.05)
    assert answer.sentence.startswith("B beats a in seconds in 7")
    assert "of what the constants allow and in joules in " in answer.sentence
    assert answer.sentence.endswith(
        "(95 %, 1,000 draws of 4 constants, means over 3 seeds); shared decides it"
    )
    deciding = answer.facts["points"][0]["verdicts"]["seconds"]["deciding"]
    assert [one["constant"] for one in deciding] == ["gpu.x", "gpu.y"]
    # P(x < y) is 1 - log x in the lowest half of x: 1 - 1/3 in its lowest third; none above.
    assert deciding[0]["won_in_lowest_third"] == pytest.approx(2 / 3, abs=0.06)
    assert deciding[0]["won_in_highest_third"] == 0
    assert wins(answer, side="b")[0] + share == pytest.approx(1)
    assert len(answer.sentence) <= 300 and answer.trusted


def test_what_seeds_explain_is_no_victory_however_many_draws_agree():
    noise = {side: [-0.5, 0.6, 0.3] if side == "a" else [0.5, -0.2, -0.3] for side in SIDES}

    def noisy(side, own, seed):
        return {"seconds": math.exp(noise[side][seed]) * own["gpu.x"] ** 0.001, "joules": 1.0}

    question = Uncertainty(kind="uncertainty", draws=200, measures=["seconds"])
    answer = question.answer(lab_of(seeds=3, price=noisy))
    assert answer.sentence.startswith(
        "No detectable difference in any draw; b is lower than a in seconds in 100 % [98.2, 100]"
    )

    def some(side, own, seed):
        found = noisy(side, own, seed)["seconds"]
        return {"seconds": found * (100 if side == "a" and own["gpu.y"] < 10**0.5 else 1)}

    answer = question.answer(lab_of(seeds=3, price=some))
    found = answer.facts["points"][0]["verdicts"]["seconds"]
    assert found["wins"]["b"]["share"] == 1
    assert found["wins_detectably"]["b"]["share"] == pytest.approx(0.5, abs=0.12)
    assert " detectably)" in answer.sentence and "B beats a in seconds in 100 %" in answer.sentence


def test_draws_are_log_uniform_or_uniform_from_zero_and_whole_numbers_whole():
    shares = np.linspace(0, 1, 10001)
    assert np.log(values_at(X, shares)) == pytest.approx(shares * math.log(100))
    assert values_at(constant("gpu.z", 0.0, 4.0), shares) == pytest.approx(4 * shares)
    bits = constant("spu.output_bits", 8, 12)
    values, counts = np.unique(values_at(bits, shares), return_counts=True)
    assert values.tolist() == [8, 9, 10, 11, 12]
    assert counts / counts.sum() == pytest.approx(
        [math.log((n + 0.5) / (n - 0.5)) / math.log(12.5 / 7.5) for n in range(8, 13)], abs=1e-3
    )


def test_a_constant_takes_the_same_values_whatever_else_is_drawn():
    assert shares_of(X, 50, 3).tolist() == shares_of(X, 50, 3).tolist()
    assert shares_of(X, 50, 3).tolist() != shares_of(Y, 50, 3).tolist()
    some = Uncertainty(kind="uncertainty", constants=["gpu.x", "gpu.y"]).answer(lab_of())
    assert wins(some) == wins(Uncertainty(kind="uncertainty").answer(lab_of()))
    assert any("Held at nominal: gpu.shared, spu.idle." in note for note in some.notes)


@pytest.mark.parametrize("draw_seed", range(3))
def test_draws_that_were_only_sampled_are_weighed_by_stratum(draw_seed):
    """Draws with x above 10 lose the recorded order: half of them, and a wins none of those."""
    lab = lab_of(draw_seed=draw_seed)
    lab.reordered = lambda side, own: own["gpu.x"] > 10
    answer = Uncertainty(kind="uncertainty", simulate=60).answer(lab)
    share, low, high = wins(answer)
    found = answer.facts["points"][0]["verdicts"]["seconds"]
    assert found["evaluated"] < 700 and found["not_retimed"] == pytest.approx(500, abs=80)
    assert share == pytest.approx(0.25, abs=0.06) and low < 0.25 < high
    full = wins(Uncertainty(kind="uncertainty").answer(lab_of(draw_seed=draw_seed)))
    assert high - low > full[2] - full[1]
    assert any(
        "change the order of requests; of these 60 were simulated" in n for n in answer.notes
    )
    # All simulated: as good as retimed.
    every = Uncertainty(kind="uncertainty", simulate=1000).answer(lab)
    assert wins(every) == full


def test_a_marked_side_wins_nothing():
    def marked(side, own, seed):
        mark = "solver error 0.41 above 0.3" if side == "b" else ""
        return {**priced(side, own, seed), "mark": mark}

    answer = Uncertainty(kind="uncertainty", draws=200).answer(lab_of(price=marked))
    assert wins(answer, side="b") == (0, 0, 0) and not answer.trusted
    assert answer.sentence.startswith("Not trusted (b is lower in 7")
    assert "wins none: solver error 0.41 above 0.3" in answer.sentence
    assert wins(answer, side="a")[0] > 0.15


def test_a_side_that_does_not_get_there_loses_and_neither_wins_nothing():
    def lost(side, own, seed):
        missed = side == "a" or (side == "b" and own["gpu.x"] > 10)
        return {"reached": False} if missed and seed == 1 else priced(side, own, seed)

    answer = Uncertainty(kind="uncertainty", draws=400).answer(lab_of(seeds=2, price=lost))
    assert wins(answer)[0] == 0
    assert wins(answer, side="b")[0] == pytest.approx(0.5, abs=0.1)
    found = answer.facts["points"][0]["verdicts"]["seconds"]
    assert found["neither"] == round(400 * (1 - wins(answer, side="b")[0]))


def test_numeric_constants_are_held_and_named_or_vary_in_clusters():
    bits = constant("spu.output_bits", 8, 13, numeric=True)
    seen = []

    def numeric(side, own, seed):
        seen.append(own["spu.output_bits"])
        factor = 1.0 if own["spu.output_bits"] >= 11 else 100.0
        return {**priced(side, own, seed), "seconds": 5.0 if side == "b" else factor * own["gpu.x"]}

    lab = lab_of(constants=[*EVERY, bits], price=numeric)
    held = Uncertainty(kind="uncertainty", draws=300).answer(lab)
    assert set(seen) == {bits.value}
    assert any("Held at nominal (they change numbers" in note for note in held.notes)
    assert held.facts["points"][0]["numeric_points"] == 0
    seen.clear()
    varied = Uncertainty(kind="uncertainty", draws=300, numeric="vary", numeric_points=12)
    answer = varied.answer(lab)
    assert set(seen) == {8, 9, 10, 11, 12, 13}
    found = answer.facts["points"][0]["verdicts"]["seconds"]
    assert found["interval"]["a"] == "Korn-Graubard, 12 clusters"
    # A Latin hypercube: of 12 points so many have 11 bits or more as the range says.
    high_bits = math.log(13.5 / 10.5) / math.log(13.5 / 7.5)
    truth = high_bits * math.log(5) / math.log(100)
    share, low, high = wins(answer)
    assert share == pytest.approx(truth, abs=0.06) and low < truth < high


def test_clusters_of_which_some_draws_were_only_sampled_weigh_them_too():
    """Draws with x above 10 need simulating, of which a wins none: dropped, they would halve."""
    bits = constant("spu.output_bits", 8, 13, numeric=True)
    lab = lab_of(constants=[*EVERY, bits])
    lab.reordered = lambda side, own: own["gpu.x"] > 10
    question = Uncertainty(
        kind="uncertainty", numeric="vary", numeric_points=8, simulate=80, measures=["seconds"]
    )
    answer = question.answer(lab)
    share, low, high = wins(answer)
    assert share == pytest.approx(0.25, abs=0.06) and low < 0.25 < high
    assert wins(answer, side="b")[0] == pytest.approx(0.75, abs=0.06)


def test_behind_the_first_draw_that_was_not_evaluated_only_retimed_ones_count():
    again = np.array([0, 1, 1, 0, 1, 1, 0, 1, 0, 1], dtype=bool)
    lost = np.array([0, 0, 1, 0, 0, 1, 0, 0, 0, 0], dtype=bool)
    came = Outcomes(np.ones((2, 10, 1)), lost, again, ("", ""))
    assert np.flatnonzero(evaluated(came, 5)).tolist() == [0, 1, 3, 6, 8]
    assert np.flatnonzero(evaluated(came, 6)).tolist() == [0, 1, 3, 6, 7, 8, 9]
    assert evaluated(came._replace(lost=np.zeros(10, bool)), 5).all()


def test_over_an_axis_there_is_a_verdict_at_each_value():
    counts = axis({"machine.spus.count": [1, 10]})
    found = study(SIDES, [counts])

    class Lab(ToyLab):
        def with_constants(self, settings, values=None, simulate=60):
            count = values["machine.spus.count"]
            self.priced = lambda side, own, seed: {
                "seconds": own["gpu.x"] / (count if side == "a" else 1), "joules": 1.0,
            } if side == "a" else {"seconds": own["gpu.y"], "joules": 2.0}  # fmt: skip
            return super().with_constants(settings, values, simulate)

    lab = Lab(found, lambda *_: {"seconds": 1.0}, EVERY)
    question = Uncertainty(kind="uncertainty", draws=300)
    answer = question.answer(lab)
    assert wins(answer, point=0)[0] == pytest.approx(0.25, abs=0.08)
    assert wins(answer, point=1)[0] == pytest.approx(0.75, abs=0.08)
    assert "(at 1 SPU) to " in answer.sentence and "(at 10 SPUs)" in answer.sentence
    assert len(answer.table) == 4
    assert question.picture(lab, answer).layout.meta


def test_pictures():
    lab, question = lab_of(seeds=2), Uncertainty(kind="uncertainty", draws=200)
    answer = question.answer(lab)
    figure = question.picture(lab, answer)
    assert [trace.type for trace in figure.data] == ["bar"] * 3 and figure.layout.meta
    assert sum(figure.data[0].y) == pytest.approx(100)
    assert any("(assumed)" in name for name in figure.data[1].y)


def test_rows_are_tested_as_pairs_are():
    rng = np.random.default_rng(0)
    gaps = rng.normal(0, 1, (200, 4)) + rng.normal(0, 1, (200, 1))
    one_by_one = [paired_ratio([1.0] * 4, np.exp(row).tolist()).detectable for row in gaps]
    assert detectable_rows(gaps).tolist() == one_by_one
    assert not detectable_rows(gaps[:, :1]).any()
    assert not detectable_rows(np.full((2, 4), math.inf)).any()


def test_logarithms_of_ratios_of_what_did_not_get_there():
    inf, nan = math.inf, math.nan
    first = [[1, 2], [1, inf], [inf, 2], [inf, inf], [nan, 2], [nan, nan]]
    second = [[2, 2], [1, 1], [1, inf], [inf, 1], [1, 1], [1, 1]]
    gaps, _ = log_ratios(np.array([first, second], dtype=float))
    assert gaps[0] == pytest.approx(-math.log(2) / 2) and gaps[1] == inf
    assert np.isnan(gaps[2]) and np.isnan(gaps[3]) and np.isnan(gaps[5])
    assert gaps[4] == pytest.approx(math.log(2))


def test_the_index_of_a_constant_is_its_first_order_index():
    """Of y = 4 u + v the indices are 16/17 and 1/17; of what plays no part there is none."""
    shares = np.random.default_rng(0).random((4000, 3))
    values = 4 * shares[:, 0] + shares[:, 1]
    found = deciding(["u", "v", "idle"], shares, values, np.ones(4000))
    assert list(found) == ["u", "v"]
    assert found["u"] == pytest.approx(16 / 17, abs=0.02)
    assert found["v"] == pytest.approx(1 / 17, abs=0.02)
    assert deciding([], shares[:, :0], values, np.ones(4000)) == {}
    assert deciding(["u"], shares[:, :1], np.ones(4000), np.ones(4000)) == {}


def test_chance_decides_in_five_per_cent_of_cases_at_most():
    rng, studies = np.random.default_rng(1), 400
    blamed = 0
    for _ in range(studies):
        shares = rng.random((300, 6))
        values = (shares[:, 0] < 0.5).astype(float) + rng.normal(0, 0.3, 300)
        blamed += list(deciding(list("abcdef"), shares, values, np.ones(300))) != ["a"]
    assert blamed / studies <= 0.05 + 4 * math.sqrt(0.95 * 0.05 / studies)


def test_few_draws_that_stand_for_many_blame_nothing_by_chance():
    """Sixty of 676 draws count 6.4 times, as those that were simulated for all that would be."""
    blamed = 0
    weights = np.where(np.arange(676) < 60, 6.4, 1.0)
    for seed in range(200):
        shares = np.random.default_rng(seed).random((676, 8))
        values = (shares[:, 0] + 0.3 * shares[:, 7][::-1] > 0.7).astype(float)
        blamed += list(deciding(list("abcdefgh"), shares, values, weights)) != ["a"]
    assert blamed <= 24, "at most 5 % of 200, give or take what 200 cases show"


@pytest.mark.parametrize(
    ("asked", "options", "path"),
    [
        ({}, {"sides": ["a"]}, ("scenarios",)),
        ({"measures": ["seconds", "seconds"]}, {}, ("question", "measures")),
        ({"measures": ["joules"]}, {"backend": "timing"}, ("question", "measures")),
    ],
)
def test_studies_that_do_not_fit(asked, options, path):
    sides = options.pop("sides", SIDES)
    found = Uncertainty(kind="uncertainty", **asked).problems(study(sides, **options))
    assert [where for where, _, _ in found] == [path]


@pytest.mark.parametrize(
    ("question", "name", "hint"),
    [
        (
            {"kind": "uncertainty"},
            "host.launch_intervall",
            "nearest: 'host.launch_interval'",
        ),
        ({"kind": "uncertainty"}, "paper-50gbps.bandwidth", "a constant that has a range"),
        ({"kind": "sensitivity"}, "rc-1us.cells", "a constant that has a range"),
    ],
)
def test_a_constant_without_a_range_ends_in_a_line_before_anything_runs(question, name, hint):
    sides = {"thermodynamic": "kfac-digits", "digital": "kfac-digits-digital"}
    found = {"name": "u", "scenarios": sides, "question": {**question, "constants": [name]}}
    with pytest.raises(InputError) as raised:
        load_study(found)
    (line,) = str(raised.value).splitlines()
    assert "question.constants[0]: expected" in line and repr(name) in line and hint in line


def test_constants_of_real_studies_are_drawn_by_name():
    sides = {"thermodynamic": "kfac-digits", "digital": "kfac-digits-digital"}
    constants = ["host.launch_interval", "paper-50gbps.energy"]
    question = {"kind": "uncertainty", "constants": constants}
    assert load_study({"name": "u", "scenarios": sides, "question": question})
