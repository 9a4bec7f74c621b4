"""Eigenvectors of a matrix that is not symmetric, and the step response of a loop whose amplifiers
lag, mode by mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.errors import HybridsimError

_ACCURATE = 1e-9  # of a reconstruction; beyond it the matrix is nudged
_NUDGE = 1e-8  # the root of what float64 resolves, relative to the largest entry
_WORST = 1e-5
_POLISHING = 2  # Newton steps; the eigenvalues of a companion matrix are only as good as its norm


class Eigenbasis(NamedTuple):
    """M = P diag(μ) P⁻¹, real where all eigenvalues are.

    Attributes:
        rates: μ (n,).
        right: P (n, n), a mode in each column.
        left: P⁻¹ (n, n), what a vector holds of each mode.
        error: largest entry of P diag(μ) P⁻¹ - M over that of M.
    """

    rates: Tensor
    right: Tensor
    left: Tensor
    error: float

    def components(self, columns: Tensor) -> Tensor:
        """P⁻¹ Y for Y (n, k) float64."""
        return self.left @ columns.to(self.left.dtype)

    def combined(self, components: Tensor) -> Tensor:
        """P Z (n, k), real: of conjugate pairs only the sum counts."""
        return (self.right @ components).real

    def as_complex(self) -> Eigenbasis:
        """The same in complex128, whatever its eigenvalues are."""
        kind = torch.complex128
        return Eigenbasis(self.rates.to(kind), self.right.to(kind), self.left.to(kind), self.error)


def eigenbasis(matrix: Tensor) -> Eigenbasis:
    """Eigenvalues, right and left eigenvectors of M (n, n) float64; about 25 n³ FLOP.

    The left ones are the inverse of the basis: other coordinates, not a solution of M. Where M has
    too few eigenvectors, or nearly so, what is decomposed is M + δN with N of entries of order 1
    and δ = 1e-8 max |M_ij|: as good as a function of M gets to 1e-8 (approximate diagonalisation,
    E. B. Davies, SIAM J. Matrix Anal. Appl. 29, 2007), and less than parts are made to.

    Raises:
        HybridsimError: not even then, or M holds a NaN or an infinity.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise HybridsimError("expected a finite programmed matrix, got NaN or infinity")
    found = _decomposed(matrix, matrix)
    if found.error <= _ACCURATE:
        return found
    pattern = normal_pattern(0, "nudge", *matrix.shape, dtype=matrix.dtype)
    found = _decomposed(matrix + _NUDGE * matrix.abs().amax() * pattern, matrix)
    if not found.error <= _WORST:
        raise HybridsimError(
            "expected a programmed matrix with a usable eigenbasis, got one whose reconstruction "
            f"errs by {found.error:.1e}"
        )
    return found


def _decomposed(matrix: Tensor, meant: Tensor) -> Eigenbasis:
    rates, right = torch.linalg.eig(matrix)
    if not bool(rates.imag.any()):
        rates, right = rates.real.contiguous(), right.real.contiguous()
    left, _ = torch.linalg.inv_ex(right)
    largest = meant.abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    error = ((right * rates) @ left - meant).abs().amax() / largest
    return Eigenbasis(rates, right, left, float(error))


