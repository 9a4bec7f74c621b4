"""Functions of one eigenvalue that make up an Ornstein-Uhlenbeck transition, and their divided
differences.

All arguments are float64 tensors that broadcast: rates ``a``, ``s``, ``damping`` (dimensionless)
and times ``h`` in RC.
Notation: E(a) = exp(-a h), psi(a) = (1 - exp(-a h))/a, sigma(a) = sqrt(kappa0 (1 - exp(-2 a h))/a).
A slope is (f(s + damping) - f(damping))/s with its limit f'(damping) at s = 0, written so that
nothing cancels.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-8  # below it two terms of the series of psi are exact in float64
_SERIES = 1e-3  # below it four terms of the second divided difference are exact to 1e-14


def decay(a: Tensor, h: Tensor) -> Tensor:
    """E(a) = exp(-a h)."""
    return torch.exp(-a * h)


def response(a: Tensor, h: Tensor) -> Tensor:
    """psi(a) = -expm1(-a h)/a, equal to h at a = 0; negative rates grow."""
    exponent = a * h
    small = exponent.abs() < _SMALL
    exact = -torch.expm1(-exponent) / torch.where(small, 1.0, a)
    return torch.where(small, h * (1 - exponent / 2), exact)


def decay_slope(s: Tensor, damping: Tensor, h: Tensor) -> Tensor:
    """Slope of E: -exp(-damping h) (1 - exp(-s h))/s."""
    return -decay(damping, h) * response(s, h)


def response_slope(s: Tensor, damping: Tensor, h: Tensor) -> Tensor:
    """Slope of psi, minus the second divided difference of exp(-h ·) over 0, damping, s + damping;
    all >= 0.

    -(psi(damping) - exp(-damping h) (1 - exp(-s h))/s)/(s + damping), by its series where (s +
    damping) h is small.
    """
    total = s + damping
    small = total * h < _SERIES
    exact = -(response(damping, h) + decay_slope(s, damping, h)) / torch.where(small, 1.0, total)
    return torch.where(small, response_slope_series(damping * h, total * h) * h**2, exact)


def response_slope_series(y: Tensor, z: Tensor) -> Tensor:
    """Complete homogeneous sums: -(1/2 - (y + z)/6 + (y² + yz + z²)/24 - (y³ + y²z + yz² +
    z³)/120).
    """
    second = y * y + y * z + z * z
    return -(0.5 - (y + z) / 6 + second / 24 - (z * second + y**3) / 120)


def spread(a: Tensor, h: Tensor, kappa0: float) -> Tensor:
    """sigma(a): standard deviation of a mode after h of noise of strength kappa0, sqrt(kappa0
    psi_2h).
    """
    return torch.sqrt(kappa0 * response(a, 2 * h))


def spread_slope(s: Tensor, damping: Tensor, h: Tensor, kappa0: float) -> Tensor:
    """Slope of sigma: kappa0 slope(psi_2h)/(sigma(s + damping) + sigma(damping)); 0 at h = 0."""
    both = spread(s + damping, h, kappa0) + spread(damping, h, kappa0)
    # Where kappa0 h is below what a float holds both vanish, and the slope, of order h^1.5, too.
    noisy = both > 0
    return torch.where(
        noisy, kappa0 * response_slope(s, damping, 2 * h) / torch.where(noisy, both, 1.0), 0.0
    )
