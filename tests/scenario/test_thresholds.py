"""Thresholds of a scenario: strict comparisons with units, answered by the run, no part of it."""

from __future__ import annotations

import json
import operator
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signing import sign

import hybridsim
from hybridsim import cli
from hybridsim.errors import InputError
from hybridsim.results.read import Run
from hybridsim.scenario.schema import json_schema
from hybridsim.scenario.thresholds import Thresholds

SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
UNITS = {"_s": "s", "_j": "J", "_bytes": "B"}
SMALL = [
    "training.steps=4",
    "training.evaluate_every=2",
    "training.batch_size=4",
    "workload.options.hidden=6",
    "workload.options.channels=2",
]


def unit_of(name: str) -> str:
    if name == "samples_per_s":
        return ""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def scenario(thresholds, name="tngd-digits", overrides=()):
    document = hybridsim.load(name, [*SMALL, *overrides]).document()
    return hybridsim.load(document | {"thresholds": thresholds})


@given(
    st.sampled_from(sorted(Thresholds.model_fields)),
    st.sampled_from(sorted(SIGNS)),
    st.floats(1e-6, 1e12),
    st.sampled_from(["", " "]),
)
def test_a_comparison_comes_back_as_it_was_written(name, sign, value, space):
    loaded = scenario({name: f"{sign}{space}{value!r} {unit_of(name)}".strip()})
    ((found, bound, unit, text),) = loaded.thresholds.asked()
    assert (found, bound.sign, bound.value, unit) == (name, sign, value, unit_of(name))
    again = hybridsim.load(loaded.document())
    assert again == loaded and text.startswith(sign)
    assert [*again.thresholds.asked()] == [*loaded.thresholds.asked()]


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ({"test_accuracy": 0.95}, "a comparison like '>= 0.95', got 0.95"),
        ({"test_accuracy": "0.95"}, "a comparison like '>= 0.95'"),
        ({"test_accuracy": "== 0.95"}, "a comparison like"),
        ({"test_accuracy": "=> 0.95"}, "a comparison like"),
        ({"test_accuracy": ">= 0.95 s"}, "a comparison like"),
        ({"test_accuracy": ">= nan"}, "a comparison like"),
        ({"test_accuracy": ">= 1e999"}, "a comparison like"),
        ({"test_accuracy": [">= 0.9"]}, "got a list"),
        ({"time_to_target_s": "<= 50"}, "a comparison like '<= 50 ms', got '50' without a unit"),
        ({"time_to_target_s": "<= 50 J"}, "another dimension"),
        ({"gpu_peak_bytes": "<= 40 Gib"}, "1 B = 8 b"),
        ({"accuracy": ">= 0.95"}, "the unknown key 'accuracy'"),
        ({}, "at least one threshold"),
    ],
)
def test_what_is_no_comparison_is_refused(thresholds, expected):
    with pytest.raises(InputError) as error:
        scenario(thresholds)
    assert expected in str(error.value) and "thresholds" in str(error.value)


def test_what_no_run_of_the_scenario_can_answer_is_refused():
    with pytest.raises(InputError, match=r"thresholds.solver_error: .*analog answers, got 'adam'"):
        scenario({"solver_error": "<= 0.3"}, "adam-digits")
    document = hybridsim.load("adam-digits").document()
    del document["training"]["target"]
    for name, text in (("time_to_target_s", "<= 1 s"), ("steps_to_target", "<= 9")):
        with pytest.raises(InputError, match=f"thresholds.{name}: expected a training.target"):
            hybridsim.load(document | {"thresholds": {name: text}})


