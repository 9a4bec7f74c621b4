"""What the documentation shows works: scenarios load, parts load, workloads train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hybridsim
from hybridsim.scenario.datasheets.sheets import load_part
from hybridsim.studies.load import load_study
from hybridsim.studies.points import points_of

ROOT = Path(hybridsim.__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "scenarios/README.md",
    "models/parts/README.md",
    "models/workloads/README.md",
    "analysis/docs/pages/kfac.md",
    "analysis/docs/pages/ngd.md",
    "analysis/docs/pages/optimizers.md",
    "analysis/docs/pages/precision.md",
]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.S)


YAML = [(page, text) for page in PAGES for text in blocks(page, "yaml")]
STUDIES = [text for _, text in YAML if "\nquestion:" in text]
SCENARIOS = [
    (page, text)
    for page, text in YAML
    if "kind: spu\ndescription" not in text and text not in STUDIES
]


@pytest.mark.parametrize(
    ("page", "text"), SCENARIOS, ids=[f"{p}-{i}" for i, (p, _) in enumerate(SCENARIOS)]
)
def test_a_scenario_of_the_documentation_loads(tmp_path, page, text):
    """Fragments that show only the machine are put into the rest of a shipped scenario."""
    part = next(
        b for b in blocks("models/parts/README.md", "yaml") if "kind: spu\ndescription" in b
    )
    (tmp_path / "my-spu.yaml").write_text(part)
    file = tmp_path / "scenario.yaml"
    file.write_text(text if "training:" in text else f"extends: tngd-digits\n{text}")
    run = hybridsim.run(hybridsim.load(file, ["training.steps=2"]), backend="timing")
    assert run.status == "complete"


def test_studies_of_the_documentation_load(tmp_path):
    assert STUDIES
    for text in STUDIES:
        (tmp_path / "study.yaml").write_text(text)
        assert points_of(load_study(tmp_path / "study.yaml"))


def test_the_part_of_the_documentation_loads(tmp_path):
    part = next(
        b for b in blocks("models/parts/README.md", "yaml") if "kind: spu\ndescription" in b
    )
    (tmp_path / "my-spu.yaml").write_text(part)
    sheet = load_part("spu", "my-spu.yaml", tmp_path)
    assert sheet.value("write_time_s") == 100e-9
    assert sheet.value("capacitance_f") == load_part("spu", "rc-100ns").value("capacitance_f")


def test_the_workload_of_the_documentation_trains(tmp_path):
    text = next(b for b in blocks("models/workloads/README.md", "python") if "def build" in b)
    (tmp_path / "mine.py").write_text(text)
    overrides = [
        f"workload={tmp_path / 'mine.py'}",
        "training.steps=3",
        "training.target={test_loss: 0.5}",
    ]
    run = hybridsim.run(hybridsim.load("tngd-digits", overrides))
    assert run.steps.train_loss.notna().all()
