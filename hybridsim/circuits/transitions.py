"""Exact Ornstein-Uhlenbeck transitions: what an SPU's state does between two events.

Time is in units of RC. No linear system is solved here: A⁻¹(I - exp(-A h)) is the device's own
relaxation, evaluated mode by mode as -expm1(-a h)/a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hybridsim.circuits import modes, passes
from hybridsim.circuits.dense import Dense, Diagonalised, Roots, dense, roots
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank

__all__ = [
    "Dense",
    "Diagonalised",
    "LowRank",
    "Roots",
    "Vector",
    "dense",
    "lowrank",
    "mode_margin",
    "normal",
    "relax",
    "relax_dense",
    "roots",
    "sample_dense",
    "settling_tau",
    "transition",
]
_SAMPLES = 1024  # drawn at once; part of what a seed means


def relax(
    system: LowRank,
    state: Vector,
    drive: Vector,
    *,
    tau: float,
    kappa0: float,
    noise_seed: int,
    outputs: Tensor | None = None,
) -> Vector:
    """Move the state by ``tau`` RC, exactly, under dx = -(A x - b) dτ + sqrt(2 kappa0) dW (TNGD).

    x(τ+h) = exp(-A h) x(τ) + A⁻¹(I - exp(-A h)) b + η,    η ~ N(0, kappa0 A⁻¹(I - exp(-2 A h)))

    Cost: one pass over J for state and drive unless ``outputs`` is given, and one for the noise
        (m N products a column, float64); no read-out pass, see ``LowRank.full``.

    Args:
        system: A, size N, rank r.
        state: x(τ).
        drive: b, constant over the interval.
        tau: duration in RC, >= 0; 0 changes nothing, also with noise.
        kappa0: noise strength >= 0, dimensionless.
        noise_seed: seed of z ~ N(0, I_N), drawn in the type and on the device of J; η = σ(A) z.
        outputs: ``system.outputs(state, drive)`` (r, 2) where it is known.

    Returns:
        x(τ + tau).

    Raises:
        ValueError: tau or kappa0 is negative or not finite.
    """
    _check(tau, kappa0)
    noise = normal(noise_seed, state.perp) if kappa0 > 0 and tau > 0 else None
    return transition(system, state, drive, noise, tau=tau, kappa0=kappa0, outputs=outputs)


def transition(
    system: LowRank,
    state: Vector,
    drive: Vector,
    noise: Tensor | None,
    *,
    tau: float,
    kappa0: float,
    outputs: Tensor | None = None,
) -> Vector:
    """The map of :func:`relax` with its normal numbers z (N,) given: exp(-A h) x + psi(A) b +
    sigma(A) z.

    perp parts take the general form f(A) v = f(λ) v + J̃ᵀ Q diag[(f(s+λ) - f(λ))/s] Qᵀ J̃ v,
    coefficients the exact one f(A) J̃ᵀ c = J̃ᵀ Q f(s+λ) Qᵀ c. ``noise=None`` gives the mean;
    ``outputs`` is ``system.outputs(state, drive)`` where it is known.
    """
    if tau == 0:
        return state
    s, q = system.eigenvalues, system.eigenvectors
    h, damping = s.new_tensor(tau), s.new_tensor(system.damping)
    outputs = system.outputs(state, drive) if outputs is None else outputs
    columns = [state.perp, drive.perp]
    at_damping = [modes.decay(damping, h), modes.response(damping, h)]
    slopes = [modes.decay_slope(s, damping, h), modes.response_slope(s, damping, h)]
    if noise is not None and kappa0 > 0:
        outputs = torch.cat([outputs, passes.times(system.jacobian, noise[:, None])], dim=1)
        columns.append(noise)
        at_damping.append(modes.spread(damping, h, kappa0))
        slopes.append(modes.spread_slope(s, damping, h, kappa0))
    stacked = torch.stack(columns, dim=1).double()
    perp = (stacked @ torch.stack(at_damping)).to(state.perp.dtype)
    general = (torch.stack(slopes, dim=1) * (q.T @ system.rooted(outputs))).sum(dim=1)
    exact = modes.decay(s + damping, h) * (q.T @ state.coeff)
    exact = exact + modes.response(s + damping, h) * (q.T @ drive.coeff)
    return Vector(perp, q @ (general + exact))


def relax_dense(
    system: Diagonalised,
    states: Tensor | None,
    drives: Tensor,
    *,
    tau: float,
    kappa0: float,
    noise_seeds: Sequence[int] | None,
) -> Tensor:
    """Move k states by ``tau`` RC, exactly, under dx = -(A x - b) dτ + sqrt(2 kappa0) dW (TKFAC).

    x(τ+h) = exp(-A h) x(τ) + A⁻¹(I - exp(-A h)) b + η,
    η ~ N(0, kappa0 A⁻¹(I - exp(-2 A h))), η = σ(A) z

    Cost: O(n² k). Negative eigenvalues are legal: the state grows, and is infinite or NaN where it
        leaves float64.

    Args:
        system: A (n, n).
        states: x(τ) (n, k) float64, one column per system solved; None for columns at rest.
        drives: b (n, k) float64.
        tau: duration in RC, >= 0; 0 changes nothing.
        kappa0: noise strength >= 0, dimensionless.
        noise_seeds: k seeds, one per column; None only without noise.

    Returns:
        x(τ + tau) (n, k) float64.

    Raises:
        ValueError: tau or kappa0 is negative or not finite, or the number of seeds is not k.
    """
    _check(tau, kappa0)
    if tau == 0:
        return torch.zeros_like(drives) if states is None else states
    a, v = system.eigenvalues[:, None], system.eigenvectors
    h = a.new_tensor(tau)
    moved = modes.response(a, h) * (v.T @ drives.double())
    if states is not None:
        moved = modes.decay(a, h) * (v.T @ states.double()) + moved
    if kappa0 > 0:
        z = _normal_columns(noise_seeds, drives)
        moved = moved + modes.spread(a, h, kappa0) * (v.T @ z)
    return v @ moved


def sample_dense(
    system: Diagonalised,
    *,
    samples: int,
    settle_tau: float,
    spacing_tau: float,
    kappa0: float,
    noise_seed: int,
) -> Tensor:
    """Samples of the noise of a device that starts at rest, without a drive: dx = -A x dτ + sqrt(2
    kappa0) dW.

    The first after ``settle_tau`` RC, each further one after ``spacing_tau`` more, by exact
    transitions in the modes y = Vᵀ x, so that neighbours are correlated as on the device:

        y_1 = σ(a; settle) Vᵀ z_1,    y_s+1 = exp(-a spacing) y_s + σ(a; spacing) Vᵀ z_s+1

    Cost: 4 n² S FLOP. The first samples do not depend on how many follow.

    Args:
        system: A (n, n).
        samples: S.
        settle_tau: time from rest to the first sample in RC, >= 0.
        spacing_tau: time between two samples in RC, >= 0.
        kappa0: noise strength >= 0, dimensionless.
        noise_seed: of all z ~ N(0, I_n).

    Returns:
        x (n, S) float64.

    Raises:
        ValueError: a time or kappa0 is negative or not finite.
    """
    _check(settle_tau, kappa0)
    _check(spacing_tau, kappa0)
    a, v = system.eigenvalues, system.eigenvectors
    settle, spacing = a.new_tensor(settle_tau), a.new_tensor(spacing_tau)
    kept, width = modes.decay(a, spacing), modes.spread(a, spacing, kappa0)
    generator = torch.Generator(device=a.device).manual_seed(noise_seed)
    last, gain = torch.zeros_like(a), modes.spread(a, settle, kappa0)
    result = a.new_empty(samples, len(a))
    for start in range(0, samples, _SAMPLES):
        rows = (
            torch.randn(_SAMPLES, len(a), generator=generator, dtype=a.dtype, device=a.device) @ v
        )
        for row in rows.unbind(0):
            last = row.mul_(gain).addcmul_(kept, last)
            gain = width
        result[start : start + _SAMPLES] = (rows @ v.T)[: samples - start]
    return result.T


def normal(seed: int, like: Tensor) -> Tensor:
    """Standard normal numbers in the shape, type and device of ``like``, from the seed alone."""
    if like.is_meta:
        return torch.empty_like(like)
    generator = torch.Generator(device=like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def mode_margin(system: LowRank | Diagonalised) -> Tensor:
    """Smallest eigenvalue of A, 0-dim float64; the circuit is stable while it is positive."""
    if isinstance(system, Diagonalised):
        return system.eigenvalues[0]
    if system.size > system.rank:
        return system.eigenvalues.new_tensor(system.damping)
    return system.eigenvalues[system.rank - system.size] + system.damping


def settling_tau(bits: float, alpha_min: float) -> float:
    """Time in RC in which the slowest mode, of rate ``alpha_min``, decays to 2^-bits: bits ln
    2/alpha_min.

    Raises:
        ValueError: alpha_min is not positive.
    """
    if not alpha_min > 0:
        raise ValueError(f"expected a positive slowest rate, got {alpha_min!r}")
    return bits * math.log(2) / alpha_min


def _normal_columns(seeds: Sequence[int] | None, like: Tensor) -> Tensor:
    """Normal numbers (n, k) float64: each column from its own seed, whatever its neighbours."""
    count = like.shape[1]
    if seeds is None or len(seeds) != count:
        raise ValueError(
            f"expected {count} noise seeds, got {'none' if seeds is None else len(seeds)}"
        )
    column = like[:, 0].double()
    return torch.stack([normal(seed, column) for seed in seeds], dim=1)


def _check(tau: float, kappa0: float) -> None:
    if not 0 <= tau < math.inf:
        raise ValueError(f"expected a finite tau >= 0, got {tau!r}")
    if not 0 <= kappa0 < math.inf:
        raise ValueError(f"expected a finite kappa0 >= 0, got {kappa0!r}")
