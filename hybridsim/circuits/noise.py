"""Noise and offsets of a device, and the covariance of noise in a system that is not symmetric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.eigenbasis import Eigenbasis

_JITTERS = (1e-15, 1e-12, 1e-9)  # of the largest variance: what rounding may have taken away
_SMALL = 1e-4  # below it two terms of a series are exact to 1e-8


class Noise(NamedTuple):
    """Thermal noise and offsets of a device, in units of the full scale of x.

    Attributes:
        thermal: variance of a cell at equilibrium with its resistor.
        array: D (n, n), all resistors but the input's.
        offset: constant drive (n,) that the same resistors make of the amplifiers' offsets.
        injected: D (n, n), or (n,) where it is diagonal, of noise current of strength 1 into every
            node: kappa0's, and g_in times that of the input resistors.
        input_offset: (n,), g_in times this is added to ``offset``.
    """

    thermal: float
    array: Tensor
    offset: Tensor
    injected: Tensor
    input_offset: Tensor


@dataclass(frozen=True, eq=False)
class Covariances:
    """Of dx = -M x dτ + sqrt(2 D) dW from rest, M = P diag(μ) P⁻¹, for any D (n, n), or (n,) where
    it is diagonal.
    """

    basis: Eigenbasis

    def after(self, d: Tensor, h: float) -> Tensor:
        """Σ(h) = 2 ∫ exp(-M s) D exp(-Mᵀ s) ds over [0, h], (n, n).

        In modes, pair by pair: 2 (P⁻¹ D P⁻ᵀ)_ij (1 - exp(-(μ_i + μ_j) h))/(μ_i + μ_j).
        """
        right = self.basis.right
        pairs = 2 * modes.response(self._pairs, right.real.new_tensor(h))
        found: Tensor = ((right @ (self._in_modes(d) * pairs)) @ right.T).real
        return found / 2 + found.T / 2

    def root(self, d: Tensor, h: float) -> Tensor:
        """L with L Lᵀ = Σ(h); NaN where Σ has left float64 (a circuit that ran away)."""
        covariance = self.after(d, h)
        variances = covariance.diagonal()
        largest = variances.amax().clamp(min=torch.finfo(torch.float64).tiny)
        quiet = variances <= 0
        for jitter in _JITTERS:
            raised = torch.where(quiet, largest, jitter * largest)
            root, info = torch.linalg.cholesky_ex(covariance + torch.diag(raised))
            if int(info) == 0:
                return torch.where(quiet[:, None], 0.0, root)
        return torch.full_like(covariance, torch.nan)

    def energies(self, d: Tensor, h: float, forms: dict[str, Tensor]) -> dict[str, Tensor]:
        """∫ tr(W Σ(s)) ds over [0, h] for forms W, given as Pᵀ W P; 0-dim each.

        In pairs 2 (h - ψ)/(μ_i + μ_j) with ψ = (1 - exp(-(μ_i + μ_j) h))/(μ_i + μ_j).
        """
        at = self.basis.right.real.new_tensor(h)
        small = (self._pairs * h).abs() < _SMALL
        exact = (at - modes.response(self._pairs, at)) / torch.where(small, 1.0, self._pairs)
        twice = torch.where(small, at**2 / 2 * (1 - self._pairs * h / 3), exact)
        inner = 2 * self._in_modes(d) * twice
        return {name: (form * inner).sum().real for name, form in forms.items()}

    @cached_property
    def _pairs(self) -> Tensor:
        """μ_i + μ_j (n, n)."""
        return self.basis.rates[:, None] + self.basis.rates

    def _in_modes(self, d: Tensor) -> Tensor:
        """P⁻¹ D P⁻ᵀ."""
        left = self.basis.left
        return (left * d if d.ndim == 1 else left @ d.to(left)) @ left.T
