"""scikit-learn's handwritten digits (1,797 images of 8 x 8), dense layers only.

64 - ``hidden`` - ... - 10 with ReLU between, ``depth`` hidden layers; N = 3,466 at the defaults.
Split fixed and stratified: 1,500 for training, 297 for the test; pixels scaled to [0, 1].
"""

from __future__ import annotations

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._options import whole


def build(hidden: int = 32, depth: int = 2) -> Workload:
    """Options: width ``hidden`` and number ``depth`` of the hidden layers."""
    whole("digits_mlp", hidden=hidden, depth=depth)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32)
    y = torch.tensor(labels, dtype=torch.int64)
    train, test = train_test_split(range(len(y)), test_size=297, stratify=labels, random_state=0)
    data = Data(x[train], y[train], x[test], y[test])
    return Workload(network=lambda: _network(hidden, depth), data=data, loss="cross_entropy")


def _network(hidden: int, depth: int) -> nn.Module:
    widths = [64, *[hidden] * depth]
    layers = [part for n, m in pairwise(widths) for part in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))
