"""The linearization of a batch whose Jacobian is never in memory: rows are made as they are read.

``streamed``: some columns at a time, by a backward pass of every row through the network; of any
network. ``products``: of dense layers and convolutions whose factors take less than their columns
the inputs and the gradients in their outputs are kept (``circuits.layered``), of all other
parameters the columns themselves. What the GPU is priced for is J all the same: that is what it
sends, so work is counted of the explicit form, and so are shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vjp, vmap

from hybridsim.algorithms.drawn_labels import generator_of, loss_gradients, random_numbers
from hybridsim.algorithms.natural_gradient import linearization, sampled_fisher
from hybridsim.algorithms.natural_gradient.linearization import (
    Curvature,
    Linearization,
    output_derivatives,
    output_residuals,
)
from hybridsim.algorithms.patches import patches
from hybridsim.circuits.layered import Outer, SideBySide
from hybridsim.circuits.rows import Explicit, Rows
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.rng import Draw
from hybridsim.tasks.task import Batch, Task

Form = Literal["streamed", "products"]
Named = Mapping[str, Tensor]
_AT_ONCE_BYTES = 1 << 27  # of whole parameters' columns, of some examples


@derivable
def linearize_free(
    task: Task, theta: Tensor, batch: Batch, *, curvature: Curvature, form: Form
) -> Outcome:
    """As ``linearization.linearize``, to rounding; J as ``Rows``."""
    if theta.is_meta:
        return linearization.linearize(task, theta, batch, curvature=curvature)
    (x, y), hessian = batch, None
    z, pull = _passed(task, theta, x)
    if curvature == "ggn":
        residual, hessian, probabilities, loss = output_derivatives(task, z, y)
        width = z[0].numel()
        identity = torch.eye(width, dtype=z.dtype, device=z.device)
        seeds = identity.reshape(width, *z.shape[1:]).expand(len(z), width, *z.shape[1:])
    else:
        residual, probabilities, loss = output_residuals(task, z, y)
        seeds = (residual / task.terms).to(z.dtype).reshape(z.shape)[:, None]
    gradient = pull(residual)
    jacobian = rows_of(task, theta, x, seeds, form)
    value = Linearization(jacobian, hessian, gradient, residual, probabilities)
    return Outcome(value, {"train_loss": loss})


@derivable
def sample_free(
    task: Task, theta: Tensor, batch: Batch, draw: Draw, *, samples: int, form: Form
) -> Outcome:
    """As ``sampled_fisher.sampled_fisher``, to rounding; J as ``Rows``."""
    if theta.is_meta:
        return sampled_fisher.sampled_fisher(task, theta, batch, draw, samples=samples)
    x, y = batch
    z, pull = _passed(task, theta, x)
    residual, probabilities, loss = output_residuals(task, z, y)
    generator = generator_of(theta, draw)
    numbers = random_numbers(task, y.shape, theta, draw, samples, generator)
    p = z.softmax(dim=-1) if task.loss == "cross_entropy" else None
    seeds = (loss_gradients(p, numbers) / task.terms**0.5).movedim(1, 0)
    jacobian = rows_of(task, theta, x, seeds, form)
    value = Linearization(jacobian, None, pull(residual), residual, probabilities, drawn=True)
    return Outcome(value, {"train_loss": loss})


def rows_of(task: Task, theta: Tensor, x: Tensor, seeds: Tensor, form: Form) -> Rows:
    """J with d rows for each of b examples: the gradients of z · seed in theta.

    Args:
        task: the network.
        theta: (N,).
        x: (b, ...).
        seeds: (b, d, ..., d_z).
        form: how rows are made.
    """
    make = Streamed if form == "streamed" else _products
    return make(task, theta, x, seeds)


def _passed(task: Task, theta: Tensor, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Outputs z (b, ..., d_z), and the gradient (N,) of the mean loss from its residuals."""
    z, pull = vjp(lambda p: task.apply(p, x), task.layout.unflatten(theta))[:2]

    def gradient(residual: Tensor) -> Tensor:
        (pulled,) = pull((residual / len(residual)).to(z.dtype).reshape(z.shape))
        return task.layout.flatten(pulled)

    return z, gradient


