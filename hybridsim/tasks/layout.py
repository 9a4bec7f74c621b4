"""The flat parameter vector: which stretch of theta belongs to which parameter, and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Kind = Literal["hidden", "head", "embedding", "convolution", "vector", "other"]
_FIRST: tuple[Kind, ...] = ("embedding", "head", "convolution", "hidden")


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of the parameters in theta of shape (N,), in the network's own
    order.

    Attributes:
        names: of the parameters.
        shapes: of the parameters.
        kinds: what each is, see ``layout_of``; by default nothing is known: all ``other``.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        if not self.kinds:
            object.__setattr__(self, "kinds", ("other",) * len(self.names))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each parameter starts in theta."""
        return (0, *accumulate(self.sizes))[:-1]

    @property
    def size(self) -> int:
        """N, the length of theta."""
        return sum(self.sizes)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (N,), by name and in each parameter's shape."""
        parts = torch.split(theta, list(self.sizes))
        return {n: p.view(s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Theta (N,) from the parameters by name: the inverse of ``unflatten``."""
        return torch.cat([parameters[name].reshape(-1) for name in self.names])

    def flatten_rows(self, parameters: Mapping[str, Tensor], rows: int) -> Tensor:
        """A matrix (rows, N) from tensors whose leading dimensions multiply to ``rows``, e.g.
        Jacobians.
        """
        return torch.cat([parameters[name].reshape(rows, -1) for name in self.names], dim=1)


def layout_of(network: nn.Module) -> Layout:
    """Layout of the parameters that train (``requires_grad``); frozen ones stay constants of the
    network.

    Their kinds, of weights with two dimensions or more: ``embedding``, the weight of an
    nn.Embedding or EmbeddingBag; ``head``, that of the nn.Linear that comes last in the network,
    whether it trains or not; ``convolution``, that of a convolution; ``hidden``, that of any other
    nn.Linear. A weight that several modules share is the first of these that it is to one of them.
    All other parameters: ``vector`` with one dimension (biases, norms) or none, else ``other``.
    """
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    roles = _roles(network)
    return Layout(
        tuple(n for n, _ in trained),
        tuple(tuple(p.shape) for _, p in trained),
        tuple(_kind(p, roles.get(id(p), set())) for _, p in trained),
    )


def _roles(network: nn.Module) -> dict[int, set[Kind]]:
    """What each weight, by its id, is to the modules that have it."""
    found: dict[int, set[Kind]] = {}
    last: nn.Linear | None = None
    for module in network.modules():
        weight = module._parameters.get("weight")
        role: Kind
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            role = "embedding"
        elif isinstance(module, _ConvNd):
            role = "convolution"
        elif isinstance(module, nn.Linear):
            role, last = "hidden", module
        else:
            continue
        if weight is not None:
            found.setdefault(id(weight), set()).add(role)
    head = None if last is None else last._parameters.get("weight")
    if head is not None:
        found[id(head)].add("head")
    return found


def _kind(parameter: nn.Parameter, roles: set[Kind]) -> Kind:
    if parameter.ndim < 2:
        return "vector"
    return next((kind for kind in _FIRST if kind in roles), "other")
