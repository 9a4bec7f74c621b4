"""Kronecker factors of the dense layers' curvature (K-FAC), averaged and damped before they are inverted.

Conventions: A = Σ ā āᵀ/b, where ā is a layer's input with a 1 appended for the bias; G = Σ g gᵀ/b, where g is
the derivative in the layer's output of the unaveraged loss terms. A ⊗ G then approximates the layer's block
of the GGN of the mean loss (Martens & Grosse, ICML 2015; TKFAC §2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hybridsim.errors import InputError, Problem
from hybridsim.learning.curvature import hessian_root, output_derivatives
from hybridsim.learning.layout import Layout
from hybridsim.learning.task import Batch, Task
from hybridsim.outcome import Outcome

Fisher = Literal["type2", "empirical"]


class Layer(NamedTuple):
    """A dense layer: its module's name, outputs m and inputs n, counting the bias as one more input."""

    name: str
    outputs: int
    inputs: int


def layers(task: Task) -> tuple[Layer, ...]:
    """The dense layers that train, in the network's order.

    Raises:
        InputError: the network trains parameters outside dense layers; they are named.
    """
    found, covered = [], set()
    for name, module in task.network.named_modules():
        weight, bias = _names(name)
        if isinstance(module, nn.Linear) and weight in task.layout.names:
            covered |= {weight, bias}
            with_bias = bias in task.layout.names
            found.append(Layer(name, module.out_features, module.in_features + with_bias))
    outside = [name for name in task.layout.names if name not in covered]
    if outside:
        expected = "parameters of torch.nn.Linear layers only"
        raise InputError([Problem(task.name, None, "K-FAC", expected, ", ".join(outside))])
    return tuple(found)


def factors(task: Task, theta: Tensor, batch: Batch, *, fisher: Fisher = "type2") -> Outcome:
    """Kronecker factors and mean gradient from one forward and one batched backward pass.

    ``type2``: G = Σ_c Σ_i g_ic g_icᵀ/b, g_ic the backpropagated column c of the root of i's loss Hessian,
    so that no label is drawn (curvlinops' name). ``empirical``: g_i is the example's own loss gradient.

    Returns:
        Outcome({"gradient": (N,), "a": {layer: (n, n)}, "g": {layer: (m, m)}}, {"train_loss"}).

    Raises:
        InputError: parameters outside dense layers, or a dense layer not applied once to inputs (b, n).
    """
    (x, y), size, dense = batch, len(batch[0]), layers(task)
    activations, outputs, z = _forward(task, task.layout.unflatten(theta), x, dense)
    residual, _, probabilities, loss = output_derivatives(task, z.detach(), y)
    seeds = residual[None]
    if fisher == "type2":
        root = hessian_root(residual, probabilities)
        seeds = torch.cat([residual[None], root.permute(2, 0, 1)])
    backward = torch.autograd.grad(z, list(outputs.values()), seeds.to(z.dtype), is_grads_batched=True)
    a, g, parts = {}, {}, {}
    for layer, slopes in zip(dense, backward, strict=True):
        inputs = activations[layer.name]
        if layer.inputs > inputs.shape[1]:
            inputs = torch.cat([inputs, inputs.new_ones(size, 1)], dim=1)
        columns = (slopes[1:] if fisher == "type2" else slopes).reshape(-1, layer.outputs)
        a[layer.name] = inputs.T @ inputs / size
        g[layer.name] = columns.T @ columns / size
        parts[layer.name] = slopes[0].T @ inputs / size
    value = {"gradient": join_gradient(task.layout, parts), "a": a, "g": g}
    return Outcome(value, {"train_loss": loss})


def ema(old: Mapping[str, Tensor], new: Mapping[str, Tensor], *, decay: float) -> Outcome:
    """``decay`` · old + (1 - decay) · new, layer by layer: the weight is the old factor's."""
    return Outcome({name: torch.lerp(new[name], old[name], decay) for name in new})


def average(old: Mapping[str, Any], new: Mapping[str, Any], *, decay: float) -> Outcome:
    """The values of ``factors``, with A and G replaced by their moving averages (see ``ema``)."""
    averages = {side: ema(old[side], new[side], decay=decay).value for side in ("a", "g")}
    return Outcome({"gradient": new["gradient"], **averages})


