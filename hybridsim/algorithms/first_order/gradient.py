"""The gradient of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad_and_value

from hybridsim.outcome import Outcome
from hybridsim.rng import Draw
from hybridsim.tasks.task import Batch, Task, batch_loss
from hybridsim.tasks.training import Buffers


def gradient(task: Task, theta: Tensor, batch: Batch) -> Outcome:
    """Gradient of the batch's mean loss, shape (N,) in theta's type.

    Returns:
        Outcome(g, {"train_loss"}).
    """
    x, y = batch

    def mean_loss(parameters: dict[str, Tensor]) -> Tensor:
        return batch_loss(task.loss, task.apply(parameters, x), y)

    gradients, loss = grad_and_value(mean_loss)(task.layout.unflatten(theta))
    return Outcome(task.layout.flatten(gradients), {"train_loss": loss})


def training_gradient(
    task: Task, theta: Tensor, batch: Batch, buffers: Buffers, draw: Draw
) -> Outcome:
    """Gradient of the batch's mean loss in training (``tasks.training``), shape (N,) in theta's
    type, and the buffers after the forward pass: BatchNorm normalises by the batch's statistics,
    dropout drops by the masks of ``draw``.

    Returns:
        Outcome((g, buffers), {"train_loss"}).

    Raises:
        InputError: as ``Task.train``.
    """
    x, y = batch
    parameters = {n: p.detach().requires_grad_() for n, p in task.layout.unflatten(theta).items()}
    with torch.enable_grad():
        done = task.train(parameters, buffers, x, draw)
        loss = batch_loss(task.loss, done.z, y)
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    gradients = dict(zip(parameters, found, strict=True))
    return Outcome((task.layout.flatten(gradients), done.buffers), {"train_loss": loss.detach()})
