"""The curvature of a batch as products with vectors: neither J nor A is ever formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import jvp, vjp

from hybridsim.algorithms.natural_gradient.linearization import Curvature
from hybridsim.errors import InputError, Problem
from hybridsim.tasks.task import Batch, Task

Rows = Callable[[Mapping[str, Tensor]], Tensor]


def curvature_product(
    task: Task, theta: Tensor, batch: Batch, vector: Tensor, *, curvature: Curvature
) -> Tensor:
    """A v (N,) for v (N,): one forward-mode pass and one forward and backward pass (Schraudolph
    2002; Martens 2010).

    ``ggn``: A = Jᵀ H J/(b T), J the Jacobian of the outputs; ``empirical_fisher``: A = Jᵀ J/b, J
    that of the examples' own losses. As ``linearize`` has them, without the damping.

    Raises:
        InputError: the network has an operator that torch does not differentiate forwards (those of
            nn.LSTM and nn.EmbeddingBag).
    """
    rows = _rows(task, batch, curvature)
    parameters, tangents = task.layout.unflatten(theta), task.layout.unflatten(vector)
    along = _forward(task, rows, parameters, tangents)[1]
    z, pull = vjp(rows, parameters)[:2]
    pushed = along / len(z) if curvature == "empirical_fisher" else _loss_hessian(task, z, along)
    (pulled,) = pull(pushed)
    return task.layout.flatten(pulled)


def residual(
    task: Task,
    theta: Tensor,
    batch: Batch,
    damping: Tensor,
    gradient: Tensor,
    solution: Tensor,
    *,
    curvature: Curvature,
) -> Tensor:
    """What an x leaves of the system: g - (A + λI) x (N,), for one product."""
    product = curvature_product(task, theta, batch, solution, curvature=curvature)
    return gradient - product - damping * solution


class Quadratic(NamedTuple):
    """The batch's mean loss along a step: h(theta + t d) = loss + t slope + t² curvature/2."""

    loss: Tensor
    slope: Tensor
    curvature: Tensor


def along_step(
    task: Task, theta: Tensor, batch: Batch, step: Tensor, *, curvature: Curvature
) -> Quadratic:
    """Loss h, slope gᵀd and curvature dᵀA d along d (N,), of one forward-mode pass; A as in
    ``curvature_product``.
    """
    parameters, tangents = task.layout.unflatten(theta), task.layout.unflatten(step)
    rows = _rows(task, batch, curvature)
    value, along = _forward(task, rows, parameters, tangents)
    if curvature == "empirical_fisher":
        return Quadratic(value.mean(), along.mean(), along.square().mean())
    loss, slope = jvp(lambda z: losses(task, z, batch[1]).mean(), (value,), (along,))[:2]
    bent = (along * _loss_hessian(task, value, along)).sum()
    return Quadratic(loss, slope, bent)


def losses(task: Task, z: Tensor, y: Tensor) -> Tensor:
    """The examples' own losses (b,) at outputs z (b, ..., d_z), each a mean over its loss terms."""
    if task.loss == "mse":
        return (z - y).square().flatten(1).mean(dim=1)
    terms = F.cross_entropy(z.flatten(0, -2), y.flatten(), reduction="none")
    return terms.reshape(len(z), -1).mean(dim=1)


def _rows(task: Task, batch: Batch, curvature: Curvature) -> Rows:
    """What J is the Jacobian of: outputs (b, ..., d_z), or the examples' losses (b,)."""
    x, y = batch

    def outputs(parameters: Mapping[str, Tensor]) -> Tensor:
        return task.apply(parameters, x)

    def example_losses(parameters: Mapping[str, Tensor]) -> Tensor:
        return losses(task, task.apply(parameters, x), y)

    return outputs if curvature == "ggn" else example_losses


def _forward(
    task: Task, rows: Rows, parameters: dict[str, Tensor], tangents: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The rows, and their derivatives along the tangents."""
    try:
        found: tuple[Tensor, Tensor] = jvp(rows, (parameters,), (tangents,))[:2]
    except NotImplementedError as error:
        expected = "operators that torch differentiates forwards; or a method without products"
        got = str(error).partition(".")[0]
        raise InputError([Problem(task.name, None, "NGD, cg", expected, got)]) from error
    return found


def _loss_hessian(task: Task, z: Tensor, along: Tensor) -> Tensor:
    """H u/(b T), in the form of z: (diag(p) - ppᵀ) u for a softmax, 2 u/d_z for mse."""
    terms = z.numel() // z.shape[-1]
    if task.loss == "mse":
        return along * (2 / z.numel())
    p = torch.softmax(z, dim=-1)
    weighted = p * along
    return (weighted - p * weighted.sum(dim=-1, keepdim=True)) / terms
