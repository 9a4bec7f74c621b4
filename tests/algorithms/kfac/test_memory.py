"""K-FAC's factors leave nothing of the recorded graph behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from hybridsim.algorithms.kfac.factors import factors
from hybridsim.algorithms.kfac.layers import layers
from hybridsim.algorithms.kfac.tape import Tape
from hybridsim.rng import Draw
from hybridsim.tasks.task import Data, Task, Workload, as_task


def small_task() -> Task:
    x, y = torch.randn(24, 5), torch.randint(0, 3, (24,))
    return as_task("small", Workload(network, Data(x, y, x, y), "cross_entropy"))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def test_a_tape_frees_its_graph_with_the_last_reference():
    task = small_task()
    tape = Tape(task, task.initial_parameters(0), task.data[:2], layers(task, "expand"))
    tape.gradients(keep=True)
    held = [weakref.ref(tape), *map(weakref.ref, (tape.z, tape.loss))]
    gc.disable()
    try:
        del tape
        assert not any(ref() is not None for ref in held)
    finally:
        gc.enable()


@pytest.mark.parametrize("fisher", ["type2", "mc", "empirical"])
def test_factors_of_many_steps_hold_no_more_tensors_than_those_of_one(fisher):
    task = small_task()
    theta, counts = task.initial_parameters(0), []
    for step in range(4):
        factors(task, theta, task.data[:2], Draw(step, 0, 24), fisher=fisher, sharing="expand")
        gc.collect()
        counts.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))
    assert counts[-1] == counts[0]
