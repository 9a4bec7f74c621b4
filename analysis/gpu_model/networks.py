"""Networks whose whole steps were measured by others, as kernels: counted on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybridsim import Kernel, count_kernels

Kernels = tuple[Kernel, ...]


class Transformer(NamedTuple):
    """Sizes of a transformer; its attention is written out, as eager implementations had it."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    causal: bool
    head: bool  # scores for the whole vocabulary


# BERT: Devlin et al. 2019; GPT-2: Radford et al. 2019; OPT: Zhang et al. 2022; GPT-3: Brown et al.
# 2020, where "XL" has 24 heads of 128: its measured time is that of a width of 3,072
TRANSFORMERS = {
    "bert_base_squad": Transformer(12, 768, 12, 30522, False, False),
    "bert_large_squad": Transformer(24, 1024, 16, 30522, False, False),
    "bert_large": Transformer(24, 1024, 16, 30522, False, True),
    "gpt2_large": Transformer(36, 1280, 20, 50257, True, True),
    "gpt3_xl": Transformer(24, 3072, 24, 50257, True, True),
    "gpt3_27": Transformer(32, 2560, 32, 50257, True, True),
    "opt_13": Transformer(24, 2048, 32, 50272, True, True),
}


class Block(nn.Module):
    """A layer of a transformer."""

    def __init__(self, sizes: Transformer, dropout: float) -> None:
        super().__init__()
        width = sizes.width
        self.heads, self.causal, self.dropout = sizes.heads, sizes.causal, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """X (b, s, d) -> (b, s, d)."""
        batch, length, width = x.shape

        def split(t: Tensor) -> Tensor:
            return t.view(batch, length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.mT / math.sqrt(width // self.heads)
        scores = scores + scores.new_empty(1, 1, length, length)  # the mask
        weights = self._drop(functional.softmax(scores, dim=-1))
        mixed = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        x = self.first(x + self._drop(self.out(mixed)))
        inner = self._drop(self.narrow(functional.gelu(self.wide(x))))
        found: Tensor = self.second(x + inner)
        return found

    def _drop(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.dropout, True)[0] if self.dropout else x


class Language(nn.Module):
    """Embedding, layers, scores of the vocabulary or of two ends of a span."""

    def __init__(self, sizes: Transformer, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.Sequential(*(Block(sizes, dropout) for _ in range(sizes.layers)))
        self.scores = nn.Linear(sizes.width, sizes.vocabulary if sizes.head else 2, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, s) -> scores (b, s, .)."""
        found: Tensor = self.scores(self.blocks(self.embed(tokens)))
        return found


def _normed(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    padding = kernel // 2
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 beside a shortcut: He et al. 2016, with the stride at 3 x 3."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _normed(c_in, width, 1), nn.ReLU(), _normed(width, width, 3, stride), nn.ReLU(),
            _normed(width, 4 * width, 1),
        )  # fmt: skip
        same = c_in == 4 * width and stride == 1
        self.short = nn.Identity() if same else _normed(c_in, 4 * width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """X (b, c, h, w)."""
        found: Tensor = functional.relu(self.path(x) + self.short(x))
        return found


def resnet50(classes: int = 1000) -> nn.Module:
    """ResNet-50."""
    blocks, c_in = list[nn.Module](), 64
    for stage, number in enumerate((3, 4, 6, 3)):
        for index in range(number):
            width = 64 * 2**stage
            blocks.append(Bottleneck(c_in, width, 2 if stage and not index else 1))
            c_in = 4 * width
    stem = [_normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, classes)]
    return nn.Sequential(*stem, *blocks, *end)


class Shuffle(nn.Module):
    """A unit of ShuffleNet V2: Ma et al. 2018."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        half, branch = c_out // 2, c_in if stride > 1 else c_in // 2
        self.stride = stride
        self.path = nn.Sequential(
            _normed(branch, half, 1), nn.ReLU(), _normed(half, half, 3, stride, half),
            _normed(half, half, 1), nn.ReLU(),
        )  # fmt: skip
        short = (_normed(c_in, c_in, 3, stride, c_in), _normed(c_in, half, 1), nn.ReLU())
        self.short = nn.Sequential(*short) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """X (b, c, h, w)."""
        kept, rest = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        both = torch.cat([self.short(kept), self.path(rest)], dim=1)
        batch, channels, height, width = both.shape
        shuffled = both.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return shuffled.reshape(batch, channels, height, width)


def shufflenet(classes: int = 100) -> nn.Module:
    """ShuffleNet V2 1x, for images of 32 x 32: a stem of stride 1 without pooling."""
    layers, c_in = list[nn.Module]([_normed(3, 24, 3), nn.ReLU()]), 24
    for c_out, number in ((116, 4), (232, 8), (464, 4)):
        for index in range(number):
            layers.append(Shuffle(c_in, c_out, 1 if index else 2))
            c_in = c_out
    layers += [_normed(464, 1024, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1024, classes))


class Ncf(nn.Module):
    """Neural matrix factorisation: He et al. 2017; users and items of MovieLens-1M."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 32 * w) for n in (6040, 3706) for w in (1, 4))
        widths = (256, 128, 64, 32)
        pairs = zip(widths, widths[1:], strict=False)
        self.tower = nn.Sequential(*(m for n, k in pairs for m in (nn.Linear(n, k), nn.ReLU())))
        self.end = nn.Linear(64, 2)

    def forward(self, pair: Tensor) -> Tensor:
        """Pair (b, 2) of a user and an item."""
        user, item = pair[:, 0], pair[:, 1]
        product = self.tables[0](user) * self.tables[2](item)
        tower = self.tower(torch.cat([self.tables[1](user), self.tables[3](item)], dim=1))
        found: Tensor = self.end(torch.cat([product, tower], dim=1))
        return found


def forward(model: str, length: int, batch: int) -> Kernels:
    """A pass of a transformer in FP32 without dropout."""
    with torch.device("meta"):
        network = Language(TRANSFORMERS[model], 0.0).eval()
        tokens = torch.empty(batch, length, dtype=torch.long)
    return count_kernels(network, tokens)


def step(model: str, batch: int, length: int = 0, half: bool = False, adam: int = 12) -> Kernels:
    """A training step: forward, loss, backward and an optimizer that touches every parameter.

    Args:
        model: a transformer of ``TRANSFORMERS``, ``resnet50``, ``shufflenetv2`` or ``ncf``.
        batch: samples.
        length: tokens of a sample.
        half: activations and products in 16 bits.
        adam: element-wise operators of the optimizer's update, each over all parameters.
    """
    with torch.device("meta"):
        if model in TRANSFORMERS:
            network: nn.Module = Language(TRANSFORMERS[model], 0.1)
            x = torch.empty(batch, length, dtype=torch.long)
        elif model == "ncf":
            network, x = Ncf(), torch.empty(batch, 2, dtype=torch.long)
        else:
            network = resnet50() if model == "resnet50" else shufflenet()
            size = 224 if model == "resnet50" else 32
            x = torch.empty(batch, 3, size, size, dtype=torch.float16 if half else torch.float32)
        network = network.half() if half else network
    kernels = count_kernels(partial(_both, network), x)
    number = sum(p.numel() for p in network.parameters())
    update = Kernel("optimizer", float(number), 3 * 4.0 * number, count=adam)
    return (*kernels, update)


def in_precision(kernels: Sequence[Kernel], precision: str) -> Kernels:
    """The same with FP32 products in another precision, as TF32 has them."""
    assert precision in ("fp32", "tf32")
    return tuple(
        replace(k, precision="tf32") if k.matrix and precision == "tf32" else k for k in kernels
    )


def _both(network: nn.Module, x: Tensor) -> object:
    with torch.enable_grad():
        out = network(x)
        flat = out.flatten(0, -2)
        target = torch.empty(len(flat), dtype=torch.long, device=flat.device)
        loss = functional.cross_entropy(flat, target)
        return torch.autograd.grad(loss, list(network.parameters()))
