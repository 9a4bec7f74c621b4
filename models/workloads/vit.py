"""A plain vision transformer (Beyer, Zhai, Kolesnikov, arXiv 2205.01580), on drawn images or
CIFAR-10.

patch embedding as a convolution - fixed 2-D sine-cosine positions - ``depth`` blocks x +
attention(norm(x)), x + MLP(norm(x)) with LayerNorm before each part and GELU - LayerNorm - mean
over the patches (no class token) - dense ``classes``. Query, key and value are three Linear layers
of their own. N = 27,370 at the defaults.

ViT S/16, as in TKFAC's comparison: image 224, patch 16, width 384, mlp 1536, depth 12, heads 6,
classes 1000 (N = 21,974,632). LayerNorm's parameters lie outside K-FAC.

Data: a random 4 x 4 pattern for each class, blown up to the image's size, under noise as strong as
itself. ``data: cifar10`` (image 32, classes 10): the first ``train_size`` and ``test_size`` images
of ``cifar10/*.npz`` in the folder named by the option ``data_dir`` or by HYBRIDSIM_DATA, channels
normalised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._images import cifar10, drawn
from hybridsim.models.workloads._options import divides, one_of, refuse, whole


def build(
    image: int = 16,
    patch: int = 4,
    width: int = 32,
    mlp: int = 128,
    depth: int = 2,
    heads: int = 2,
    classes: int = 10,
    train_size: int = 500,
    test_size: int = 100,
    data: str = "drawn",
    data_dir: str | None = None,
) -> Workload:
    """Options: side of image and patch, width, width of the MLP, blocks and heads, classes, how
    many images, ``drawn`` or ``cifar10``, data folder.
    """
    one_of("vit", "drawn", "cifar10", data=data)
    whole(
        "vit",
        image=image,
        patch=patch,
        width=width,
        mlp=mlp,
        depth=depth,
        heads=heads,
        classes=classes,
    )
    whole("vit", train_size=train_size, test_size=test_size)
    divides("vit", "patch", patch, "image", image)
    divides("vit", "heads", heads, "width", width)
    if width % 4:
        refuse("vit", "width", "a multiple of 4 (sine and cosine in two directions)", width)
    if data == "cifar10":
        for option, value, expected in (("image", image, 32), ("classes", classes, 10)):
            if value != expected:
                refuse("vit", option, f"{expected} with data: cifar10", value)
        found = cifar10("vit", train_size, test_size, data_dir)
    else:
        x, y = drawn(train_size + test_size, image, classes)
        found = Data(x[:train_size], y[:train_size], x[train_size:], y[train_size:])
    return Workload(
        lambda: Vit(image // patch, patch, width, mlp, depth, heads, classes),
        found,
        "cross_entropy",
    )


class Vit(nn.Module):
    """Images (b, 3, h, h) to scores (b, classes)."""

    def __init__(
        self, side: int, patch: int, width: int, mlp: int, depth: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.register_buffer("positions", _positions(side, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, mlp, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        states = self.patches(x).flatten(2).mT + self.positions
        scores: Tensor = self.head(self.norm(self.blocks(states)).mean(dim=1))
        return scores


class Block(nn.Module):
    """Attention and MLP, each with LayerNorm before and the residual stream beside it."""

    def __init__(self, width: int, mlp: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.expand, self.contract = nn.Linear(width, mlp), nn.Linear(mlp, width)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream (b, patches, width) after this block."""
        x = x + self.attention(self.norm1(x))
        after: Tensor = x + self.contract(nn.functional.gelu(self.expand(self.norm2(x))))
        return after


class Attention(nn.Module):
    """Scaled dot-product attention to all patches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (b, patches, width) to (b, patches, width)."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed


def _positions(side: int, width: int) -> Tensor:
    """Sines and cosines (side², width) of row and column at width/4 frequencies from 1 down to
    1e-4.
    """
    frequencies = 1e-4 ** (torch.arange(width // 4) / max(width // 4 - 1, 1))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
