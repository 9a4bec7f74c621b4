"""What a device's n nodes are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern


class Nodes:
    """Parts of which there is one for each node.

    ``alive``: of cells that work; ``damping``: λ as it is; ``input``, ``capacitors``: relative to
    what they should be; ``offsets``: over the full scale.
    """

    def __init__(self, size: int, damping: float, device: Device) -> None:
        self.device, self.size, self.nominal = device, size, damping
        self.alive = self.part("dead") >= _quantile(device.dead_share)
        self.damping_factors = self.relative("damping")
        self.damping = damping * self.damping_factors
        self.input = self.relative("input") * self.alive
        self.capacitors = self.relative("capacitor")
        self.offsets = device.offset * self.part("offset") * self.alive

    def part(self, name: str, *shape: int) -> Tensor:
        """ε of a kind of part; without a shape one for each node."""
        return normal_pattern(
            self.device.instance, name, *(shape or (self.size,)), dtype=torch.float64
        )

    def relative(self, name: str, *shape: int) -> Tensor:
        """1 + σ ε; no part is negative."""
        if self.device.mismatch == 0:
            return torch.ones(shape or (self.size,), dtype=torch.float64)
        return (1 + self.device.mismatch * self.part(name, *shape)).clamp(min=0)


def _quantile(share: float) -> float:
    """Below it lies this share of standard normal numbers."""
    return float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))
