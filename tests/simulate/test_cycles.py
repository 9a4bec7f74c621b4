"""A simulation without tensors leaves no cycles to the garbage collector: it is off meanwhile."""

from __future__ import annotations

import gc

import hybridsim


def test_what_is_left_to_the_collector_does_not_grow_with_the_steps():
    name = "kfac-digits"
    task = hybridsim.load_task(hybridsim.load(name))

    def left(steps: int) -> int:
        scenario = hybridsim.load(name, [f"training.steps={steps}"])
        gc.collect()
        gc.disable()
        try:
            hybridsim.run(scenario, backend="timing", task=task)
            assert not gc.isenabled()  # it stays as the caller has it
            return gc.collect()
        finally:
            gc.enable()

    left(2)  # what is counted once
    few, many = left(2), left(8)
    assert many <= few + 6
