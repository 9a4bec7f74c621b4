"""Shipped studies load, their points expand, and the one that `make run` ends with answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hybridsim
from hybridsim.studies.load import load_study, shipped_studies
from hybridsim.studies.points import points_of

ROOT = Path(hybridsim.__file__).resolve().parent.parent
SHIPPED = shipped_studies()
FIRST = "one-fast-spu"
"""The study of `make run`."""


def test_there_are_studies():
    assert len(SHIPPED) >= 6 and FIRST in SHIPPED
    titles = [load_study(name).name for name in SHIPPED]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_loads_and_its_points_expand(name):
    study = load_study(name)
    points = points_of(study)
    combinations = {repr(sorted(point.combination.items())) for point in points}
    assert len(points) == len(combinations) * len(study.sides) * len(study.seeds)
    assert len(study.seeds) >= 3
    assert load_study(study.document()) == study


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_says_what_it_asks(name):
    lines = SHIPPED[name].read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=./study.schema.json"
    assert lines[1] == "#" and all(line.startswith("# ") for line in lines[2:4])
    assert max(map(len, lines)) <= 121


def test_make_run_ends_with_a_study():
    recipe = re.search(r"^run:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    assert f"hybridsim study {FIRST} --out runs/{FIRST}" in recipe[1].splitlines()[-1]


def test_the_study_of_make_run_answers(tmp_path):
    """Shortened to a few steps, and so without a target to reach."""
    study = load_study(
        FIRST,
        [
            "set.training.steps=4",
            "set.training.evaluate_every=1",
            "seeds=1",
            "gate.solver_error=1",
            "question.draws=20",
            "question.simulate=2",
            "question.measures=[step_seconds, step_joules]",
        ],
    )
    found = hybridsim.study(study, tmp_path)
    assert found.answer is not None and found.answer.trusted
    assert re.search(r"beats .* in [\d.]+ % \[[\d.]+, [\d.]+\] of what the constants allow",
                     found.sentence)  # fmt: skip
    assert found.report is not None and found.sentence[:30] in found.report.read_text()
