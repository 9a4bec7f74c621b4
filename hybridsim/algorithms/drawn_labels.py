"""Loss gradients at labels that are drawn from the network's own distribution: a sampled Fisher.

With p = softmax(z) a label c is drawn with probability p_c, and the gradient in the outputs is p -
e_c; for mse, a mean over d_z outputs, labels are drawn with variance 1/2 and it is √(2/d_z) n, n
standard normal. Either has mean zero, and the loss Hessian for its covariance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.rng import Draw
from hybridsim.tasks.task import Task


def generator_of(z: Tensor, draw: Draw) -> torch.Generator:
    """Where the numbers of a draw come from, for outputs z."""
    return torch.Generator("cpu" if z.is_meta else z.device).manual_seed(draw.seed)


def random_numbers(
    task: Task,
    shape: torch.Size,
    like: Tensor,
    draw: Draw,
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """What labels of a shape (b, ...) are drawn with, (samples, b, ...) in the type of ``like``:
    uniform numbers, for mse normal ones; of the whole batch's the share of the draw.
    """
    mine = slice(draw.first, draw.first + shape[0])
    whole = like.new_empty(samples, draw.total, *shape[1:])
    if task.loss == "mse":
        return whole.normal_(generator=generator)[:, mine]
    return whole.uniform_(generator=generator)[:, mine]


def loss_gradients(probabilities: Tensor | None, numbers: Tensor) -> Tensor:
    """Gradients (samples, ..., d_z) in the outputs: p - e_c with p (..., d_z) and ``numbers``
    (samples, ...), or √(2/d_z) ``numbers`` without probabilities.
    """
    if probabilities is None:
        scale: float = (2 / numbers.shape[-1]) ** 0.5
        return numbers * scale
    labels = _labels(probabilities, numbers)
    ones = torch.ones_like(labels, dtype=probabilities.dtype)
    every = probabilities.expand(len(numbers), *probabilities.shape)
    found: Tensor = every.scatter_add(-1, labels, -ones)
    return found


def _labels(p: Tensor, uniform: Tensor) -> Tensor:
    """The labels (samples, ..., 1) at which the distribution functions of p (..., d_z) pass
    ``uniform``.
    """
    passed = p.cumsum(dim=-1)
    sought = uniform.movedim(0, -1) * passed[..., -1:]
    labels = torch.searchsorted(passed, sought.contiguous(), right=True)
    return labels.clamp(max=p.shape[-1] - 1).movedim(-1, 0)[..., None]