class Streamed(Rows):
    """Backward passes for the columns that are asked for; see ``rows_of``."""

    def __init__(self, task: Task, theta: Tensor, x: Tensor, seeds: Tensor) -> None:
        self.task, self.theta, self.x, self.seeds = task, theta, x, seeds
        self.shape = (seeds.shape[0] * seeds.shape[1], len(theta))
        self.dtype, self.device = theta.dtype, theta.device

    def above(self, *others: Rows) -> Rows:
        """See ``Rows``; of other examples, at the same parameters."""
        every = [self, *(rows for rows in others if isinstance(rows, Streamed))]
        x, seeds = (torch.cat([getattr(r, name) for r in every]) for name in ("x", "seeds"))
        return Streamed(self.task, self.theta, x, seeds)

    def columns(self, part: slice) -> Tensor:
        """See ``Rows``."""
        layout, each = self.task.layout, self.seeds.shape[1]
        cuts = {}
        for name, first, size in zip(layout.names, layout.offsets, layout.sizes, strict=True):
            start, stop = max(part.start - first, 0), min(part.stop - first, size)
            if start < stop:
                cuts[name] = slice(start, stop)
        fixed = layout.unflatten(self.theta)
        asked = {name: fixed[name] for name in cuts}
        bytes_each = each * sum(p.numel() for p in asked.values()) * self.dtype.itemsize
        count, made = max(1, _AT_ONCE_BYTES // bytes_each), []
        for x, seeds in zip(self.x.split(count), self.seeds.split(count), strict=True):
            slopes, _, _ = _slopes(self.task, fixed, asked, x, seeds)
            rows = len(x) * each
            found = [slopes[name].reshape(rows, -1)[:, cut] for name, cut in cuts.items()]
            made.append(torch.cat(found, dim=1))
        return torch.cat(made)


def _products(task: Task, theta: Tensor, x: Tensor, seeds: Tensor) -> Rows:
    """Layer by layer, in the order of theta; what is no ``Outer`` as columns."""
    layers, each = factored(task, seeds.shape[1]), seeds.shape[1]
    fixed = task.layout.unflatten(theta)
    asked = {name: p for name, p in fixed.items() if name not in layers}
    slopes, inputs, gradients = _slopes(task, fixed, asked, x, seeds, layers)
    groups: list[Rows] = []
    for name in task.layout.names:
        if name not in layers:
            groups.append(Explicit(slopes[name].reshape(len(x) * each, -1)))
            continue
        module = task.network.get_submodule(layers[name].module)
        groups.append(Outer(*_by_position(module, inputs[name], gradients[name])))
    return SideBySide(groups)


def _by_position(module: nn.Module, inputs: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's inputs (b, P, n), and gradients in its outputs (b, d, P, m)."""
    if isinstance(module, nn.Conv2d):
        (rows,) = patches(module, inputs.flatten(0, 1))
        return rows, slopes.flatten(4).flatten(2, 3).mT
    rows = inputs.reshape(len(inputs), -1, inputs.shape[-1])
    return rows, slopes.reshape(*slopes.shape[:2], -1, slopes.shape[-1])


def _slopes(
    task: Task,
    fixed: Named,
    asked: Named,
    x: Tensor,
    seeds: Tensor,
    layers: Mapping[str, Layer] = MappingProxyType({}),
) -> tuple[Named, Named, Named]:
    """Gradients (b, d, ...) of z · seed in the parameters that are asked for; by weight the inputs
    (b, 1, ...) of layers, and the gradients (b, d, 1, ...) in their outputs.
    """
    taps = {
        name: torch.zeros(layer.outputs, dtype=seeds.dtype, device=seeds.device)
        for name, layer in layers.items()
    }

    def of_one(example: Tensor, seeds: Tensor) -> tuple[Named, Named, Named]:
        def outputs(asked: Named, taps: Named) -> tuple[Tensor, Named]:
            with _tapped(task, layers, taps) as inputs:
                z = task.apply({**fixed, **asked}, example[None])[0]
            return z, inputs

        found: Any = vjp(outputs, asked, taps, has_aux=True)  # Any: a triple under has_aux
        _, pull, inputs = found
        slopes, gradients = vmap(pull)(seeds)
        return slopes, inputs, gradients

    found: tuple[Named, Named, Named] = vmap(of_one)(x, seeds)
    return found


@contextmanager
def _tapped(task: Task, layers: Mapping[str, Layer], taps: Named) -> Iterator[dict[str, Tensor]]:
    """Add something to the outputs of layers; yields what they are given, by weight."""
    inputs: dict[str, Tensor] = {}

    def tap(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def add(_: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
            inputs[name] = given[0]
            return output + taps[name]

        return add

    hooks = [
        task.network.get_submodule(layer.module).register_forward_hook(tap(name))
        for name, layer in layers.items()
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


class Layer(NamedTuple):
    """A module whose weight is multiplied with its inputs once for each example, and used nowhere
    else: its name, and the shape of its output for one example (1, ...).
    """

    module: str
    outputs: torch.Size


def factored(task: Task, each: int) -> dict[str, Layer]:
    """By weight, the layers whose factors are fewer numbers than their columns of J: P (m d + n)
    against d m n of weights (m, n) at P positions, for d = ``each`` rows of an example.
    """
    shapes = dict(zip(task.layout.names, task.layout.shapes, strict=True))
    found = {}
    for name, layer in layers_of(task).items():
        outputs, *rest = shapes[name]
        fan_in, positions = prod(rest), layer.outputs.numel() // outputs
        if positions * (outputs * each + fan_in) < each * outputs * fan_in:
            found[name] = layer
    return found


@lru_cache(maxsize=8)
def layers_of(task: Task) -> dict[str, Layer]:
    """By weight, the linear layers and ungrouped convolutions with zero padding that a forward pass
    of one example comes to once; found on shapes alone.
    """
    shapes = task.meta()
    network, trained = shapes.network, set(task.layout.names)
    calls: dict[str, list[torch.Size]] = {}
    hooks = [
        module.register_forward_hook(_cut(f"{name}.weight", calls))
        for name, module in network.named_modules()
        if f"{name}.weight" in trained and _multiplies(module)
    ]
    parameters = {
        name: torch.empty(shape, dtype=task.dtype, device="meta", requires_grad=True)
        for name, shape in zip(task.layout.names, task.layout.shapes, strict=True)
    }
    try:
        with torch.enable_grad():
            z = shapes.apply(parameters, shapes.data.train_x[:1])
            weights = [parameters[name] for name in calls]
            used = torch.autograd.grad(z.sum(), weights, allow_unused=True) if weights else ()
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: Layer(name.removesuffix(".weight"), sizes[0])
        for (name, sizes), elsewhere in zip(calls.items(), used, strict=True)
        if len(sizes) == 1 and elsewhere is None
    }


def _multiplies(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _cut(
    name: str, calls: dict[str, list[torch.Size]]
) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A hook that notes a call, and whose output does not depend on the weight."""

    def again(module: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        calls.setdefault(name, []).append(output.shape)
        if isinstance(module, nn.Conv2d):
            found: Tensor = module._conv_forward(given[0], module.weight.detach(), module.bias)
            return found
        assert isinstance(module, nn.Linear), "see _multiplies"
        return F.linear(given[0], module.weight.detach(), module.bias)

    return again
