"""The gradient of a batch, by one backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
    slopes, loss = _slopes(task, theta, y, lambda parameters: task.apply(parameters, x))
    return Outcome(slopes, {"train_loss": loss})


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
    (x, y), moved = batch, Buffers()

    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        done = task.train(parameters, buffers, x, draw)
        moved.update(done.buffers)
        return done.z

    slopes, loss = _slopes(task, theta, y, outputs)
    return Outcome((slopes, moved), {"train_loss": loss})


def _slopes(
    task: Task, theta: Tensor, y: Tensor, outputs: Callable[[dict[str, Tensor]], Tensor]
) -> tuple[Tensor, Tensor]:
    """Gradient (N,) and mean loss.

    Not by ``torch.func.grad``, which makes the backward pass differentiable: GroupNorm's alone
    falls into some 35 kernels then, and is one in ``loss.backward()``.
    """
    parameters = {n: p.detach().requires_grad_() for n, p in task.layout.unflatten(theta).items()}
    with torch.enable_grad():
        loss = batch_loss(task.loss, outputs(parameters), y)
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return task.layout.flatten(dict(zip(parameters, found, strict=True))), loss.detach()
