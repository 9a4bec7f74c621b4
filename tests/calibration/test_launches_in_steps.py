"""What a launch costs in whole steps: closed forms, for a CPU and for a GPU with its host."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from hybridsim.calibration.fit import Measurement
from hybridsim.calibration.launches import with_launches
from hybridsim.calibration.prediction import INTERVAL, floors_of, on_device, seconds_of
from hybridsim.work import Kernel

SHEET = hybridsim.load_part("gpu", "host-cpu")
kernels = st.lists(
    st.builds(
        Kernel,
        name=st.just("aten.add"),
        flop=st.floats(0, 1e6),
        bytes=st.floats(1, 1e7),
        count=st.integers(1, 50),
    ),
    min_size=1,
    max_size=5,
)
extras = st.lists(st.floats(1e-6, 1e-3), min_size=3, max_size=9)


@given(kernels, extras)
def test_on_a_cpu_a_launch_adds_its_cost(work, extra):
    launches = sum(kernel.count for kernel in work)
    alone = seconds_of(SHEET, work)
    steps = [Measurement(tuple(work), alone + h * launches, "step", "") for h in extra]
    found = with_launches(SHEET, steps, "here", synchronous=True)
    for name in floors_of(SHEET):
        before, after = SHEET.constants[name], found.constants[name]
        assert after.value - before.value == pytest.approx(np.median(extra), rel=1e-6)
        assert after.low == before.low
        assert after.high - before.high == pytest.approx(np.quantile(extra, 0.9), rel=1e-6)
        assert after.status == "fitted"
    predicted = seconds_of(found, work)
    assert predicted == pytest.approx(alone + np.median(extra) * launches, rel=1e-6)


@given(kernels)
def test_steps_that_are_faster_than_loops_take_nothing_off(work):
    steps = [Measurement(tuple(work), 0.5 * seconds_of(SHEET, work), "step", "")] * 3
    found = with_launches(SHEET, steps, "here", synchronous=True)
    assert found.numbers == SHEET.numbers


@given(kernels, st.lists(st.floats(2, 100), min_size=3, max_size=9))
def test_on_a_gpu_the_interval_is_that_of_steps_in_which_the_host_sets_the_pace(work, slower):
    launches = sum(kernel.count for kernel in work)
    device_s = seconds_of(on_device(SHEET), work)
    paced = [Measurement(tuple(work), device_s * factor, "step", "") for factor in slower]
    busy = [Measurement(tuple(work), device_s * 1.2, "step", "")] * 20
    found = with_launches(SHEET, [*paced, *busy], "here", synchronous=False).constants[INTERVAL]
    expected = np.quantile(slower, (0.5, 0.1, 0.9)) * device_s / launches
    assert (found.value, found.low, found.high) == pytest.approx(tuple(expected), rel=1e-6)
    assert with_launches(SHEET, busy, "here", synchronous=False) == SHEET
