"""A deep MLP on CIFAR-10's pixels: ``depth`` hidden layers of ``width``, as in TKFAC's timing study
(depth 50, b 512).

3,072 - ``width`` - ... - 10; N = 401,162 at the defaults; depth 50, width 2048: N = 211,935,242.

Fifty layers of ReLU would make all inputs alike. Here leaky ReLUs have the slope (0.43 at depth 50)
at which two unrelated inputs leave the last hidden layer of a wide network with correlation 0.9
(Tailored ReLU: Zhang, Botev, Martens, ICLR 2022, arXiv 2203.08120), and the weights the variance
2/((1 + slope²) inputs) that keeps the size of the signal; biases start at 0. It trains without
normalisation layers, so every parameter belongs to a dense layer.

Data: the first ``train_size`` and ``test_size`` images of ``cifar10/*.npz`` in the folder named by
the option ``data_dir`` or by HYBRIDSIM_DATA, channels normalised; with ``synthetic`` drawn patterns
under noise, which need no files.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._images import cifar10, drawn
from hybridsim.models.workloads._options import whole, yes_or_no

_CORRELATION = 0.9


def build(
    depth: int = 50,
    width: int = 64,
    synthetic: bool = False,
    train_size: int = 2_000,
    test_size: int = 500,
    data_dir: str | None = None,
) -> Workload:
    """Options: hidden layers and their width, drawn images in place of CIFAR-10's, how many, data
    folder.
    """
    whole("mlp_cifar", depth=depth, width=width)
    whole("mlp_cifar", most=50_000, train_size=train_size, test_size=test_size)
    yes_or_no("mlp_cifar", synthetic=synthetic)
    if synthetic:
        x, y = drawn(train_size + test_size, 32, 10)
        data = Data(x[:train_size], y[:train_size], x[train_size:], y[train_size:])
    else:
        data = cifar10("mlp_cifar", train_size, test_size, data_dir)
    data = data._replace(train_x=data.train_x.flatten(1), test_x=data.test_x.flatten(1))
    return Workload(lambda: _network(depth, width), data, "cross_entropy")


def _network(depth: int, width: int) -> nn.Module:
    slope, layers = _slope(depth), []
    for inputs, outputs in pairwise([3 * 32 * 32, *[width] * depth]):
        layers += [_dense(inputs, outputs, slope), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, _dense(width, 10, 1.0))


def _dense(inputs: int, outputs: int, slope: float) -> nn.Linear:
    """A layer that keeps the mean square of what a leaky ReLU of this slope makes of its
    outputs.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.kaiming_uniform_(layer.weight, a=slope)
    nn.init.zeros_(layer.bias)
    return layer


def _slope(depth: int) -> float:
    """Slope of the leaky ReLU, by bisection; 0 where ReLU itself stays below the correlation."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle, correlation = (low + high) / 2, 0.0
        for _ in range(depth):
            correlation = _correlation_after(correlation, middle)
        low, high = (middle, high) if correlation > _CORRELATION else (low, middle)
    return high if low > 0 else 0.0


def _correlation_after(before: float, slope: float) -> float:
    """Correlation of two inputs after one wide layer (Zhang et al., eq. for leaky ReLU)."""
    before = min(before, 1.0)
    grown = math.sqrt(1 - before * before) - before * math.acos(before)
    return before + (1 - slope) ** 2 / (math.pi * (1 + slope * slope)) * grown