@dataclass(frozen=True, eq=False)
class Loop:
    """What modes of rates μ do in a loop of an integrator and m amplifiers that lag.

    s (1 + s τ_1) ... (1 + s τ_m) + μ = 0 has m + 1 roots for each mode. The amplifiers start
    settled: the state stands still at first, and each further amplifier follows it.

    Attributes:
        rates: μ (n, 1).
        lags: τ_1 of the integrator's amplifier, τ_2 of a stage before it; RC; none: no lag.
        roots: s (n, m + 1); without lags -μ.
        weights: of each root in the step response (n, m + 1).
    """

    rates: Tensor
    lags: tuple[float, ...]
    roots: Tensor
    weights: Tensor

    @classmethod
    def of(cls, rates: Tensor, lags: tuple[float, ...]) -> Loop:
        """Find the roots for rates (n,) and none, one or two lags, each > 0."""
        if not lags:
            return cls(rates[:, None], (), -rates[:, None], torch.ones_like(rates)[:, None])
        roots = _roots(rates.to(torch.complex128), lags)
        scale = torch.full_like(roots, 1.0)
        for lag in lags:
            scale = scale * lag
        for other in range(1, roots.shape[1]):
            scale = scale * (roots - roots.roll(other, dims=1))
        numerators = torch.ones_like(roots)
        for lag in lags[1:]:
            numerators = numerators * (1 + roots * lag)
        return cls(rates[:, None], lags, roots, numerators / scale)

    @property
    def slowest(self) -> Tensor:
        """Rate of the slowest decay, 0-dim float64; negative: the fastest growth."""
        return -self.roots.real.amax()

    @property
    def margin(self) -> Tensor:
        """How much faster amplifiers are than the fastest mode asks for, 0-dim; no lag: infinite.

        One lag: 1/(4 |μ| τ), critically damped at 1, ringing below, and always stable for μ > 0.
        Two: (1/τ_1 + 1/τ_2)/|μ|, unstable at 1 and below (Routh).
        """
        largest = self.rates.abs().amax()
        if not self.lags:
            return torch.full_like(largest, torch.inf)
        if len(self.lags) == 1:
            return 1 / (4 * self.lags[0] * largest)
        return sum(1 / lag for lag in self.lags) / largest

    def decay(self, h: Tensor) -> Tensor:
        """What is left of a state after h: (n, T) for h (T,), (n, 1) for a number."""
        if not self.lags:
            return modes.decay(self.rates, h)
        factors = self.weights
        for lag in self.lags:
            factors = factors * (1 + self.roots * lag)
        return self._sum(factors, torch.exp(self.roots[:, :, None] * h))

    def response(self, h: Tensor) -> Tensor:
        """What a unit drive has made of a mode at rest after h; shapes as of ``decay``."""
        if not self.lags:
            return modes.response(self.rates, h)
        return self._sum(self.weights, modes.response(-self.roots[:, :, None], h))

    def _sum(self, factors: Tensor, functions: Tensor) -> Tensor:
        total = (factors[:, :, None] * functions).sum(dim=1)
        return total if self.rates.is_complex() else total.real


def _roots(rates: Tensor, lags: tuple[float, ...]) -> Tensor:
    """Roots (n, m + 1) of s (1 + s τ_1) ... + μ, equal ones moved apart."""
    if len(lags) == 1:
        whole = 1 + torch.sqrt(1 - 4 * lags[0] * rates)
        pair = torch.stack([-2 * rates / whole, -whole / (2 * lags[0])], dim=1)
        return _apart(pair)
    polynomial = [1.0]  # of (1 + s τ_1) ..., lowest power first
    for lag in lags:
        shifted = [0.0, *(lag * c for c in polynomial)]
        polynomial = [a + b for a, b in zip([*polynomial, 0.0], shifted, strict=True)]
    order = len(lags) + 1
    companion = rates.new_zeros(len(rates), order, order)
    companion[:, 1:, :-1] = torch.eye(order - 1, dtype=rates.dtype)
    for power, c in enumerate(polynomial[:-1], start=1):
        companion[:, power, -1] = -c / polynomial[-1]
    companion[:, 0, -1] = -rates / polynomial[-1]
    s: Tensor = torch.linalg.eigvals(companion)
    for _ in range(_POLISHING):
        value, slope = rates[:, None].expand_as(s), torch.zeros_like(s)
        for power, c in enumerate(polynomial, start=1):
            value = value + c * s**power
            slope = slope + power * c * s ** (power - 1)
        s = s - torch.where(slope.abs() > _NUDGE, value / slope, 0.0)
    return _apart(s)


def _apart(s: Tensor) -> Tensor:
    """Roots of which no two of a mode are equal."""
    gaps = [(s - s.roll(k, dims=1)).abs().amin() for k in range(1, s.shape[1])]
    if bool(torch.stack(gaps).amin() < _NUDGE * s.abs().amax()):
        s = s * (1 + _NUDGE * torch.arange(s.shape[1], dtype=torch.float64))
    return s
