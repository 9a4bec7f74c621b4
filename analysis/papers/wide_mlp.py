"""A network for timing-only runs: ``depth`` dense layers of ``width`` x ``width``, without biases,
under mean squared error.

So every Kronecker factor has order ``width`` exactly; with ``other`` the widths alternate, width ->
other -> width -> ... Weights are zero (they are never used, and 268 million of them are made
quickly) unless ``drawn`` asks for random ones; inputs and targets are drawn.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from hybridsim import Data, Workload


def build(
    width: int = 128,
    other: int | None = None,
    depth: int = 4,
    examples: int = 512,
    drawn: bool = False,
) -> Workload:
    """Options: the widths, the number of layers, how many examples, whether weights are drawn."""
    widths = [width if other is None or k % 2 == 0 else other for k in range(depth + 1)]
    x, y = torch.randn(examples, widths[0]), torch.randn(examples, widths[-1])

    def network() -> nn.Module:
        return nn.Sequential(*(_layer(n, m, drawn) for n, m in pairwise(widths)))

    return Workload(network, Data(x, y, x[:1], y[:1]), "mse")


def _layer(inputs: int, outputs: int, drawn: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")
    if drawn:
        nn.init.normal_(layer.weight, std=inputs**-0.5)
    else:
        nn.init.zeros_(layer.weight)
    return layer
