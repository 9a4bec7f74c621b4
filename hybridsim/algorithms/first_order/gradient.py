"""The gradient of a batch."""

from __future__ import annotations

from torch import Tensor
from torch.func import grad_and_value

from hybridsim.outcome import Outcome
from hybridsim.tasks.task import Batch, Task, batch_loss


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
