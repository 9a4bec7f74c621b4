"""The flat parameter vector: which stretch of theta belongs to which parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of the parameters in theta of shape (N,), in the network's own
    order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

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
    """
    trained = [(n, tuple(p.shape)) for n, p in network.named_parameters() if p.requires_grad]
    return Layout(tuple(n for n, _ in trained), tuple(s for _, s in trained))
