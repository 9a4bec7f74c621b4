"""Search: finds the least of a known function, the same from one seed, and says where it lies."""

from __future__ import annotations

import importlib.util
import math

import pytest
from pydantic import ValidationError
from toy_lab import ToyLab, axis, study

from hybridsim.errors import InputError
from hybridsim.reports.statistics import log_interval
from hybridsim.scenario.quantity import parse_quantity
from hybridsim.studies.load import load_study
from hybridsim.studies.questions.search import Search

SPUS, LINK, METHOD = "machine.spus.count", "machine.link.bandwidth", "training.algorithm.method"
FIELDS = {
    SPUS: {"low": 1, "high": 16},
    LINK: {"low": "1 Gb/s", "high": "1 Tb/s", "scale": "log"},
    METHOD: {"choices": ["solves", "inverse"]},
}


def asked(**more):
    return Search.model_validate({"kind": "search", "fields": FIELDS, "evaluations": 60} | more)


def outcome(side, values, seed):
    """Least at 11 SPUs, 30 Gb/s and solves."""
    if not values:
        return {"seconds": 9.0 * (1 + 0.1 * seed)}
    assert type(values[SPUS]) is int
    bandwidth = math.log10(parse_quantity(values[LINK], "b/s") / 30e9)
    found = 1 + 0.1 * (values[SPUS] - 11) ** 2 + bandwidth**2
    return {"seconds": found * (1 + (values[METHOD] != "solves")) * (1 + 0.1 * seed)}


def test_it_comes_near_the_least_and_says_how_sure_that_is():
    lab = ToyLab(study(["kfac"], seeds=3), outcome)
    answer = asked().answer(lab)
    best = answer.facts["best"]
    assert best[METHOD] == "solves" and abs(best[SPUS] - 11) <= 2 and best["mean"] < 1.7
    values = [outcome("kfac", {f: best[f] for f in FIELDS}, seed)["seconds"] for seed in range(3)]
    assert (best["mean"], best["low"], best["high"]) == pytest.approx(log_interval(values)[:3])
    assert answer.facts["gain"]["ratio"] == pytest.approx(values[0] / 9.0)
    assert answer.facts["evaluations"] == len(answer.table) == 60
    assert answer.sentence.startswith("Lowest seconds of kfac in 60 evaluations: 1.")
    assert "(95 % over 3 seeds) at" in answer.sentence and "less than as given" in answer.sentence
    assert best["mean"] == min(answer.table["mean"]) and answer.trusted


def test_one_seed_gives_one_search_in_batches_of_the_field_and_another_gives_another():
    first, again, other = (ToyLab(study(["kfac"], draw_seed=s), outcome) for s in (1, 1, 2))
    answers = [asked(evaluations=22).answer(lab) for lab in (first, again, other)]
    assert first.asked == again.asked != other.asked
    assert answers[0].table.equals(answers[1].table)
    assert len(first.asked) == 23  # the scenario as given beside them


def test_what_cannot_win_is_not_chosen_and_what_failed_is_left_out():
    def marked(side, values, seed):
        found = outcome(side, values, seed)
        if values and values[METHOD] == "solves":
            return {**found, "mark": "solver error 0.41 above 0.3"}
        if values and values[SPUS] > 12:
            return {"status": "failed", "reason": "x"}
        return found

    answer = asked(evaluations=30).answer(ToyLab(study(["kfac"]), marked))
    assert answer.facts["best"][METHOD] == "inverse" and answer.facts["best"][SPUS] <= 12
    nothing = asked(evaluations=8).answer(ToyLab(study(["kfac"]), lambda *_: {"reached": False}))
    assert nothing.facts["best"] is None and nothing.sentence.startswith("None of 8 evaluations")


