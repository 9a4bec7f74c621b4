"""Every side chooses its settings on seeds of their own, by the rule that is stated."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_studies import adam, document, tngd

import hybridsim
from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import Outcome
from hybridsim.studies.points import point
from hybridsim.studies.tuning import NothingToChoose, geometric_mean, tune, tuning_points

RATES = [0.003, 0.01, 0.03]
RATE = "training.algorithm.learning_rate"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return adam(tmp_path_factory.mktemp("base"), target={"test_loss": 2.0})


def study_of(base, candidates=RATES, **changes):
    tuning = {"seeds": [100, 101], "fields": {"adam": {RATE: candidates}}}
    return load_study(document({"adam": base}, tuning=tuning, **changes))


def known(study, table):
    """Made-up outcomes: of each candidate, for each seed."""
    found = {}
    for candidate, row in table.items():
        for seed, outcome in zip((100, 101), row, strict=True):
            found[point(study, "adam", seed, {RATE: candidate}).id] = outcome
    return lambda points: {p.id: found[p.id] for p in points}


def at(seconds: float, **more) -> Outcome:
    reached = math.isfinite(seconds)
    loss = more.pop("loss", 1.0)
    return Outcome("ok", seconds=seconds, reached=reached, final_test_loss=loss, **more)


def chosen(study, table):
    changed, (tuned,) = tune(study, known(study, table))
    assert changed.sides[0].fields[RATE] == tuned.choice[RATE]
    return tuned


NEVER = math.nan


def test_most_seeds_at_the_target_come_first_then_the_geometric_mean(base):
    study = study_of(base)
    found = chosen(
        study,
        {0.003: (at(1.0), at(NEVER)), 0.01: (at(9.0), at(4.0)), 0.03: (at(6.5), at(6.5))},
    )
    assert found.choice == {RATE: 0.01} and found.edges == ()
    assert list(found.candidates["counted"]) == [1, 2, 2]
    assert found.candidates["seconds"][1] == pytest.approx(6.0)
    assert (found.runs, found.measure, found.which) == (6, "seconds", "reached")


def test_the_questions_measure_is_compared(base):
    study = study_of(base, question={"kind": "table", "measure": "joules"})
    table = {
        rate: (at(1.0, joules=j), at(1.0, joules=j))
        for rate, j in zip(RATES, (3.0, 1.0, 2.0), strict=True)
    }
    assert chosen(study, table).choice == {RATE: 0.01}


def test_without_a_seed_at_the_target_the_lowest_test_loss_is_chosen(base):
    study = study_of(base)
    table = {
        rate: (at(NEVER, loss=loss), at(NEVER, loss=loss))
        for rate, loss in zip(RATES, (2.5, 2.4, 2.3), strict=True)
    }
    found = chosen(study, table)
    assert found.choice == {RATE: 0.03} and found.edges == (RATE,)
    assert (found.measure, found.which) == ("final_test_loss", "trusted")
    assert "at the edge of what was tried" in found.row()["note"]


def test_what_is_marked_counts_only_where_all_are(base):
    study = study_of(base)
    marked = at(1.0, mark="solver error 1 above 0.3", loss=0.1)
    table = {0.003: (marked, marked), 0.01: (at(5.0), at(5.0)), 0.03: (at(9.0), at(9.0))}
    assert chosen(study, table).choice == {RATE: 0.01}
    found = chosen(study, {**table, 0.01: (marked, marked), 0.03: (marked, marked)})
    assert found.which == "any" and "every candidate is marked" in found.row()["note"]


def test_a_side_whose_candidates_all_fail_says_why(base):
    study = study_of(base)
    failed = Outcome("failed", "a fuse has blown")
    with pytest.raises(NothingToChoose, match="side 'adam' .* got none of 3: a fuse has blown"):
        tune(study, known(study, dict.fromkeys(RATES, (failed, failed))))


def test_words_and_single_values_have_no_edge(base):
    table = {0.01: (at(1.0), at(1.0))}
    assert chosen(study_of(base, [0.01]), table).edges == ()


@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
def test_the_geometric_mean_is_the_product_s_root(values):
    assert geometric_mean(values) == pytest.approx(math.prod(values) ** (1 / len(values)))
    assert math.isnan(geometric_mean([])) and math.isnan(geometric_mean([*values, 0.0]))


def test_a_study_with_tuning_runs_what_it_chose_and_says_so(tmp_path, base):
    sides = {"tngd": tngd(tmp_path, target={"test_loss": 2.0}), "adam": base}
    fields = {"tngd": {RATE: [0.1, 0.2, 0.4]}, "adam": {RATE: RATES}}
    tuning = {"seeds": [100], "fields": fields}
    study = load_study(document(sides, tuning=tuning))
    assert len(tuning_points(study)) == 6
    result = hybridsim.study(study, tmp_path / "study")
    assert len(result.points) == 2 and set(result.points["seed"]) == {0}
    about = json.loads((tmp_path / "study" / "study.json").read_text())
    for entry in about["tuning"]:
        alone = {}
        for value in fields[entry["side"]][RATE]:
            changes = [f"{RATE}={value}", "seed=100"]
            run = hybridsim.run(hybridsim.load(sides[entry["side"]], changes))
            target = run.summary["target"]
            loss = run.summary["final"]["test_loss"]
            alone[value] = (not target["reached"], target["seconds"] or math.inf, loss)
        assert entry["choice"] == {RATE: min(alone, key=alone.get)}
        assert entry["runs"] == 3 and entry["candidates"] and entry["chosen"]
    for row in result.points.itertuples():
        scenario = hybridsim.load(tmp_path / "study" / "points" / row.point / "scenario.yaml")
        choice = next(e["choice"][RATE] for e in about["tuning"] if e["side"] == row.side)
        assert scenario.training.algorithm.learning_rate == choice
    page = result.report.read_text()
    assert all(str(entry["choice"][RATE]) in page for entry in about["tuning"])
