"""Live runs with ``host.device: cuda``: ``pytest tests/soak/cuda_device.py`` on a computer with a
CUDA device. It fails without one, and is collected by its name only.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import hybridsim

IDEAL = "machine.spus.imperfections=ideal"
RUNS = {
    "adam-digits": [],
    "kfac-digits-digital": [],
    "ngd-cg-digits": [],
    "kfac-digits": [IDEAL],
    "tngd-digits": [IDEAL],
}
TIMES = ["part", "kind", "queued_ps", "start_ps", "end_ps"]


def scenario(name: str, device: str) -> hybridsim.Scenario:
    short = ["training.steps=3", "training.evaluate_every=3", f"host.device={device}"]
    return hybridsim.load(name, [*RUNS[name], *short])


@pytest.mark.parametrize("name", RUNS)
def test_cuda_gives_the_schedule_of_the_processor_and_its_numbers_to_rounding(name):
    runs = [hybridsim.run(scenario(name, device)) for device in ("cpu", "cuda", "cuda")]
    processor, cuda, again = runs
    assert cuda.manifest["digest"] == again.manifest["digest"]
    assert cuda.manifest["hashes"]["numerics"] != processor.manifest["hashes"]["numerics"]
    pd.testing.assert_frame_equal(cuda.spans[TIMES], processor.spans[TIMES])
    losses = [run.steps["train_loss"].to_numpy() for run in (processor, cuda)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.parametrize("name", ["adam-digits", "kfac-digits-digital"])
def test_a_digital_step_waits_for_the_device_for_its_facts_alone(name):
    asked = scenario(name, "cuda")
    task = hybridsim.load_task(asked)
    hybridsim.run(asked, task=task)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run = hybridsim.run(asked, task=task)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in found if "synchronizing CUDA operation" in str(one.message)]
    # a step's facts, an evaluation's, and the batch that is picked by indices of the processor
    assert len(waits) <= 6 * len(run.steps)
