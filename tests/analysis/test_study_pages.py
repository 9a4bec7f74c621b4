"""The pages of the shipped studies are what their stored results say."""

from __future__ import annotations

import json

import pytest

from analysis.studies import pages
from hybridsim.studies.load import load_study

NAMES = pages.names()


def test_every_shipped_study_has_a_page_a_result_and_a_picture():
    assert len(NAMES) >= 6
    for folder, ending in (
        (pages.PAGES, ".md"),
        (pages.RESULTS, ".json"),
        (pages.PICTURES, ".png"),
    ):
        assert sorted(path.stem for path in folder.glob(f"*{ending}")) == NAMES
    assert all(path.stat().st_size < 150_000 for path in pages.PICTURES.glob("*.png"))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_the_result_says(name):
    committed = (pages.PAGES / f"{name}.md").read_text()
    again = f"run: python -m analysis.studies.pages --write {name}"
    assert committed == pages.text(name, pages.stored(name)), again


@pytest.mark.parametrize("name", NAMES)
def test_a_result_belongs_to_the_study_as_it_is_shipped(name):
    found = pages.stored(name)
    assert found["study"] == json.loads(json.dumps(load_study(name).document())), (
        f"run: python -m analysis.studies.pages {name}"
    )
    assert found["answers"][0]["question"] == found["study"]["question"]
    assert found["runs"] == sum(found["how"].values()) <= found["points"]
    # None: on a busy machine no time was taken
    assert (found["wall_s"] or 0) < 300, "a shipped study answers within five minutes"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_begins_with_the_answer_and_names_its_file(name):
    text, found = (pages.PAGES / f"{name}.md").read_text(), pages.stored(name)
    title, empty, answer, *_ = text.splitlines()
    assert title == f"# {found['study']['name']}" and not empty
    assert answer == f"**{found['answers'][0]['sentence']}.**"
    assert f"hybridsim study {name} --out" in text and f"/scenarios/studies/{name}.yaml" in text
    assert found["revision"] in text and found["date"] in text
    assert all(note in text for one in found["answers"] for note in one["notes"])


def test_a_study_is_found_and_written(tmp_path, monkeypatch):
    """Of a study that trains nothing; asked twice."""
    study = {
        "base": "adam-digits",
        "name": "Two hosts",
        "set": {"training.steps": 2},
        "axes": [{"field": "machine.gpu", "grid": ["a100-sxm4-80gb", "v100-sxm2-32gb"]}],
        "backend": "timing",
        "question": {"kind": "table", "measure": "step_seconds"},
    }
    file = tmp_path / "two-hosts.yaml"
    file.write_text("# schema\n#\n# Which host?\n" + json.dumps(study))
    monkeypatch.setattr(pages, "WORKERS", 1)
    monkeypatch.setattr(pages, "STUDIES", tmp_path)
    monkeypatch.setattr(pages, "ALSO", {str(file): {"measure": "step_joules"}})
    result, figure = pages.find(str(file), tmp_path / "out")
    measures = [one["question"]["measure"] for one in result["answers"]]
    assert measures == ["step_seconds", "step_joules"] and len(figure.data)
    assert result["runs"] == result["points"] == 2
    text = pages.text("two-hosts", result)
    assert text.startswith(f"# Two hosts\n\n**{result['answers'][0]['sentence']}.**\n\n**")
    assert "Which host?" in text and "`machine.gpu`: a100-sxm4-80gb, v100-sxm2-32gb" in text
    assert all(note in text for note in result["answers"][1]["notes"])
