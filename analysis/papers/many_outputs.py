"""Classification with any number of classes: drawn clusters, a network of one hidden layer.

x = c(y) + noise, 64 numbers, with one centre c for each class; 64 -> ``hidden`` -> ``classes`` with
ReLU between, cross-entropy. N = 64 hidden + hidden + (hidden + 1) classes.
"""

from __future__ import annotations

import torch
from torch import nn

from hybridsim import Data, Workload

INPUTS = 64


def build(
    classes: int = 10, hidden: int = 64, noise: float = 0.5, examples: int = 2000
) -> Workload:
    """Options: classes, hidden units, deviation of the noise (centres have 1), examples of the
    training set; the test set has 500.
    """
    centres = torch.randn(classes, INPUTS)
    y = torch.randint(classes, (examples + 500,))
    x = centres[y] + noise * torch.randn(len(y), INPUTS)

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    data = Data(x[:examples], y[:examples], x[examples:], y[examples:])
    return Workload(network, data, "cross_entropy")