def damping_terms(a: Tensor, g: Tensor, *, damping: float, rule: Literal["plain", "pi"] = "plain") -> Outcome:
    """What is added to the diagonals of A and G, each 0-dim.

    ``plain``: λ, λ (TKFAC eq. 24). ``pi``: π√λ, √λ/π with π² = (tr A/dim A)/(tr G/dim G) (Martens & Grosse,
    ICML 2015, §6.3); π = 1 where a trace is not positive (a dead layer).

    Raises:
        ValueError: unknown rule.
    """
    if rule == "plain":
        return Outcome((a.new_full((), damping), g.new_full((), damping)))
    if rule != "pi":
        raise ValueError(f"expected plain or pi, got {rule!r}")
    mean_a, mean_g = a.diagonal().mean(), g.diagonal().mean()
    alive = (mean_a > 0) & (mean_g > 0)
    pi = torch.where(alive, mean_a / torch.where(alive, mean_g, 1.0), 1.0).sqrt()
    return Outcome((pi * damping**0.5, damping**0.5 / pi))


def damp(a: Tensor, g: Tensor, *, damping: float, rule: Literal["plain", "pi"] = "plain") -> Outcome:
    """Damped factors (A, G), with the terms of ``damping_terms``."""
    terms = damping_terms(a, g, damping=damping, rule=rule).value
    return Outcome((_shifted(a, terms[0]), _shifted(g, terms[1])))


def slice_gradient(task: Task, gradient: Tensor, *, layer: str) -> Outcome:
    """A layer's part of the gradient (N,) as columns (m, n)."""
    return Outcome(layer_gradient(task.layout, gradient, layer).contiguous())


def transpose(matrix: Tensor) -> Outcome:
    """The transpose, contiguous: what is sent column by column next."""
    return Outcome(matrix.T.contiguous())


def join_directions(task: Task, *parts: Tensor) -> Outcome:
    """The flat vector (N,) of all layers' matrices (m, n), in the network's order."""
    named = {layer.name: part for layer, part in zip(layers(task), parts, strict=True)}
    return Outcome(join_gradient(task.layout, named))


def layer_gradient(layout: Layout, gradient: Tensor, layer: str) -> Tensor:
    """A layer's part of a flat vector (N,) as (m, n): the weight, and the bias as last column."""
    parts = layout.unflatten(gradient)
    weight, bias = _names(layer)
    return torch.cat([parts[weight], parts[bias][:, None]], dim=1) if bias in parts else parts[weight]


def join_gradient(layout: Layout, parts: Mapping[str, Tensor]) -> Tensor:
    """The flat vector (N,) of all layers' matrices (m, n): the inverse of ``layer_gradient``."""
    named = {}
    for layer, matrix in parts.items():
        weight, bias = _names(layer)
        named[weight] = matrix
        if bias in layout.names:
            named[weight], named[bias] = matrix[:, :-1], matrix[:, -1]
    return layout.flatten(named)


def _forward(
    task: Task, parameters: Mapping[str, Tensor], x: Tensor, dense: tuple[Layer, ...]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Inputs and differentiable outputs of each dense layer, and the network's outputs z."""
    activations: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    modules = dict(task.network.named_modules())
    hooks = []
    for layer in dense:

        def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = layer.name) -> Tensor:
            if inputs[0].ndim != 2 or name in outputs:
                expected = "a dense layer applied once to inputs (batch, n)"
                got = f"inputs {tuple(inputs[0].shape)}" if inputs[0].ndim != 2 else "a second use"
                raise InputError([Problem(task.name, None, f"K-FAC, {name}", expected, got)])
            activations[name] = inputs[0].detach()
            # what comes first depends on nothing that is differentiated: it starts the graph
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[name]

        hooks.append(modules[layer.name].register_forward_hook(keep))
    try:
        with torch.enable_grad():
            z = task.apply(parameters, x)
    finally:
        for hook in hooks:
            hook.remove()
    return activations, {layer.name: outputs[layer.name] for layer in dense}, z


def _shifted(matrix: Tensor, shift: float | Tensor) -> Tensor:
    """Matrix + shift · I."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return matrix + shift * identity


def _names(layer: str) -> tuple[str, str]:
    """Parameter names of a module's weight and bias."""
    prefix = f"{layer}." if layer else ""
    return f"{prefix}weight", f"{prefix}bias"
