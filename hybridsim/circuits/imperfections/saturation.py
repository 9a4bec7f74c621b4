"""Amplifiers that clip, in a loop whose linear part is relaxed exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.eigenbasis import Eigenbasis

_TOLERANCE = 3e-4  # of a step, relative to the largest integrated current
_SERIES = 1e-3


def integrated(
    basis: Eigenbasis,
    damping: Tensor,
    t: Tensor,
    linear: Callable[[Tensor], Tensor],
    missing: Callable[[Tensor, Tensor], Tensor | None],
) -> Tensor:
    """Integrate z (r, T) to instants t: the linear trajectory and δ' = -(λ + S) δ + n(t, z).

    Exponential Runge-Kutta of second order (Cox & Matthews, J. Comput. Phys. 176, 2002, ETD2RK):
    the linear part is exact, mode by mode and without a step; steps resolve n, and where nothing
    clips there is none.

    Args:
        basis: eigenvectors of S (r, r).
        damping: λ, 0-dim.
        t: (T,), ascending from 0.
        linear: components (r, 1) of z at a time (1,) if nothing clipped.
        missing: n (r,), what clipping takes from the currents at a time and z (r,); None where
            nothing clips.
    """
    rates = (basis.rates + damping)[:, None]

    def at(now: Tensor, delta: Tensor) -> Tensor:
        return basis.combined(linear(now[None]) + delta)[:, 0]

    def force(now: Tensor, z: Tensor) -> Tensor:
        found = missing(now, z)
        return torch.zeros_like(rates) if found is None else basis.components(found[:, None])

    delta, now = torch.zeros_like(rates), t[0]
    z = at(now, delta)
    found, acting = [z], force(now, z)
    step, largest = 0.1 / rates.abs().amax().clamp(min=1e-12), z.new_zeros(())
    for end in t[1:]:
        while now < end:
            h = torch.minimum(step, end - now)
            last = bool(h == end - now)
            then = end if last else now + h
            held = modes.decay(rates, h) * delta + modes.response(rates, h) * acting
            ahead = at(then, held)
            change = _ramp(rates, h) * (force(then, ahead) - acting)
            error = basis.combined(change)[:, 0].abs().amax() if bool(change.any()) else 0 * h
            largest = torch.maximum(largest, ahead.abs().amax())
            ratio = error / (_TOLERANCE * largest.clamp(min=1e-300))
            growth = (0.9 / ratio.clamp(min=1e-6).sqrt()).clamp(0.2, 4.0)
            taken = float(ratio) <= 1 or float(h) < 1e-9 * float(t[-1])
            if taken:
                delta, now = held + change, then
                z = at(now, delta) if float(error) > 0 else ahead
                acting = force(now, z)
            # A step cut short by an instant says nothing against the one that was wanted.
            step = torch.maximum(step, h * growth) if taken and last else h * growth
        found.append(z)
    return torch.stack(found, dim=1)


def _ramp(rates: Tensor, h: Tensor) -> Tensor:
    """(1 - psi(a)/h)/a: what a force that grows from 0 to 1 over h leaves."""
    x = rates * h
    small = x.abs() < _SERIES
    exact = (1 - modes.response(rates, h) / h) / torch.where(small, 1.0, rates)
    return torch.where(small, h * (0.5 - x / 6 + x * x / 24), exact)
