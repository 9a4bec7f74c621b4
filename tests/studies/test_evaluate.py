"""Points that share numerics share one live run, and equal to the last bit what each is alone."""

from __future__ import annotations

import random

import pandas as pd
import pytest
from small_studies import (
    ADAM,
    KFAC,
    MACHINE,
    TNGD,
    adam,
    assert_same_points,
    document,
    each_alone,
    evaluated,
    scenario,
    tngd,
)  # fmt: skip

from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import without_result

CASES = {
    "link and number of SPUs": (
        "tngd",
        [
            {"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "37 Gb/s", "1 Tb/s"]},
            {"field": "machine.spus.count", "grid": [1, 2]},
        ],
    ),
    "K-FAC: placements, settling": (
        "kfac",
        [
            {"field": "machine.spus.count", "grid": [1, 3]},
            {"field": "machine.spus.resistance", "grid": ["1 kohm", "3 kohm", "30 kohm"]},
        ],
    ),
    "devices, which have errors": (
        "kfac",
        [
            {"field": "machine.spus.imperfections", "grid": ["realistic", "ideal"]},
            {"field": "machine.spus.adc_rate", "grid": ["1 MHz", "3 MHz"]},
        ],
    ),
    "bits, which are numerics": (
        "tngd",
        [
            {"field": "machine.spus.output_bits", "grid": [6, 9]},
            {"field": "machine.spus.adc_rate", "grid": ["1 MHz", "3 MHz", "5 MHz"]},
        ],
    ),
    "evaluations, whose facts are missing": (
        "tngd",
        [{"field": "training.evaluate_every", "grid": [1, 4]}],
    ),
    "the clock decides the numbers": (
        "asynchronous",
        [{"field": "machine.link.latency", "grid": ["1 us", "2 us", "900 us"]}],
    ),
}
ALGORITHMS = {
    "tngd": TNGD,
    "kfac": KFAC,
    "adam": ADAM,
    "asynchronous": TNGD | {"mode": "asynchronous", "state": "kept", "wait": "5 tau"},
}


BACKENDS = [(case, "live") for case in CASES] + [("K-FAC: placements, settling", "timing")]


@pytest.mark.parametrize(("case", "backend"), BACKENDS)
def test_a_study_equals_every_point_run_alone(tmp_path, case, backend):
    algorithm, axes = CASES[case]
    target = {"test_loss": random.Random(case).choice([100.0, 2.4])}
    base = scenario(tmp_path / "base.yaml", ALGORITHMS[algorithm], MACHINE, target=target)
    question = {"kind": "table", "measure": "run_seconds"}
    study = load_study(
        document({"base": base}, axes=axes, seeds=[11], backend=backend, question=question)
    )
    found = evaluated(study, tmp_path / "study")
    assert_same_points(found, each_alone(study))
    assert (found["status"] == "ok").all()


def hows(found: pd.DataFrame) -> dict[str, int]:
    return found.drop_duplicates("point")["how"].value_counts().to_dict()


def test_equal_last_keys_share_one_live_run(tmp_path):
    axes = [
        {"field": "machine.spus.count", "grid": [1, 2, 3]},
        {"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "20 Gb/s", "30 Gb/s"]},
    ]
    found = evaluated(
        load_study(document({"tngd": tngd(tmp_path)}, axes=axes, seeds=2)), tmp_path / "study"
    )
    assert hows(found) == {"live": 2, "replayed": 4, "retimed": 12}


def test_a_side_that_an_axis_leaves_alone_is_run_once(tmp_path):
    axes = [{"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "20 Gb/s"], "sides": ["tngd"]}]
    sides = {"tngd": tngd(tmp_path), "adam": adam(tmp_path)}
    found = evaluated(load_study(document(sides, axes=axes)), tmp_path / "study")
    assert list(found["side"]) == ["tngd", "adam"] * 2
    assert found["point"].nunique() == 3
    assert found["machine.link.bandwidth"].notna().all()


def test_further_points_replay_the_facts_of_earlier_ones(tmp_path):
    """With one signature nobody looks for last keys; with another one the first's facts serve."""
    base, out = tngd(tmp_path), tmp_path / "study"
    evaluated(load_study(document({"tngd": base})), out)
    axes = [{"field": "machine.spus.count", "grid": [1, 2]}]
    found = evaluated(load_study(document({"tngd": base}, axes=axes)), out)
    assert list(found["how"]) == ["replayed", "live"]  # the scenario itself has two SPUs
    facts = sorted((out / "facts").iterdir())
    damaged = facts[0].read_bytes()[:-100] + b"\0" * 100
    facts[0].write_bytes(damaged)
    axes = [{"field": "machine.spus.count", "grid": [2, 3]}]
    found = evaluated(load_study(document({"tngd": base}, axes=axes)), out)
    assert list(found["how"]) == ["live", "live"]  # what is damaged is computed again


def test_what_fails_becomes_a_row_with_its_reason(tmp_path):
    (tmp_path / "network.py").write_text(
        "import torch\nfrom torch import nn\nfrom hybridsim import Data, Workload\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, bad):\n"
        "        super().__init__(); self.inner, self.bad, self.calls = nn.Linear(3, 2), bad, 0\n"
        "    def forward(self, x):\n"
        "        self.calls += x.device.type != 'meta'\n"
        "        late = self.calls > 4\n"
        "        if late and self.bad == 'fuse': raise RuntimeError('a fuse\\n has blown')\n"
        "        return self.inner(x) * (float('nan') if late and self.bad == 'nan' else 1)\n"
        "def build(bad: str = '', load: bool = True):\n"
        "    if not load: raise FileNotFoundError('no data here')\n"
        "    x, y = torch.randn(60, 3), torch.randint(2, (60,))\n"
        "    data = Data(x[:40], y[:40], x[40:], y[40:])\n"
        "    return Workload(network=lambda: Net(bad), data=data, loss='cross_entropy')\n"
    )
    workload = {"source": str(tmp_path / "network.py"), "options": {}}
    base = adam(tmp_path, workload=workload, steps=6)
    sides = {
        "good": base,
        "fails": {"scenario": base, "set": {"workload.options.bad": "fuse"}},
        "unloaded": {"scenario": base, "set": {"workload.options.load": False}},
        "diverges": {"scenario": base, "set": {"workload.options.bad": "nan"}},
        "large": {"scenario": base, "set": {"machine.gpu.memory_capacity": "1 kB"}},
    }
    found = evaluated(load_study(document(sides, seeds=2)), tmp_path / "study")
    statuses = found.groupby("side")["status"].unique().map(list).to_dict()
    assert statuses == {
        "good": ["ok"],
        "fails": ["failed"],
        "unloaded": ["refused"],
        "diverges": ["diverged"],
        "large": ["refused"],
    }
    reasons = found.set_index("side")["reason"].to_dict()
    assert "a fuse has blown" in reasons["fails"]
    assert "no data here" in reasons["unloaded"]
    assert "lower the learning rate" in reasons["diverges"]
    assert "has 1 kB" in reasons["large"]
    assert not any("\n" in text for text in found["reason"])


def test_a_reason_takes_one_line():
    assert without_result("failed", "a\n  b").reason == "a b"