def test_a_comparison_without_quotes_says_what_is_missing(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("extends: tngd-digits\nthresholds:\n  test_accuracy: >= 0.95\n")
    with pytest.raises(InputError, match=r"a.yaml:3: expected a comparison in quotes"):
        hybridsim.load(file)
    loaded = hybridsim.load("tngd-digits", ["thresholds.test_accuracy=>= 0.95"])
    assert [text for *_, text in loaded.thresholds.asked()] == [">= 0.95"]


@pytest.fixture(scope="module")
def live() -> Run:
    """A run that is asked for everything."""
    asked = {name: f">= 0 {unit_of(name)}".strip() for name in Thresholds.model_fields}
    target = "training.target={test_accuracy: 0.01}"
    return hybridsim.run(scenario(asked, overrides=[target]))


def test_every_number_is_answered_by_the_run(live):
    lines = {line["name"]: line for line in live.summary["thresholds"]}
    assert list(lines) == list(Thresholds.model_fields)
    assert all(line["met"] and line["got"] is not None for line in lines.values())
    summary, got = live.summary, {name: line["got"] for name, line in lines.items()}
    target, energy = summary["target"], summary["energy"]["total"]
    assert got["test_accuracy"] == summary["final"]["test_accuracy"]
    assert [got["steps_to_target"], got["time_to_target_s"], got["energy_to_target_j"]] == [
        target["step"], target["seconds"], target["joules"]
    ]  # fmt: skip
    assert got["energy_high_j"] == energy["energy_high_j"] > got["energy_j"]
    assert got["step_time_s"] == pytest.approx(summary["simulated_s"] / 4)
    errors = live.steps["solver_relative_error"].dropna()
    assert got["solver_error"] == pytest.approx(errors.median())
    assert got["gpu_peak_bytes"] == max(summary["gpu_peak_bytes"].values())


@given(
    st.sampled_from(["energy_j", "test_loss", "step_time_s"]),
    st.sampled_from(sorted(SIGNS)),
    st.floats(0.5, 2),
)
def test_met_is_what_the_sign_says(live, name, sign, factor):
    from hybridsim.results.thresholds import judged

    got = next(line["got"] for line in live.summary["thresholds"] if line["name"] == name)
    for value in (got, got * factor):
        asked = {"name": name, "sign": sign, "value": value, "unit": "", "asked": "?"}
        (line,) = judged([asked], live.summary, live.steps)
        assert line["met"] == SIGNS[sign](got, value)
    (line,) = judged([{**asked, "value": float("nan")}], live.summary, live.steps)
    assert not line["met"]


def test_thresholds_are_no_part_of_the_digest():
    plain = hybridsim.run(hybridsim.load("tngd-digits", SMALL), backend="timing")
    asked = hybridsim.run(scenario({"energy_j": "<= 1 J"}), backend="timing")
    assert plain.manifest["digest"] == asked.manifest["digest"]
    assert plain.manifest["last_key"] == asked.manifest["last_key"]
    assert "thresholds" not in plain.summary and "thresholds" not in plain.scenario


def test_what_timing_does_not_evaluate_is_missed():
    asked = {
        "test_accuracy": ">= 0",
        "train_loss": "<= 1e9",
        "time_to_target_s": "<= 1000000 s",
        "solver_error": "<= 1e9",
        "events": "<= 0",
        "simulated_s": "<= 1000 s",
    }
    run = hybridsim.run(scenario(asked), backend="timing")
    found = {line["name"]: (line["met"], line["reason"]) for line in run.summary["thresholds"]}
    assert found.pop("simulated_s") == (True, "")
    assert set(found.values()) == {(False, "not evaluated")}


def test_a_target_that_was_missed_says_how_near_it_came():
    overrides = ["training.target={test_accuracy: 1}"]
    run = hybridsim.run(scenario({"time_to_target_s": ">= 0 s"}, overrides=overrides))
    (line,) = run.summary["thresholds"]
    best = run.steps["test_accuracy"].max()
    assert not line["met"] and line["reason"] == f"not reached, best {best:.4g}"


def test_thresholds_of_a_run_that_was_killed_are_known(tmp_path):
    hybridsim.run(scenario({"energy_j": "<= 1000 J"}), tmp_path / "run", backend="timing")
    before = Run.open(tmp_path / "run").summary["thresholds"]
    (tmp_path / "run" / "summary.json").unlink()
    sign(tmp_path / "run")
    assert Run.open(tmp_path / "run").summary["thresholds"][0]["met"] == before[0]["met"] is True


def test_accuracy_of_a_workload_without_classes_is_refused(tmp_path):
    (tmp_path / "mse.py").write_text(
        "import torch\nfrom torch import nn\nfrom hybridsim import Data, Workload\n\n\n"
        "def build():\n    x, y = torch.randn(20, 3), torch.randn(20, 2)\n"
        "    data = Data(train_x=x, train_y=y, test_x=x, test_y=y)\n"
        "    return Workload(network=lambda: nn.Linear(3, 2), data=data, loss='mse')\n"
    )
    file = tmp_path / "a.yaml"
    file.write_text(
        "extends: adam-digits\nworkload: mse.py\ntraining: {steps: 2}\n"
        'thresholds: {test_accuracy: ">= 0.5"}\n'
    )
    loaded = hybridsim.load(file, ["training.target=null"])
    with pytest.raises(InputError, match="thresholds: expected test_loss"):
        hybridsim.run(loaded, backend="timing")


@pytest.mark.parametrize(("asked", "code"), [("<= 1 kJ", 0), ("<= 1 pJ", 3)])
def test_run_exits_with_3_where_a_threshold_is_missed(monkeypatch, capsys, tmp_path, asked, code):
    folder = tmp_path / "run"
    words = ["run", "tngd-digits", "--backend", "timing", "--out", str(folder)]
    for text in (*SMALL, f"thresholds.energy_j={asked}", "thresholds.simulated_s=<= 1 s"):
        words += ["--set", text]
    monkeypatch.setattr(sys, "argv", ["hybridsim", *words])
    try:
        cli.main()
        found = 0
    except SystemExit as stop:
        found = stop.code
    out, err = capsys.readouterr()
    assert found == code
    verdict = "missed" if code else "met"
    line = next(line for line in out.splitlines() if line.startswith("threshold: energy_j"))
    assert f"asked {asked}" in line and "got" in line and line.endswith(f": {verdict}")
    assert ("1 of 2 thresholds missed: energy_j" in err) == bool(code)
    page = (folder / "report.html").read_text()
    page = page[: page.index("plotly.js v")]
    assert "<h2>Thresholds</h2>" in page
    assert ("1 of 2 thresholds missed" in page) == bool(code)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert [line["met"] for line in summary["thresholds"]] == [True, not code]


def test_exit_codes_stand_in_the_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hybridsim", "run", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
        raise SystemExit
    text = " ".join(capsys.readouterr().out.split())
    assert "3 done, but a threshold" in text and "130 interrupted" in text


def test_the_schema_of_a_threshold_takes_what_the_scenario_takes():
    import re

    fields = json_schema()["$defs"]["Thresholds"]["properties"]
    assert set(fields) == set(Thresholds.model_fields)
    for name, field in fields.items():
        text = json.dumps(field)
        assert field.get("description") and "pattern" in text
        pattern = field.get("pattern") or field["anyOf"][0]["pattern"]
        assert re.search(pattern, f">= 0.5 {unit_of(name)}".strip())
        assert not re.search(pattern, "0.5") and not re.search(pattern, ">= x")
