"""A recorded forward pass: what each layer was given, and the gradients in what it gave."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from hybridsim.algorithms.kfac.layers import Kind, Layer
from hybridsim.algorithms.kfac.projections import Projections
from hybridsim.errors import InputError, Problem
from hybridsim.operations.count import stage
from hybridsim.tasks.task import Batch, Task, batch_loss

# fewest and most dimensions of a layer's inputs; None: any number
_RANKS: dict[Kind, tuple[int, int | None]] = {
    "linear": (2, None),
    "conv2d": (4, 4),
    "embedding": (1, None),
    "embedding_bag": (2, 2),
    "in_projection": (3, 3),
}


class Tape:
    """Forward pass of a batch, with the given layers watched.

    Attributes:
        layers: the watched layers, heads with an embedding's weight among them.
        modules: each one's module, by name.
        z: outputs (b, ..., d_z).
        loss: mean loss, 0-dim.
        inputs: what each module was applied to, by name.
        reached: names of the modules, those whose outputs backward has come to first, in that
            order.

    Raises:
        InputError: a watched layer that is not applied exactly once to inputs (b, ...); attention
            between two sequences; a bag of weighted tokens.
    """

    def __init__(self, task: Task, theta: Tensor, batch: Batch, layers: tuple[Layer, ...]) -> None:
        self.layers = (*layers, *(layer.head for layer in layers if layer.head is not None))
        self.modules = {
            layer.module: task.network.get_submodule(layer.module) for layer in self.layers
        }
        self.inputs: dict[str, Tensor] = {}
        self._name = task.name
        self._parameters = {
            n: p.detach().requires_grad_() for n, p in task.layout.unflatten(theta).items()
        }
        self._edges: dict[str, tuple[GradientEdge, torch.Size]] = {}
        self._came: dict[str, None] = {}
        self._tagging = False
        self._size = len(batch[0])
        x, y = batch
        hooks = [
            self.modules[layer.module].register_forward_hook(self._keeper(layer), with_kwargs=True)
            for layer in self.layers
            if layer.kind != "in_projection"
        ]
        try:
            with torch.enable_grad(), self._watching_attention():
                self.z = task.apply(self._parameters, x)
                self.loss = batch_loss(task.loss, self.z, y)
        finally:
            for hook in hooks:
                hook.remove()
        for name in self.modules:
            if name not in self._edges:
                self._refuse(name, "no call")

    @property
    def reached(self) -> tuple[str, ...]:
        """See the class."""
        return tuple(dict.fromkeys([*self._came, *self._edges]))

    def gradients(self, *, keep: bool = False) -> dict[str, Tensor]:
        """Gradient of the mean loss by parameter; ``keep`` the graph for another pass."""
        wanted = list(self._parameters.values())
        return self._by_parameter(
            torch.autograd.grad(self.loss, wanted, retain_graph=keep, allow_unused=True)
        )

    def gradients_and_slopes(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradient of the mean loss by parameter and, by module, in its output (1, b, ...); in one
        pass.
        """
        self._tagging, number = True, len(self._parameters)
        leaves = map(get_gradient_edge, self._parameters.values())
        wanted = [*leaves, *(edge for edge, _ in self._edges.values())]
        found = torch.autograd.grad(self.loss, wanted, allow_unused=True)
        return self._by_parameter(found[:number]), self._by_module(found[number:])

    def backpropagate(self, seeds: Tensor, *, keep: bool) -> dict[str, Tensor]:
        """By module, gradients (columns, b, ...) in its output of z · seed, for seeds (columns, b,
        ..., d_z).
        """
        self._tagging = True
        wanted = [edge for edge, _ in self._edges.values()]
        if len(seeds) == 1:
            return self._by_module(
                torch.autograd.grad(self.z, wanted, seeds[0], keep, allow_unused=True)
            )
        found = torch.autograd.grad(
            self.z, wanted, seeds, keep, allow_unused=True, is_grads_batched=True
        )
        return self._by_module(found, len(seeds))

    def _by_parameter(self, found: Sequence[Tensor | None]) -> dict[str, Tensor]:
        pairs = zip(self._parameters.items(), found, strict=True)
        return {name: torch.zeros_like(p) if slope is None else slope for (name, p), slope in pairs}

    def _by_module(
        self, found: Sequence[Tensor | None], columns: int | None = None
    ) -> dict[str, Tensor]:
        """With a dimension of columns in front; zeros where the outputs do not depend on a
        layer.
        """
        slopes = {}
        for (name, (_, shape)), slope in zip(self._edges.items(), found, strict=True):
            if slope is None:
                slopes[name] = self.z.new_zeros(columns or 1, *shape)
            else:
                slopes[name] = slope if columns else slope[None]
        return slopes

    def _watching_attention(self) -> contextlib.AbstractContextManager[object]:
        """What tells of the projections of attention, which are no calls of a module."""
        kinds = nn.MultiheadAttention, NonDynamicallyQuantizableLinear
        watched = {
            id(self._parameters[layer.weight]): layer
            for layer in self.layers
            if isinstance(self.modules[layer.module], kinds)
        }

        def seen(weight: Tensor, inputs: Tensor, output: Tensor) -> None:
            if id(weight) in watched:
                self._keep(watched[id(weight)], inputs, output)

        def crossed(weight: Tensor) -> None:
            if id(weight) in watched:
                expected = "attention of a sequence to itself: one tensor as query, key and value"
                self._refuse(watched[id(weight)].module, "several", expected)

        return Projections(seen, crossed) if watched else contextlib.nullcontext()

    def _keeper(self, layer: Layer) -> Callable[..., None]:
        """A forward hook that keeps what a layer is given and gives."""

        def keep(
            _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], output: Tensor
        ) -> None:
            inputs = dict(enumerate(args)) | kwargs
            first = inputs.pop(0, None)
            first = inputs.pop("input") if first is None else first
            if any(value is not None for value in inputs.values()):
                expected = "a call with a batch of inputs alone"
                self._refuse(layer.module, f"also {', '.join(map(str, inputs))}", expected)
            self._keep(layer, first, output)

        return keep

    def _keep(self, layer: Layer, inputs: Tensor, output: Tensor) -> None:
        """Keep a layer's inputs (b, ...), and where the gradient in its output will arrive."""
        name, (fewest, most) = layer.module, _RANKS[layer.kind]
        # a hook belongs to the graph, which the tape holds: to hold the tape would keep both for
        # ever
        here = weakref.ref(self)

        def come(_: Tensor) -> None:
            tape = here()
            if tape is not None and tape._tagging:
                tape._came[name] = None
                enter(layer)

        shape = tuple(inputs.shape)
        if name in self._edges:
            self._refuse(name, "a second call")
        if not fewest <= len(shape) <= (most or len(shape)) or shape[0] != self._size:
            self._refuse(name, f"inputs {shape} for {self._size} examples")
        self.inputs[name] = inputs.detach()
        # the edge stays at this output even where an activation overwrites it in place
        self._edges[name] = (get_gradient_edge(output), output.shape)
        output.register_hook(come)

    def _refuse(
        self,
        module: str,
        got: str,
        expected: str = "one call of this layer, with inputs whose first dimension is the batch",
    ) -> NoReturn:
        raise InputError([Problem(self._name, None, f"K-FAC, {module}", expected, got)])


def enter(layer: Layer) -> None:
    """What follows is work for this layer's blocks; all of it counts to the first, none being ready
    before.
    """
    for block in (*layer.blocks, layer.blocks[0]):
        stage(block.name)
