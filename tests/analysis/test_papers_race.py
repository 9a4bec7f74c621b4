"""The race: who is first, against whom, and how often, follows from the points."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import hybridsim
from analysis.papers import race, race_verdicts, record, sweep

SIDES = ("adamw", "kfac-cholesky", "tngd")
TIMES = st.lists(st.floats(1e-4, 10.0), min_size=12, max_size=12)


def points(times, lost=()):
    """Four seeds of three sides; a side and seed in ``lost`` did not get there."""
    rows = []
    for k, (side, seed) in enumerate((side, seed) for side in SIDES for seed in range(4)):
        reached = (side, seed) not in lost
        value = times[k] if reached else float("nan")
        rows.append({
            "side": side, "seed": seed, "reached": reached, "step": value * 1e3, "seconds": value,
            "joules": value * 100, "solver_error": 0.1 + seed if side == "tngd" else None,
        })  # fmt: skip
    return pd.DataFrame(rows)


@given(TIMES)
def test_everybody_is_held_against_the_best_digital_side(times):
    found = race.standings(points(times))
    means = {s: stats.gmean(times[4 * k : 4 * k + 4]) for k, s in enumerate(SIDES)}
    rival = min(SIDES[:2], key=means.__getitem__)
    assert found["best digital"] == dict.fromkeys(race.MEASURES, rival)
    assert found["best thermodynamic"] == dict.fromkeys(race.MEASURES, "tngd")
    for side in SIDES:
        row = found["sides"][side]
        assert row["joules"]["mean"] == pytest.approx(100 * means[side])
        over = row["over the best digital"]
        assert (over == {}) == (side == rival)
        if over:
            assert over["seconds"]["mean"] == pytest.approx(means[side] / means[rival])
    assert {side for side, *_ in race.duels(found)} == set(SIDES) - {rival}


def test_a_thermodynamic_side_is_held_against_each_digital_one():
    times = [float(k) for k in range(1, 13)]
    found = race.standings(points(times, {("tngd", 2)}))["sides"]
    own = found["tngd"]["over each digital"]
    assert set(own) == {"adamw", "kfac-cholesky"} and "over each digital" not in found["adamw"]
    for k, rival in enumerate(own):
        pairs = [times[8 + seed] / times[4 * k + seed] for seed in (0, 1, 3)]
        assert own[rival]["seconds"]["mean"] == pytest.approx(stats.gmean(pairs))
        assert own[rival]["seconds"]["pairs"] == 3


@pytest.mark.parametrize(
    ("low", "high", "pairs", "said"),
    [
        (0.5, 0.7, 4, "holds"),
        (0.5, 0.8, 4, "not separable"),
        (0.8, 1.2, 4, "does not"),
        (0.5, 0.7, 1, "not separable"),
    ],
)
def test_a_claim_on_a_named_rival_follows_its_ratio(low, high, pairs, said):
    row = {"mean": (low + high) / 2, "low": low, "high": high, "pairs": pairs}
    own = {rival: dict.fromkeys(race.MEASURES, row) for rival in race_verdicts.RIVALS}
    side = {"reached": pairs, "seeds": 4, "over each digital": own}
    summary = {"graph": {"sides": {race_verdicts.OURS_IS: side}}}
    [graph_network, _] = race_verdicts.NETWORKS
    assert graph_network.verdict(summary) == said
    figure = graph_network.figure(summary)
    assert ("not measured" in figure) == (pairs < 2) and f"{pairs} of 4 seeds" in figure


def test_a_ratio_is_paired_by_seed_over_the_seeds_of_both():
    times = [1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0, 2.0, 6.0, 6.0, 12.0]
    found = race.standings(points(times, {("tngd", 3)}))
    over = found["sides"]["tngd"]["over the best digital"]["seconds"]
    logs = np.log([2.0, 3.0, 2.0])
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert over["pairs"] == 3 and over["rival"] == "adamw"
    assert (over["low"], over["high"]) == pytest.approx((np.exp(low), np.exp(high)))


def test_seeds_that_get_there_count_before_the_mean():
    found = race.standings(points([1.0] * 4 + [9.0] * 4 + [0.5] * 4, {("adamw", 0)}))
    assert found["best digital"]["seconds"] == "kfac-cholesky"
    assert found["sides"]["adamw"]["reached"] == 3


def test_a_side_that_never_gets_there_meets_nobody():
    lost = {("adamw", seed) for seed in range(4)}
    found = race.standings(points([1.0] * 12, lost))
    assert found["sides"]["adamw"]["over the best digital"]["seconds"]["pairs"] == 0
    assert [side for side, *_ in race.duels(found)] == ["tngd"]


def test_two_rivals_are_met_by_their_own_measures():
    frame = points([1.0] * 8 + [2.0] * 4)
    frame.loc[frame["side"] == "kfac-cholesky", "joules"] = 1.0
    frame.loc[frame["side"] == "kfac-cholesky", "seconds"] = 1.5
    assert race.duels(race.standings(frame)) == [
        ("adamw", "kfac-cholesky", ["joules"]),
        ("kfac-cholesky", "adamw", ["seconds"]),
        ("tngd", "adamw", ["seconds"]),
        ("tngd", "kfac-cholesky", ["joules"]),
    ]


@pytest.mark.parametrize("task", race.TASKS)
def test_every_side_has_the_same_budget_on_seeds_of_its_own(task):
    document = race.study_of(task, None)
    fields = document["tuning"]["fields"]
    assert set(fields) == set(document["scenarios"]) and "kfac-thermodynamic" in fields
    assert len({int(np.prod([len(v) for v in own.values()])) for own in fields.values()}) == 1
    assert min(document["tuning"]["seeds"]) >= document["seeds"]


def test_settings_that_were_chosen_before_are_taken_and_a_duel_keeps_them(tmp_path):
    side, rate = "adamw", {"training.algorithm.learning_rate": 0.0123}
    document = race.study_of("digits", {side: rate})
    assert "tuning" not in document
    own = document["scenarios"][side]["set"]
    assert own["training.algorithm.learning_rate"] == 0.0123
    document["scenarios"] = {name: document["scenarios"][name] for name in (side, "muon")}
    document["seeds"] = 2
    for one in document["scenarios"].values():
        one["set"]["training.steps"] = 2
    document["set"]["training.target"] = {"test_accuracy": 0.01}
    found = hybridsim.study(document, tmp_path)
    assert race.settings_of(found) == []
    duel = race.duel(found.study.document(), (side, "muon"), ["seconds"])
    before = len(list((tmp_path / "points").iterdir()))
    answer = hybridsim.study(
        duel | {"question": duel["question"] | {"draws": 10}}, tmp_path, force=True
    )
    assert len(list((tmp_path / "points").iterdir())) == before, "trained again"
    assert answer.answer is not None and set(answer.points["seed"]) == {0, 1}
    learned = json.dumps(answer.study.document()["scenarios"][side])
    assert "0.0123" in learned and sweep.said(answer)["answer"]


@pytest.mark.parametrize("task", ["digits", "molecules", "vit"])
@pytest.mark.parametrize("launch", ["eager", "graph"])
def test_the_committed_summary_follows_from_the_committed_points(task, launch):
    result = json.loads((sweep.FILES.parent / "results" / f"race_{task}.json").read_text())
    table = pd.DataFrame(record.runs_of(result))
    again = race.standings(table[table[race.LAUNCH] == launch])
    kept = result["summary"][launch]
    for best in ("best digital", "best thermodynamic"):
        assert again[best] == kept[best]
    for side, row in again["sides"].items():
        for measure in race.MEASURES:
            assert row[measure] == pytest.approx(kept["sides"][side][measure], rel=1e-3)
        for measure, over in row["over the best digital"].items():
            found = kept["sides"][side]["over the best digital"][measure]
            assert over["mean"] == pytest.approx(found["mean"], rel=1e-3)
