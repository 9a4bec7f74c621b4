"""The Fisher matrix from labels that the network draws: an unbiased estimate of the GGN with fewer
rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from hybridsim.algorithms.drawn_labels import generator_of, loss_gradients, random_numbers
from hybridsim.algorithms.natural_gradient.linearization import Linearization, output_residuals
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.rng import Draw
from hybridsim.tasks.task import Batch, Task, batch_loss

Rows = Mapping[str, Tensor]


@derivable
def sampled_fisher(task: Task, theta: Tensor, batch: Batch, draw: Draw, *, samples: int) -> Outcome:
    """A = Jᵀ J/(b S) with r = b S rows: S draws for each of b examples of T loss terms.

    Row (i, s) is Σ_t J_itᵀ g_its/√T, g_its the loss gradient of term t at a label drawn for it
    (``drawn_labels``): terms are drawn apart, so that their products vanish in the mean and E A =
    Jᵀ H J/(b T), the GGN. The gradient is that of the batch's own labels, one more backward pass;
    it is no combination of the rows.

    Returns:
        Outcome(Linearization, {"train_loss"}), without a loss Hessian.
    """
    (x, y), size = batch, len(batch[0])

    def rows(
        parameters: Mapping[str, Tensor], example: Tensor, target: Tensor, numbers: Tensor
    ) -> tuple[Rows, Rows, Tensor]:
        z, pull = vjp(lambda p: task.apply(p, example[None])[0], parameters)[:2]
        p = z.softmax(dim=-1) if task.loss == "cross_entropy" else None
        slope = grad(lambda outputs: batch_loss(task.loss, outputs[None], target[None]))(z)
        seeds = torch.cat([loss_gradients(p, numbers) / task.terms**0.5, slope[None]])
        (pulled,) = vmap(pull)(seeds)
        drawn, own = ({k: v[part] for k, v in pulled.items()} for part in (slice(samples), samples))
        return drawn, own, z

    generator = generator_of(theta, draw)
    numbers = random_numbers(task, y.shape, theta, draw, samples, generator)
    every = vmap(rows, in_dims=(None, 0, 0, 1))
    drawn, own, z = every(task.layout.unflatten(theta), x, y, numbers)
    jacobian = task.layout.flatten_rows(drawn, size * samples)
    gradient = task.layout.flatten({name: part.mean(dim=0) for name, part in own.items()})
    residual, probabilities, loss = output_residuals(task, z, y)
    value = Linearization(jacobian, None, gradient, residual, probabilities, drawn=True)
    return Outcome(value, {"train_loss": loss})
