"""A thousand draws of constants beside as many simulations."""

from __future__ import annotations

import time

import numpy as np
import pytest

import hybridsim
from hybridsim.studies.retiming import record, retime
from hybridsim.studies.retiming.again import simulated
from hybridsim.studies.retiming.draws import drawn_machine, owned, ranged_constants

pytestmark = pytest.mark.benchmark
DRAWS, SIMULATED = 1000, 5


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.parametrize(
    "name", ["adam-digits", "tngd-digits", "kfac-digits-digital", "kfac-digits"]
)
def test_draws(name):
    scenario = hybridsim.load(name)
    recording = record(scenario, hybridsim.load_task(scenario))
    sides, rng = {"": scenario}, np.random.default_rng(0)
    constants = [one for one in ranged_constants(sides) if not one.numeric]
    settings = [
        {
            one.name: float(np.exp(rng.uniform(np.log(one.low), np.log(one.high))))
            for one in constants
        }
        for _ in range(DRAWS)
    ]
    machines = [drawn_machine(recording.spec, owned(sides, ""), one) for one in settings]
    simulated(recording, None, machines[0])  # warm
    one_s = seconds(lambda: [simulated(recording, None, m) for m in machines[:SIMULATED]])
    all_s = seconds(lambda: retime(recording, machines))
    share = retime(recording, machines).valid.mean()
    ratio = one_s / SIMULATED * DRAWS / all_s
    print(
        f"\n{name}: {DRAWS} draws of {len(recording.spans)} spans in {all_s:.2f} s, "
        f"{ratio:.0f} times faster than simulated; holds for {share:.0%}"
    )
