"""A graph network, and graphs as vectors: what ``gnn`` and ``molecules`` share."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

NODE_FEATURES, EDGE_FEATURES = 9, 3


class Graphs(NamedTuple):
    """Graphs of V nodes and E edges, with padding: features, masks (1: real), ends of the edges."""

    nodes: Tensor
    node_mask: Tensor
    edges: Tensor
    edge_mask: Tensor
    senders: Tensor
    receivers: Tensor


def packed(graphs: Graphs) -> Tensor:
    """One vector for each graph, what ``Gnn`` takes apart again."""
    return torch.cat([part.flatten(1) for part in graphs], dim=1)


def _shapes(nodes: int, bonds: int) -> tuple[tuple[int, int], ...]:
    """Shapes of the parts of ``Graphs`` for one example."""
    edges = 2 * bonds
    return (
        (nodes, NODE_FEATURES),
        (nodes, 1),
        (edges, EDGE_FEATURES),
        (edges, 1),
        (edges, 1),
        (edges, 1),
    )


def at_ends(nodes: Tensor, index: Tensor) -> Tensor:
    """The states (b, E, h) of the nodes (b, V, h) at one end of every edge."""
    return nodes.gather(1, index.long().expand(-1, -1, nodes.shape[-1]))


def sums_at(edges: Tensor, index: Tensor, nodes: Tensor) -> Tensor:
    """Sums (b, V, h) of the edges (b, E, h) that have this end."""
    return torch.zeros_like(nodes).scatter_add(1, index.long().expand_as(edges), edges)


class Gnn(nn.Module):
    """Packed graphs (b, ...) of so many nodes and bonds to outputs (b, outputs)."""

    def __init__(self, latent: int, steps: int, outputs: int, nodes: int, bonds: int) -> None:
        super().__init__()
        self.shapes = _shapes(nodes, bonds)
        self.node_embedding, self.edge_embedding = (
            nn.Linear(NODE_FEATURES, latent),
            nn.Linear(EDGE_FEATURES, latent),
        )
        self.steps = nn.ModuleList(Step(latent, first=step == 0) for step in range(steps))
        self.decoder = nn.Linear(latent, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The graph's state after all steps, decoded."""
        parts = torch.split(x, [prod(shape) for shape in self.shapes], dim=1)
        graph = Graphs(
            *(part.reshape(len(x), *shape) for part, shape in zip(parts, self.shapes, strict=True))
        )
        nodes = self.node_embedding(graph.nodes) * graph.node_mask
        edges = self.edge_embedding(graph.edges) * graph.edge_mask
        whole: tuple[Tensor, ...] = ()  # AlgoPerf starts from zeros, which change nothing
        for step in self.steps:
            nodes, edges, whole = step(graph, nodes, edges, whole)
        outputs: Tensor = self.decoder(whole[0])
        return outputs


class Step(nn.Module):
    """One round of messages."""

    def __init__(self, latent: int, first: bool) -> None:
        super().__init__()
        self.edge, self.node = (_update((3 if first else 4) * latent, latent) for _ in range(2))
        self.whole = _update((2 if first else 3) * latent, latent)

    def forward(
        self, graph: Graphs, nodes: Tensor, edges: Tensor, whole: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """New states of the nodes (b, V, h), the edges (b, E, h) and the graph, (b, h) once there
        is one.
        """
        everywhere = [state[:, None] for state in whole]
        met = [edges, at_ends(nodes, graph.senders), at_ends(nodes, graph.receivers)]
        edges = _masked(self.edge, graph.edge_mask, met, everywhere)
        met = [nodes, sums_at(edges, graph.senders, nodes), sums_at(edges, graph.receivers, nodes)]
        nodes = _masked(self.node, graph.node_mask, met, everywhere)
        state = self.whole(torch.cat([nodes.sum(dim=1), edges.sum(dim=1), *whole], dim=1))
        return nodes, edges, (state,)


def _masked(update: nn.Module, mask: Tensor, met: list[Tensor], everywhere: list[Tensor]) -> Tensor:
    """The update of what meets at each place, zero at the padding before and after."""
    parts = [*met, *(state.expand(-1, mask.shape[1], -1) for state in everywhere)]
    after: Tensor = update(torch.cat(parts, dim=2) * mask) * mask
    return after


def _update(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU())
