"""What a convolution multiplies its weights with: the inputs of each output pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    """Inputs of each output pixel, (groups, b, positions, n)."""
    if isinstance(module.padding, str):
        x = F.pad(x, _zeros(module))
    padding = 0 if isinstance(module.padding, str) else module.padding
    patches = F.unfold(x, module.kernel_size, module.dilation, padding, module.stride)
    found: Tensor = patches.unflatten(1, (module.groups, -1)).transpose(0, 1).mT
    return found


def _zeros(module: nn.Conv2d) -> list[int]:
    """Zeros left, right, above, below for ``same`` or ``valid``; an odd number has one more to the
    right, below.
    """
    if module.padding == "valid":
        return [0, 0, 0, 0]
    totals = [d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    return [zeros for total in reversed(totals) for zeros in (total // 2, total - total // 2)]
