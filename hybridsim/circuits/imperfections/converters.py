"""Converters of a real device: fixed full scales, and levels that lie on a bow."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.circuits.precision import levels

_TOP = 3 * 3**0.5 / 2  # of z (1 - z²) the largest value is 1/_TOP, at z = 1/sqrt(3)


def bowed(x: Tensor, full_scales: Tensor, bits: int | None, device: Device, kind: str) -> Tensor:
    """Values (n, k) with the integral nonlinearity of their converters, one for each of n cells.

    x + δ ε step c z (1 - z²), z = x/full scale, c z (1 - z²) at most 1: odd, smooth, right at zero
    and at both ends; δ ``Device.nonlinearity``, ε the converter's own.

    Args:
        x: (n, k) float64.
        full_scales: (k,) > 0.
        bits: resolution, which the step follows from; None: an ideal converter.
        device: whose converters they are.
        kind: ``dac`` or ``adc``.
    """
    if bits is None or device.nonlinearity == 0:
        return x
    z = (x / full_scales).clamp(-1, 1)
    step = full_scales / levels(bits)
    pattern = normal_pattern(device.instance, kind, len(x), dtype=torch.float64).to(x.device)
    return x + device.nonlinearity * pattern[:, None] * step * (_TOP * z * (1 - z.square()))


def quantized(x: Tensor, full_scales: Tensor, bits: int | None) -> Tensor:
    """Nearest of 2 L + 1 levels on the full scale of each column, clipping beyond; None: ideal."""
    if bits is None:
        return x
    top = levels(bits)
    step = full_scales / top
    return (x / step).round().clamp(-top, top) * step
