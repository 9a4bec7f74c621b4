"""A graph network on synthetic graphs of a molecule's size: AlgoPerf's ogbg model without its
dropout.

Linear embeddings of node and edge features - ``steps`` message-passing steps, each with its own
edge, node and graph update (Linear - LayerNorm - ReLU, width ``latent``) on what meets there: edge
with its two ends, node with the sums of its leaving and arriving edges, graph with the sums of all
nodes and edges; each sees the graph's state too - Linear to ``outputs``. N = 20,744 at the
defaults. AlgoPerf (arXiv 2306.07179), as in TKFAC's comparison: latent 256, steps 5, outputs 128 (N
= 3,455,872). LayerNorm's parameters lie outside K-FAC.

Graphs as in ogbg-molpcba (Hu et al., NeurIPS 2020: 26.0 atoms and 28.1 bonds on average, 9 atom and
3 bond features): a random tree of 5/8 to 8/8 of ``nodes`` nodes in which nearby numbers are joined,
and three more bonds; every bond is two directed edges. Targets: a random two-step message passing,
with mean 0 and variance 1 over the training graphs.

An example is one float32 vector: node features, node mask, edge features, edge mask, sender and
receiver numbers, padded to the largest graph. Padding is zero at the input and at the output of
every update: it adds to the bias' own entry of A alone and nothing to G, but it does count among
the positions that share a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim import Data, Workload
from hybridsim.models.workloads._graphs import (
    EDGE_FEATURES,
    NODE_FEATURES,
    Gnn,
    Graphs,
    at_ends,
    packed,
    sums_at,
)
from hybridsim.models.workloads._options import refuse, whole

_RINGS, _TEACHER = 3, 16


def build(
    latent: int = 32,
    steps: int = 2,
    outputs: int = 8,
    nodes: int = 32,
    train_size: int = 512,
    test_size: int = 128,
) -> Workload:
    """Options: width, message-passing steps and outputs of the network, nodes of the largest graph,
    how many graphs.
    """
    whole(
        "gnn",
        latent=latent,
        steps=steps,
        outputs=outputs,
        nodes=nodes,
        train_size=train_size,
        test_size=test_size,
    )
    if nodes < 4:
        refuse("gnn", "nodes", "at least 4 nodes", nodes)
    graph = _draw(train_size + test_size, nodes)
    x, y = packed(graph), _targets(graph, outputs)
    y = (y - y[:train_size].mean(dim=0)) / y[:train_size].std(dim=0, unbiased=False).clamp(min=1e-6)
    data = Data(x[:train_size], y[:train_size], x[train_size:], y[train_size:])
    bonds = nodes - 1 + _RINGS
    return Workload(lambda: Gnn(latent, steps, outputs, nodes, bonds), data, "mse")


def _draw(count: int, largest: int) -> Graphs:
    """Random trees, closed by a few bonds, with normal features."""
    sizes = torch.randint(-(-5 * largest // 8), largest + 1, (count, 1))
    number = torch.arange(largest).expand(count, -1)
    child = number[:, 1:]
    parent = child - 1 - (torch.rand(count, largest - 1) * child.clamp(max=3)).long()
    start = (torch.rand(count, _RINGS) * sizes).long()
    end = (start + 1 + (torch.rand(count, _RINGS) * (sizes - 1)).long()) % sizes
    real = torch.cat([child < sizes, torch.ones(count, _RINGS, dtype=torch.bool)], dim=1)
    one, other = (torch.cat(ends, dim=1) for ends in ((child, start), (parent, end)))
    node_mask, edge_mask = (
        mask.float()[:, :, None] for mask in (number < sizes, real.repeat(1, 2))
    )
    bonds = torch.randn(count, real.shape[1], EDGE_FEATURES).repeat(1, 2, 1)
    features = torch.randn(count, largest, NODE_FEATURES)
    senders, receivers = torch.cat([one, other], dim=1), torch.cat([other, one], dim=1)
    ends = (senders.float()[:, :, None], receivers.float()[:, :, None])
    return Graphs(features * node_mask, node_mask, bonds * edge_mask, edge_mask, *ends)


def _targets(graph: Graphs, outputs: int) -> Tensor:
    """What is learned (count, outputs): nodes that know their neighbours, summed."""
    widths = (
        (NODE_FEATURES, _TEACHER),
        (EDGE_FEATURES, 1),
        (_TEACHER, _TEACHER),
        (_TEACHER, outputs),
    )
    into, gate, onward, out = (torch.randn(width) / width[0] ** 0.5 for width in widths)
    states = torch.tanh(graph.nodes @ into)
    messages = at_ends(states, graph.senders) * (1 + graph.edges @ gate) * graph.edge_mask
    states = (
        torch.tanh(states + sums_at(messages, graph.receivers, states) @ onward) * graph.node_mask
    )
    targets: Tensor = states.sum(dim=1) @ out
    return targets