def test_values_that_do_not_fit_together_are_not_run():
    """Each alone is valid: digital K-FAC with an exact damping rule is, on SPUs it is not."""
    fields = {
        METHOD: {"choices": ["solves", "digital"]},
        "training.algorithm.damping_rule": {"choices": ["pi", "plain", "exact"]},
    }
    question = {"kind": "search", "fields": fields, "evaluations": 40}
    found = load_study({"name": "s", "base": "kfac-digits", "question": question})
    lab = ToyLab(found, lambda side, values, seed: {"seconds": 1.0 + len(values)})
    answer = found.question.answer(lab)
    run = {tuple(values.values()) for values in lab.asked if values}
    assert ("solves", "exact") not in run and ("digital", "exact") in run
    assert answer.facts["evaluations"] == 40 and answer.facts["best"]["mean"] == pytest.approx(3)


def test_a_best_at_an_edge_is_said():
    def falls(side, values, seed):
        return {"seconds": 1.0 / values.get(SPUS, 1)}

    lab = ToyLab(study(["kfac"]), falls)
    answer = asked(fields={SPUS: {"low": 1, "high": 8}}, evaluations=30).answer(lab)
    assert answer.facts["edges"] == [SPUS]
    assert answer.sentence.endswith("; SPUs at the edge")
    assert any("lies at the edge of its range" in note for note in answer.notes)


def test_pictures():
    lab = ToyLab(study(["kfac"], seeds=2), outcome)
    question = asked(evaluations=9)
    figure = question.picture(lab, question.answer(lab))
    shown = {trace.name: trace for trace in figure.data}
    so_far = shown["best so far"].y
    assert list(so_far) == sorted(so_far, reverse=True) and len(so_far) == 9
    assert shown["evaluations"].mode == "markers" and figure.layout.meta


@pytest.mark.parametrize(
    "span", [{}, {"low": 1}, {"low": 1, "high": 2, "choices": [1, 2]}, {"choices": [1]}]
)
def test_a_field_has_a_range_or_choices(span):
    with pytest.raises(ValidationError):
        asked(fields={SPUS: span})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({SPUS: {"low": 1, "high": 5000}}, "spus.count': expected a number <= 4096, got 5000"),
        ({SPUS: {"low": 4, "high": 2}}, "high: expected a value above low"),
        ({LINK: {"low": "1 Gb/s", "high": "2 GB/s"}}, "high: expected a quantity in b/s"),
        ({LINK: {"low": "fast", "high": "2 Gb/s"}}, "low: expected a number, or a quantity"),
        ({SPUS: {"low": 0, "high": 2, "scale": "log"}}, "low: expected a value above zero"),
        ({METHOD: {"choices": ["solves", "magic"]}}, "expected one of digital, solves, inverse"),
        ({"machine.spu.count": {"low": 1, "high": 2}}, "expected"),
        ({"seed": {"low": 1, "high": 2}}, "expected another field"),
    ],
)
def test_fields_that_a_scenario_refuses_end_in_a_line_each(fields, message):
    found = {"name": "search", "base": "kfac-digits"}
    with pytest.raises(InputError) as raised:
        load_study(found | {"question": {"kind": "search", "fields": fields}})
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_studies_that_do_not_fit(monkeypatch):
    axes = [axis({"n": [1, 2]})]
    assert [p[0] for p in asked().problems(study(["a"], axes))] == [("axes",)]
    assert [p[0] for p in asked().problems(study(["a", "b"]))] == [("question", "side")]
    assert [p[0] for p in asked(side="c").problems(study(["a", "b"]))] == [("question", "side")]
    assert not asked(side="b").problems(study(["a", "b"]))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "optuna" else find(name, *more),
    )
    ((_, expected, _),) = asked().problems(study(["a"]))
    assert expected == "optuna installed (pip install 'hybridsim[search]')"


def test_where_everything_is_marked_the_search_goes_on_and_says_so():
    def marked(side, values, seed):
        return {**outcome(side, values, seed), "mark": "settling was never run live"}

    answer = asked().answer(ToyLab(study(["kfac"]), marked))
    assert answer.facts["best"]["mean"] < 2 and not answer.trusted
    assert answer.sentence.startswith("Not trusted (settling was never run live): lowest seconds")
