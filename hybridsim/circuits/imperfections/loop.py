"""Modes of a loop of amplifiers: each eigenvalue of S = V U with the lags of u and w.

Without lags the loop's answer w to a state is e^{-(λ + μ) t} for an eigenvalue μ of S. With
amplifiers of one pole each (time constants τ_j, in RC) it is a sum over the roots ρ of

    (ρ + λ) Π_j (1 + ρ τ_j) + μ = 0,

each as a mode of rate -ρ, with residues c (settled amplifiers, unit state) and d (unit drive).
The complement of U's and V's span never sees the amplifiers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes

_LARGEST = 300.0  # exponent of growth beyond which it is cut: e^300 is over any scale
_APART = 1e-4  # relative distance of two lags, at least: equal ones have no simple poles
_SERIES = 1e-3


_Slope = Callable[[Tensor, Tensor, Tensor], Tensor]  # of s, λ and t


class Loop(NamedTuple):
    """Roots and residues of r modes, K each, complex.

    Attributes:
        damping: λ, 0-dim.
        slopes: s = -ρ - λ (r, K).
        of_state: c (r, K); 1 without lags.
        of_drive: d (r, K); 1 without lags.
    """

    damping: Tensor
    slopes: Tensor
    of_state: Tensor
    of_drive: Tensor

    @property
    def slowest(self) -> Tensor:
        """Smallest real part of a rate λ + s, 0-dim; negative: the circuit runs away."""
        return (self.damping + self.slopes.real).amin()

    def state_slope(self, t: Tensor) -> Tensor:
        """-∫ e^{-λ (t - s)} w(s) ds after a unit state, (r, T) at instants (T,)."""
        return self._sum(self.of_state, decay_slope, t)

    def drive_slope(self, t: Tensor) -> Tensor:
        """-∫ e^{-λ (t - s)} w(s) ds under a unit drive, (r, T)."""
        return self._sum(self.of_drive, response_slope, t)

    def _sum(
        self, residues: Tensor, function: Callable[[Tensor, Tensor, Tensor], Tensor], t: Tensor
    ) -> Tensor:
        # One root at a time: all of them at once would be the largest thing in memory.
        slopes = _bounded(self.slopes, self.damping, t)
        parts = (
            residues[:, k, None] * function(slopes[:, k, None], self.damping, t)
            for k in range(slopes.shape[1])
        )
        return sum(parts, start=torch.zeros((), dtype=slopes.dtype, device=slopes.device))


def loop(values: Tensor, damping: Tensor, lags: tuple[float, ...]) -> Loop:
    """The loop of eigenvalues μ (r,) of S under λ, with amplifiers of these lags (in RC)."""
    lags = tuple(lag for lag in lags if lag > 0)
    if not lags:
        one = torch.ones_like(values[:, None])
        return Loop(damping, values[:, None], one, one)
    if len(lags) == 2 and abs(lags[0] - lags[1]) < _APART * lags[0]:
        lags = lags[0], lags[0] * (1 + _APART)
    roots = _roots(values, damping, lags)
    mu, s = values[:, None], roots
    for _ in range(2):  # Newton: small roots of a stiff polynomial to their own precision
        product, derivative = _polynomial(s, damping, lags)
        s = s - (product + mu) / derivative
    _, derivative = _polynomial(s, damping, lags)
    settled, lead = torch.ones_like(s), torch.ones_like(s)
    for lag in lags:
        settled = settled + (s + damping) * lag * lead
        lead = lead * (1 + s * lag)
    return Loop(damping, -s - damping, settled / derivative, 1 / derivative)


def response_slope(s: Tensor, damping: Tensor, t: Tensor) -> Tensor:
    """``modes.response_slope`` for complex s, also near s = -λ.

    Minus the second divided difference of exp(-t ·) over 0, λ and λ + s: divided by the larger of
    the distances λ and λ + s, by its series where both are small.
    """
    total = s + damping
    near = total.abs() < damping / 2
    divisor = torch.where(near, damping.to(s.dtype), total)
    rest = torch.where(near, modes.response(total, t), modes.response(damping, t).to(s.dtype))
    difference = rest + decay_slope(s, damping, t)
    small = (divisor.abs() * t < _SERIES).expand(difference.shape)
    exact = -difference / torch.where(small, 1.0, divisor)
    return torch.where(small, modes.response_slope_series(damping * t, total * t) * t**2, exact)


def decay_slope(s: Tensor, damping: Tensor, t: Tensor) -> Tensor:
    """``modes.decay_slope`` for complex s: it is symmetric in λ and λ + s, and starts from the
    slower one, which alone may grow.
    """
    ahead = s.real >= 0
    first, distance = torch.where(ahead, damping, s + damping), torch.where(ahead, s, -s)
    return -modes.decay(first, t) * modes.response(distance, t)


def _polynomial(s: Tensor, damping: Tensor, lags: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """(s + λ) Π (1 + s τ) and its derivative."""
    product, derivative = s + damping, torch.ones_like(s)
    for lag in lags:
        product, derivative = product * (1 + s * lag), derivative * (1 + s * lag) + product * lag
    return product, derivative


def _roots(values: Tensor, damping: Tensor, lags: tuple[float, ...]) -> Tensor:
    """Eigenvalues (r, K) of x' = -λ x - μ w and τ_j v_j' = v_{j-1} - v_j, with v_0 = x, w last."""
    order = len(lags) + 1
    found = values.new_zeros((len(values), order, order))
    found[:, 0, 0] = -damping.to(values.dtype)
    found[:, 0, -1] -= values
    for j, lag in enumerate(lags, start=1):
        found[:, j, j] = -1 / lag
        found[:, j, j - 1] = 1 / lag
    roots: Tensor = torch.linalg.eigvals(found)
    return roots


def _bounded(slopes: Tensor, damping: Tensor, t: Tensor) -> Tensor:
    longest = t.amax().clamp(min=torch.finfo(torch.float64).tiny)
    least = -damping - _LARGEST / longest
    return torch.complex(torch.maximum(slopes.real, least), slopes.imag)
