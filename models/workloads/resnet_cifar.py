"""A residual network for CIFAR-10 (He et al., CVPR 2016, section 4.2), by default with GroupNorm in
place of BatchNorm.

conv 3x3 - three stages of ``blocks`` blocks, widths ``width``, 2 ``width``, 4 ``width``, the latter
two starting at half the resolution - mean over positions - dense 10; 6 ``blocks`` + 2 layers. A
block is conv 3x3 - norm - ReLU - conv 3x3 - norm, added to its input (through a conv 1x1 and norm
where the shape changes), then ReLU; no conv has a bias. N = 19,954 at the defaults (ResNet-8);
ResNet-20: blocks 3, width 16 (N = 272,474).

``norm: group``, of ``groups`` groups (Wu & He, ECCV 2018); one group is LayerNorm, one per channel
InstanceNorm. Its parameters lie outside K-FAC. ``norm: batch``: BatchNorm, as published. Either has
as many parameters. ``dropout``: its probability, in each block before the second convolution (Wide
ResNets: Zagoruyko & Komodakis, BMVC 2016). BatchNorm and dropout train under first-order optimizers
alone.

Data: CIFAR-10, the first ``train_size`` and ``test_size`` images of ``cifar10/*.npz`` in the folder
named by the option ``data_dir`` or by HYBRIDSIM_DATA, channels normalised to mean 0 and deviation
1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hybridsim import Workload
from hybridsim.models.workloads._images import cifar10
from hybridsim.models.workloads._options import divides, one_of, share, whole


def build(
    width: int = 8,
    blocks: int = 1,
    groups: int = 4,
    norm: str = "group",
    dropout: float = 0.0,
    train_size: int = 10_000,
    test_size: int = 2_000,
    data_dir: str | None = None,
) -> Workload:
    """Options: channels of the first stage, blocks of a stage, groups of GroupNorm, ``norm`` (group
    or batch), probability of dropout, how many images, data folder.
    """
    whole("resnet_cifar", width=width, blocks=blocks, groups=groups)
    whole("resnet_cifar", most=50_000, train_size=train_size, test_size=test_size)
    divides("resnet_cifar", "groups", groups, "width", width)
    one_of("resnet_cifar", "group", "batch", norm=norm)
    share("resnet_cifar", dropout=dropout)
    data = cifar10("resnet_cifar", train_size, test_size, data_dir)

    def normed(channels: int) -> nn.Module:
        return nn.GroupNorm(groups, channels) if norm == "group" else nn.BatchNorm2d(channels)

    return Workload(lambda: _network(width, blocks, normed, dropout), data, "cross_entropy")


Norm = Callable[[int], nn.Module]


def _network(width: int, blocks: int, norm: Norm, dropout: float) -> nn.Module:
    layers: list[nn.Module] = [_conv(3, width, 3), norm(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(channels, width << stage, stride, norm, dropout))
            channels = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        dropped = [nn.Dropout(dropout)] if dropout else []
        self.inner = nn.Sequential(
            _conv(inputs, outputs, 3, stride), norm(outputs), nn.ReLU(), *dropped,
            _conv(outputs, outputs, 3), norm(outputs),
        )  # fmt: skip
        changes = inputs != outputs or stride != 1
        shortcut = [_conv(inputs, outputs, 1, stride), norm(outputs)] if changes else []
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """From (b, inputs, h, h) to (b, outputs, h/stride, h/stride)."""
        return torch.relu(self.inner(x) + self.shortcut(x))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the resolution, or halves it; initialised for ReLU (He et al., ICCV
    2015).
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
