"""Random tasks and batches for tests of K-FAC's factors."""

from __future__ import annotations

import torch

from hybridsim.rng import Draw
from hybridsim.tasks.task import Data, Workload, as_task


def random_task(network, loss, seed, shape, outputs, size=6, integers=0, dtype=torch.float64):
    """Task, theta and batch: inputs (size, *shape), integers below ``integers`` if given; outputs
    (size, *outputs)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, *shape, generator=generator)
    if integers:
        x = torch.randint(integers, (size, *shape), generator=generator)
    labels = torch.randint(outputs[-1], (size, *outputs[:-1]), generator=generator)
    y = labels if loss == "cross_entropy" else torch.randn(size, *outputs, generator=generator)
    task = as_task("random", Workload(network, Data(x, y, x, y), loss)).to("cpu", dtype)
    return task, task.initial_parameters(seed), (task.data.train_x, task.data.train_y)


def whole(batch, seed=0):
    return Draw(seed, 0, len(batch[0]))
