"""scikit-learn's handwritten digits (1,797 images of 8 x 8), one convolution and two dense layers.

conv 3x3 (``channels``) - ReLU - max pool 2 - dense (``hidden``) - ReLU - dense 10; N = 8,714 at the
defaults. Split fixed and stratified: 1,500 for training, 297 for the test; pixels scaled to [0, 1].
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._options import whole


def build(channels: int = 16, hidden: int = 32) -> Workload:
    """Options: ``channels`` of the convolution, width ``hidden`` of the first dense layer."""
    whole("digits_cnn", channels=channels, hidden=hidden)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    train, test = train_test_split(range(len(y)), test_size=297, stratify=labels, random_state=0)
    data = Data(x[train], y[train], x[test], y[test])
    return Workload(network=lambda: _network(channels, hidden), data=data, loss="cross_entropy")


def _network(channels: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(channels * 16, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip
