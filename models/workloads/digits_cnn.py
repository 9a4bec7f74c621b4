"""scikit-learn's handwritten digits (1,797 images of 8 x 8), one convolution and two dense layers.

conv 3x3 (``channels``) - ReLU - max pool 2 - dense (``hidden``) - ReLU - dense 10; N = 8,714 at the
defaults. ``norm: batch`` puts BatchNorm behind the convolution (2 ``channels`` more parameters),
``dropout`` drops outputs of the hidden dense layer; both train under first-order optimizers alone.
Split fixed and stratified: 1,500 for training, 297 for the test; pixels scaled to [0, 1].
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._options import one_of, share, whole


def build(
    channels: int = 16, hidden: int = 32, norm: str = "none", dropout: float = 0.0
) -> Workload:
    """Options: ``channels`` of the convolution, width ``hidden`` of the first dense layer, ``norm``
    (none or batch), the probability of ``dropout``.
    """
    whole("digits_cnn", channels=channels, hidden=hidden)
    one_of("digits_cnn", "none", "batch", norm=norm)
    share("digits_cnn", dropout=dropout)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    train, test = train_test_split(range(len(y)), test_size=297, stratify=labels, random_state=0)
    data = Data(x[train], y[train], x[test], y[test])
    return Workload(lambda: _network(channels, hidden, norm, dropout), data, "cross_entropy")


def _network(channels: int, hidden: int, norm: str, dropout: float) -> nn.Module:
    normed = [nn.BatchNorm2d(channels)] if norm == "batch" else []
    dropped = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), *normed, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(channels * 16, hidden), nn.ReLU(), *dropped, nn.Linear(hidden, 10),
    )  # fmt: skip
