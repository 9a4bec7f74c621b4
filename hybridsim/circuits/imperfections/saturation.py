"""Amplifiers that clip, in a loop whose linear part is relaxed exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.imperfections.eigenbasis import Eigenbasis

_TOLERANCE = 1e-4  # of a step, relative to the largest integrated current
_SERIES = 1e-3


def integrated(
    basis: Eigenbasis,
    damping: Tensor,
    t: Tensor,
    residual: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Integrate z (r, T) to instants t of z' = -(λ + S) z + f(t, z), z(0) = 0.

    Exponential Runge-Kutta of second order (Cox & Matthews, J. Comput. Phys. 176, 2002, ETD2RK):
    the linear part mode by mode, without a step; f over steps that are chosen so that f's change
    over one adds no more than 1e-4 of the largest |z|.

    Args:
        basis: eigenvectors of S (r, r).
        damping: λ, 0-dim.
        t: (T,), ascending from 0.
        residual: f of a 0-dim time and z (r,) float64: what is clipped, and the drive.
    """
    rates = (basis.values + damping)[:, None]
    at = torch.zeros_like(basis.values[:, None])  # components of z
    z = at[:, 0].real.clone()
    found, now = [z], t[0]
    force = basis.components(residual(now, z)[:, None])
    step = 0.1 / rates.abs().amax().clamp(min=1e-12)
    largest = z.new_zeros(())
    for end in t[1:]:
        while now < end:
            h = torch.minimum(step, end - now)
            held = modes.decay(rates, h) * at + modes.response(rates, h) * force
            ahead = basis.components(residual(now + h, basis.combined(held)[:, 0])[:, None])
            change = _ramp(rates, h) * (ahead - force)
            z = basis.combined(held + change)[:, 0]
            error = basis.combined(change).abs().amax()
            scale = torch.maximum(largest, z.abs().amax())
            ratio = error / (_TOLERANCE * scale) if float(scale) > 0 else error
            growth = (0.9 / ratio.clamp(min=1e-12).sqrt()).clamp(0.2, 3.0)
            if float(ratio) <= 1 or float(h) < 1e-9 * float(t[-1]):
                at, largest, now = held + change, scale, now + h
                force = basis.components(residual(now, z)[:, None])
            step = h * growth if float(h) < float(end - now) or float(ratio) > 1 else step
        found.append(z)
    return torch.stack(found, dim=1)


def _ramp(rates: Tensor, h: Tensor) -> Tensor:
    """(1 - psi(a)/h)/a: what a force that grows from 0 to 1 over h leaves."""
    x = rates * h
    small = x.abs() < _SERIES
    exact = (1 - modes.response(rates, h) / h) / torch.where(small, 1.0, rates)
    return torch.where(small, h * (0.5 - x / 6 + x * x / 24), exact)
