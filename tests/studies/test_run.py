"""From a study file to its answer: the folder, what it may hold, and what the command says."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from command import call
from small_studies import adam, assert_same_points, computed, document, evaluated, tngd

import hybridsim
from hybridsim.errors import InputError
from hybridsim.results.read import Run
from hybridsim.scenario.emit import emit
from hybridsim.studies.estimate import Plan, minutes
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.load import load_study
from hybridsim.studies.point_report import run_of_point
from hybridsim.studies.run import digest

LINK = {"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "20 Gb/s", "40 Gb/s"]}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return {"tngd": tngd(folder), "adam": adam(folder)}


@pytest.fixture(scope="module")
def asked(sides):
    """Resolutions are sometimes a word; the axis is the analog side's alone."""
    bits = {"field": "machine.spus.output_bits", "grid": ["ideal", 8], "sides": ["tngd"]}
    return document(sides, axes=[bits])


@pytest.fixture(scope="module")
def done(asked, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "study"
    return hybridsim.study(asked, out)


def test_what_is_returned_is_what_lies_in_the_folder(asked, done):
    folder = done.folder
    assert {entry.name for entry in folder.iterdir()} >= {
        "study.yaml", "study.json", "points.parquet", "points", "facts", "report.html",
    }  # fmt: skip
    about = json.loads((folder / "study.json").read_text())
    assert about["status"] == "complete" and about["points"] == 3
    assert about["counts"]["status"] == {"ok": 3}
    assert about["answer"]["sentence"] == done.answer.sentence == done.sentence
    stored = pd.read_parquet(folder / "points.parquet")
    assert list(stored["machine.spus.output_bits"]) == ["ideal", "ideal", "8", "8"]
    assert list(done.points["machine.spus.output_bits"]) == ["ideal", "ideal", 8, 8]
    same = [name for name in stored if name != "machine.spus.output_bits"]
    assert_same_points(stored[same], done.points[same])
    for point in set(stored["point"]):
        scenario = hybridsim.load(folder / "points" / point / "scenario.yaml")
        assert scenario.training.algorithm.kind in ("tngd", "adam")
    assert done.report == folder / "report.html"
    assert done.answer.sentence.split(" (")[0][:30] in done.report.read_text()
    assert "<" in done._repr_html_() and "Adam" in done._repr_html_()
    again = load_study(folder / "study.yaml")
    assert again == done.study and digest(again) == about["study"]


def test_the_run_of_a_point_is_made_when_it_is_asked_for(done):
    once = done.points.drop_duplicates("point")
    for point, expected in zip(once["point"], once["digest"], strict=True):
        assert not (done.folder / "points" / point / "run").exists()
        run = done.run(point)
        assert run.manifest["digest"] == expected
        alone = hybridsim.run(hybridsim.load(done.folder / "points" / point / "scenario.yaml"))
        assert run.steps["train_loss"].tolist() == alone.steps["train_loss"].tolist()
        assert run.summary["host"]["backend"] == "replay", "the study's facts are all it needs"
        kept = (done.folder / "points" / point / "run" / "manifest.json").stat().st_mtime_ns
        done.run(point)
        again = (done.folder / "points" / point / "run" / "manifest.json").stat().st_mtime_ns
        assert again == kept
    with pytest.raises(InputError, match="outcome"):
        done.run("0" * 16)


def test_without_a_folder_there_is_one_as_long_as_the_result(sides):
    result = hybridsim.study(document({"adam": sides["adam"]}))
    folder = result.folder
    assert result.report.is_file()
    del result
    assert not folder.exists()


def test_a_folder_of_another_study_is_refused_unless_told(asked, sides, tmp_path):
    first = hybridsim.study(document({"adam": sides["adam"]}), tmp_path)
    other = document({"adam": sides["adam"]}, seeds=2)
    with pytest.raises(InputError, match="expected an empty folder or this study's, got the study"):
        hybridsim.study(other, tmp_path)
    second = hybridsim.study(other, tmp_path, force=True)
    assert computed(tmp_path)[first.points["point"][0]] == 1  # kept
    assert len(second.points) == 2


def test_a_folder_with_something_else_is_refused(sides, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError, match=r"got other files in it \(thesis.tex\)"):
            hybridsim.study(document({"adam": sides["adam"]}), tmp_path, force=force)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_outcome_that_was_damaged_is_computed_again_and_said(asked, sides, tmp_path):
    study = document({"adam": sides["adam"]})
    first = hybridsim.study(study, tmp_path)
    point = first.points["point"][0]
    path = tmp_path / "points" / point / "outcome.json"
    path.write_text(path.read_text().replace('"steps": 4', '"steps": 5'))
    second = hybridsim.study(study, tmp_path)
    assert_same_points(second.points, first.points)
    assert computed(tmp_path)[point] == 2
    about = json.loads((tmp_path / "study.json").read_text())
    assert about["notes"] == [f"point {point}: its outcome was damaged; evaluated again"]
    path.write_text(path.read_text().replace("study point 1", "study point 9"))
    with pytest.raises(InputError, match=r"outcome.json: expected the format"):
        hybridsim.study(study, tmp_path)


def test_a_helper_module_that_has_changed_makes_its_points_stale(tmp_path, monkeypatch):
    """A point's id does not stand for what the workload's file imports; what was trained does."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "network.py").write_text(
        "import json, pathlib, torch\nfrom torch import nn\nfrom hybridsim import Data, Workload\n"
        "def build():\n"
        "    scale = float(pathlib.Path(__file__).with_name('scale').read_text())\n"
        "    x, y = scale * torch.randn(60, 3), torch.randint(2, (60,))\n"
        "    data = Data(x[:40], y[:40], x[40:], y[40:])\n"
        "    return Workload(network=lambda: nn.Linear(3, 2), data=data, loss='cross_entropy')\n"
    )
    (tmp_path / "scale").write_text("1")
    workload = {"source": str(tmp_path / "network.py"), "options": {}}
    study = document({"adam": adam(tmp_path, workload=workload)})
    out = tmp_path / "study"
    first = hybridsim.study(study, out)
    hybridsim.study(study, out)
    assert set(computed(out).values()) == {1}
    (tmp_path / "scale").write_text("2")
    second = hybridsim.study(study, out)
    assert set(computed(out).values()) == {2}
    assert second.points["final_test_loss"][0] != first.points["final_test_loss"][0]
    hybridsim.study(study, out)
    assert set(computed(out).values()) == {2}


@pytest.fixture
def file(asked, tmp_path):
    path = tmp_path / "ask.yaml"
    path.write_text(emit(asked))
    return path


def test_the_command_says_the_plan_first_and_the_answer_last(monkeypatch, capsys, file, done):
    out = file.parent / "out"
    code, told, _ = call(monkeypatch, capsys, "study", file, "--check")
    assert code == 0 and told.count("\n") == 1
    assert told.startswith("4 points, 3 distinct runs; 3 live runs expected; ")
    assert [entry.name for entry in file.parent.iterdir()] == ["ask.yaml"]
    code, told, _ = call(monkeypatch, capsys, "study", file, "--out", out)
    lines = told.splitlines()
    assert code == 0 and lines[0].startswith("4 points, 3 distinct runs")
    assert lines[-2:] == [done.sentence, str(out / "report.html")]
    code, told, _ = call(monkeypatch, capsys, "study", file, "--out", out)
    assert told.startswith("4 points, 3 distinct runs (3 in the folder); nothing is left to run\n")
    code, _, errors = call(monkeypatch, capsys, "study", file, "--out", out, "--set", "seeds=2")
    assert code == 2 and "--force" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "FILE: expected one study, got none"),
        (("a.yaml", "b.yaml"), "FILE: expected one study, got 'a.yaml' and 'b.yaml'"),
        (("FILE", "--workers", "0"), "workers: expected a number from 1 to 1024, got 0"),
        (("FILE", "--shard", "3"), "--shard: expected k/n"),
        (("FILE", "--shard", "1/2", "--collect", "."), "--shard: expected without --collect"),
        (("FILE", "--shard", "1/2", "--scheduler", "tcp://a"), "--shard: expected without --sched"),
        (("FILE", "--workers", "2", "--scheduler", "tcp://a"), "--workers: expected without"),
        (("no-such-study",), "no-such-study"),
    ],
)
def test_words_that_do_not_fit_are_refused(monkeypatch, capsys, file, words, message):
    out = file.parent / "out"
    given = [str(file) if word == "FILE" else word for word in words]
    code, _, errors = call(monkeypatch, capsys, "study", *given, "--out", out)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not (out / "study.json").exists()


def test_a_question_that_failed_points_leave_open_exits_with_1(
    monkeypatch, capsys, sides, tmp_path
):
    small = {"scenario": sides["tngd"], "set": {"machine.gpu.memory_capacity": "1 kB"}}
    half = {"field": "machine.gpu.memory_capacity", "grid": ["1 kB", "1 GB"], "sides": ["tngd"]}
    for study, expected in (
        (document({"small": small, "adam": sides["adam"]}), 1),
        (document({"small": small}), 1),
        (document({"tngd": sides["tngd"], "adam": sides["adam"]}, axes=[half]), 0),
    ):
        path = tmp_path / f"{len(study['scenarios'])}-{expected}.yaml"
        path.write_text(emit(study))
        out = tmp_path / path.stem
        code, told, errors = call(monkeypatch, capsys, "study", path, "--out", out)
        assert code == expected
        assert "has 1 kB" in told and str(out / "report.html") in told
        assert ("has no answer" in errors) == (expected == 1)
        table = pd.read_parquet(out / "points.parquet")
        assert (table["status"] == "refused").sum() == 1


def test_the_report_of_a_point_is_made_on_demand(monkeypatch, capsys, sides, tmp_path):
    found = evaluated(load_study(document({"tngd": sides["tngd"]}, axes=[LINK])), tmp_path)
    ways = found.drop_duplicates("how")
    assert set(ways["how"]) == {"live", "retimed"}
    facts = {path.name: path.read_bytes() for path in (tmp_path / "facts").iterdir()}
    for row in ways.itertuples():
        folder = tmp_path / "points" / row.point
        code, told, errors = call(monkeypatch, capsys, "report", folder)
        assert code == 0, errors
        assert told.strip() == str(folder / "run" / "report.html") and Path(told.strip()).is_file()
        run = Run.open(folder / "run")
        assert run.summary["host"]["backend"] == "replay"
        assert run.summary["simulated_s"] == row.run_seconds
        assert run.summary["energy"]["total"]["energy_j"] == row.run_joules
        assert row.digest in ("", run.manifest["digest"])
    assert run_of_point(folder).manifest["run_id"] == run.manifest["run_id"]  # it is there
    assert facts == {path.name: path.read_bytes() for path in (tmp_path / "facts").iterdir()}


def test_a_shard_without_a_share_takes_no_time(tmp_path):
    assert minutes([], Desk(tmp_path, None, None), at_once=1) == 0


def test_a_plan_says_what_is_left():
    assert str(Plan(12, 8, 0, 4, 0.2)) == (
        "12 points, 8 distinct runs; 4 live runs expected; less than a minute (an estimate from "
        "first steps)"
    )
    assert "about 7 min" in str(Plan(12, 8, 3, 4, 7.2))
    assert str(Plan(12, 8, 8, 0, 0.0)).endswith("(8 in the folder); nothing is left to run")
