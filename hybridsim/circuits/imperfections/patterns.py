"""What a device was drawn with: numbers that belong to its parts, whatever is programmed."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hybridsim.rng import address_seed


@lru_cache(maxsize=6)
def normal_pattern(instance: int, part: str, *shape: int, dtype: torch.dtype) -> Tensor:
    """Standard normal ε of every part of a kind: (shape), from the device and the kind alone.

    A smaller array uses the first rows and columns of a larger one only if its shape says so: a
    device's arrays are addressed by their shapes. Do not write to it.
    """
    seed = address_seed(instance, "device", part)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)
