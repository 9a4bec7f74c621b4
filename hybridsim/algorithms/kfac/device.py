"""What an SPU computes for K-FAC: a damped factor in its array, and what its relaxation makes of
columns or of noise.

A state or a drive of None is a circuit at rest and one without a drive.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hybridsim.circuits.base import Dissipation
from hybridsim.circuits.dense import dense
from hybridsim.circuits.modal import Diagonalised
from hybridsim.circuits.precision import conservative, quantize, quantize_columns
from hybridsim.circuits.random_rounding import (
    round_columns_randomly,
    round_randomly,
    round_symmetric_randomly,
)
from hybridsim.circuits.roots import roots
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.rng import address_seed

Dtype = Literal["float32", "float64"]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@derivable
def program(
    factor: Tensor, shift: Tensor, *, input_bits: int | None, rounding_seed: int | None = None
) -> Outcome:
    """A = Â + shift I: a factor (n, n), rounded conservatively, in one array, decomposed once.

    ``rounding_seed``: rounded at random and without bias, symmetrically; the damping must then
    outweigh what it does to the smallest eigenvalues.

    Returns:
        Outcome(Dense, facts); ``diagonal_shift`` is the mean growth of the diagonal by rounding,
        beside ``shift``.

    Raises:
        HybridsimError: the factor or the shift is not finite.
    """
    if rounding_seed is not None:
        system = dense(round_symmetric_randomly(factor, input_bits, rounding_seed), float(shift))
        return Outcome(system, system.facts())
    rounded, growth = conservative(factor, input_bits)
    system = dense(rounded, float(shift))
    return Outcome(system, {"diagonal_shift": growth, **system.facts()})


@derivable
def program_roots(
    rows: Tensor, shift: Tensor, *, input_bits: int | None, rounding_seed: int | None = None
) -> Outcome:
    """A = X̂ᵀX̂ + shift I: raw activations or gradients X (r, n), rounded to nearest levels on one
    range.

    X stands in two arrays, X driven by x and Xᵀ by u = X x (TKFAC, arXiv 2502.08603, §4.2); A is
    semidefinite whatever the rounding. ``rounding_seed``: rounded at random, both arrays alike.

    Returns:
        Outcome(Roots, facts).

    Raises:
        HybridsimError: X or the shift is not finite.
    """
    if rounding_seed is None:
        rounded, _ = quantize(rows, input_bits)
    else:
        rounded = round_randomly(rows, input_bits, rounding_seed)
    system = roots(rounded, float(shift))
    return Outcome(system, system.facts())


def units(factor: Tensor, *, first: int, count: int, dtype: Dtype) -> Outcome:
    """Unit columns e_first, ..., (n, count) for a factor (n, n) or rows (r, n): made on the spot,
    nothing is sent.
    """
    columns = factor.new_zeros((factor.shape[1], count), dtype=DTYPES[dtype])
    columns.diagonal(-first).fill_(1.0)
    return Outcome(columns)


def convert(columns: Tensor, *, bias_bits: int | None, rounding_seed: int | None = None) -> Outcome:
    """Right-hand sides (n, k) through the DAC, each column on its own automatic range; float64.

    ``rounding_seed``: rounded at random.
    """
    if rounding_seed is not None:
        return Outcome(round_columns_randomly(columns.double(), bias_bits, rounding_seed))
    return Outcome(quantize_columns(columns.double(), bias_bits))


def settle(
    system: Diagonalised,
    states: Tensor | None,
    drives: Tensor,
    *,
    tau: float,
    kappa0: float,
    noise_seed: int,
    first: int = 0,
) -> Outcome:
    """All columns (n, k) by the exact transition over ``tau`` RC each.

    They are numbered from ``first`` and noise is drawn by number, so that columns spread over
    several SPUs are what they are on one.
    """
    numbers = range(first, first + drives.shape[1])
    seeds = (
        [address_seed(noise_seed, "column", number) for number in numbers] if kappa0 > 0 else None
    )
    moved, heat = system.settle(states, drives, tau=tau, kappa0=kappa0, noise_seeds=seeds)
    assert moved is not None, "there are drives"
    return Outcome(moved, _swing(heat, moved))


def sample(
    system: Diagonalised,
    state: None,
    drive: None,
    *,
    samples: int,
    spacing_tau: float,
    settle_tau: float,
    kappa0: float,
    noise_seed: int,
    first: int = 0,
) -> Outcome:
    """Samples (n, S) of the noise: from rest, without a drive, after ``settle_tau`` RC, then each
    ``spacing_tau`` RC.

    Their covariance tends to kappa0 A⁻¹ (TKFAC's method 1). ``first`` numbers the first of them: a
    device that takes another part of them has noise of its own.
    """
    seed = address_seed(noise_seed, "sample", first)
    times = {"settle_tau": settle_tau, "spacing_tau": spacing_tau}
    taken = system.sample(samples=samples, **times, kappa0=kappa0, noise_seed=seed)
    whole_tau = settle_tau + (samples - 1) * spacing_tau
    heat = system.dissipation(state, drive, tau=whole_tau, kappa0=kappa0)
    return Outcome(taken, _swing(heat, taken))


def read(states: Tensor, *, output_bits: int | None, dtype: Dtype = "float32") -> Outcome:
    """Solutions (n, k) through the ADC, each column on its own automatic range, in the GPU's
    type.
    """
    return Outcome(quantize_columns(states, output_bits).to(DTYPES[dtype]))


def _swing(heat: Dissipation, moved: Tensor) -> dict[str, Tensor]:
    return {
        "dissipation": heat.total.sum(),
        **heat.facts(),
        "nonfinite": (~moved.isfinite()).sum(),
    }
