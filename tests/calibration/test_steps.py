"""Whole steps: what is timed is what a simulated GPU is asked for, all of it and nothing else."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.calibration import steps as module
from hybridsim.calibration.clock import CpuClock
from hybridsim.calibration.networks import STEP, draw_steps, scenario_of, task_of
from hybridsim.calibration.steps import counted_steps, time_steps, timed_steps
from hybridsim.errors import InputError

KFAC = {"kind": "kfac", "method": "digital", "learning_rate": 0.01, "damping": 0.1}
TNGD = {"kind": "tngd", "learning_rate": 0.2, "damping": 0.05, "settle": "10 tau"}
ANALOG = {"gpu": "host-cpu", "link": "paper-50gbps", "spus": {"count": 1, "part": "rc-1us"}}


def scenario(algorithm, machine=None, hidden=5, batch=4, steps=4):
    return hybridsim.load(
        {
            "name": "test",
            "workload": {"source": "digits_mlp", "options": {"hidden": hidden, "depth": 1}},
            "training": {
                "batch_size": batch,
                "steps": steps,
                "evaluate_every": steps,
                "algorithm": algorithm,
            },
            "machine": machine or {"gpu": "host-cpu"},
        }
    )


@pytest.mark.parametrize(
    "algorithm",
    [{"kind": "sgd", "learning_rate": 0.1}, {"kind": "muon", "learning_rate": 0.1}, KFAC],
)
def test_a_digital_step_is_predicted_as_it_is_simulated(algorithm):
    """A machine of one GPU does nothing else: its clock is the sum of the prices."""
    asked = scenario(algorithm)
    run = hybridsim.run(asked, backend="timing")
    simulated = (run.steps["end_ps"] - run.steps["start_ps"]).to_numpy()[1:] * 1e-12
    found = time_steps(asked, 3)
    predicted = [step.predicted_s for step in found]
    assert predicted == pytest.approx(simulated, rel=1e-6)
    spans = run.spans[run.spans["step"] > 1]
    assert sum(step.launches for step in found) == spans["launches"].sum()
    assert all(step.measured_s > 0 for step in found)


def test_of_a_hybrid_step_the_gpus_part_counts_alone():
    asked = scenario(TNGD, ANALOG)
    run = hybridsim.run(asked, backend="timing")
    spans = run.spans[run.spans["part"].str.startswith("gpu") & (run.spans["step"] > 1)]
    computed = spans[spans["launches"] > 0]
    packed = computed[computed["kind"].str.contains("pack")]
    works = [
        work for step in timed_steps(asked, hybridsim.load_task(asked), 3) for work in step.works
    ]
    assert (
        sum(work.launches for work in works)
        == computed["launches"].sum() - packed["launches"].sum()
    )


class Ticking(CpuClock):
    """Every look at the clock takes a second."""

    def __init__(self):
        self.now = count().__next__


@pytest.mark.parametrize(("algorithm", "machine"), [(KFAC, None), (TNGD, ANALOG)])
def test_each_computation_is_timed_once(monkeypatch, algorithm, machine):
    monkeypatch.setattr(module, "clock_of", lambda device: Ticking())
    asked = scenario(algorithm, machine)
    for step in timed_steps(asked, hybridsim.load_task(asked), 2):
        assert step.works and step.seconds == len(step.works)


@given(place=st.integers(0, 40), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_steps_with_numbers_ask_for_what_steps_without_them_do(place, seed):
    case = draw_steps(place + 1, seed)[place]
    asked, task = scenario_of(case, "cpu", 1), task_of(case, "cpu")
    live, counted = timed_steps(asked, task, 2), counted_steps(asked, task, 2)
    assert case.family == STEP and [step.works for step in live] == [s.works for s in counted]
    assert {k.precision for w in counted[0].works for k in w.kernels} >= {
        "fp32" if case.dtype == "float32" else "fp64"
    }


def test_several_gpus_are_refused():
    two = scenario({"kind": "sgd", "learning_rate": 0.1}, {"gpu": {"part": "host-cpu", "count": 2}})
    with pytest.raises(InputError, match="expected one GPU, got 2"):
        time_steps(two)
