"""A task that is loaded once serves many runs, and only the scenarios that it was loaded for."""

from __future__ import annotations

import pytest

import hybridsim
from hybridsim import simulate
from hybridsim.errors import InputError

BASE = {
    "name": "task",
    "workload": {"source": "digits_mlp", "options": {"hidden": 4, "depth": 1}},
    "training": {"batch_size": 4, "steps": 2, "algorithm": {"kind": "adam", "learning_rate": 0.01}},
    "machine": {"gpu": "a100-sxm4-80gb"},
}


def loaded(**training):
    return hybridsim.load(BASE | {"training": BASE["training"] | training})


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_runs_with_a_loaded_task_are_the_same_and_load_nothing(monkeypatch, precision):
    first, second = loaded(precision=precision), loaded(precision=precision, batch_size=5)
    expected = [hybridsim.run(scenario).manifest["digest"] for scenario in (first, second)]
    task = simulate.load_task(first)
    monkeypatch.setattr(simulate, "load_workload", None)
    for scenario, digest in zip((first, second), expected, strict=True):
        assert hybridsim.run(scenario, task=task).manifest["digest"] == digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"workload": "digits_cnn"},
            "workload.source: expected a task loaded for digits_cnn, got one for digits_mlp",
        ),
        ({"workload": {"source": "digits_mlp"}}, "workload.options: expected"),
        (
            {"workload": {"source": "digits_mlp", "options": {"hidden": 4, "depth": True}}},
            "workload.options: expected",
        ),
        (
            {"training": BASE["training"] | {"precision": "float64"}},
            "training.precision: .* for torch.float64, got",
        ),
    ],
)
def test_a_task_of_another_scenario_is_refused(changes, message):
    task = simulate.load_task(loaded())
    with pytest.raises(InputError, match=message):
        hybridsim.run(hybridsim.load(BASE | changes), task=task)


def test_float64_changes_the_price_but_not_the_first_parameters():
    large = {"workload": {"source": "digits_mlp", "options": {"hidden": 300, "depth": 3}}}
    scenarios = (
        BASE | large | {"training": BASE["training"] | {"precision": f"float{bits}"}}
        for bits in (32, 64)
    )
    single, double = (hybridsim.run(hybridsim.load(scenario)) for scenario in scenarios)
    first = [run.steps.train_loss[0] for run in (single, double)]
    assert first[0] == pytest.approx(first[1], rel=1e-5) and first[0] != first[1]
    peaks = [run.summary["gpu_peak_bytes"] for run in (single, double)]
    assert all(
        1.9 * few < many < 2.1 * few
        for few, many in zip(*(peak.values() for peak in peaks), strict=True)
    )
    moved = [run.spans.bytes.sum() for run in (single, double)]
    assert 1.5 * moved[0] < moved[1] < 2.2 * moved[0]
