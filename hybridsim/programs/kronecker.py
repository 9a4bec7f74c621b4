"""What an SPU computes for K-FAC: a damped factor in the array, its columns relaxed one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.outcome import Outcome
from hybridsim.physics.dense import Dense, dense
from hybridsim.physics.dense_circuit import dense_dissipation
from hybridsim.physics.ou import mode_margin, relax_dense
from hybridsim.physics.precision import conservative, quantize
from hybridsim.rng import address_seed


def program(factor: Tensor, shift: Tensor, *, input_bits: int | None) -> Outcome:
    """Round a factor (n, n) conservatively, add the damping ``shift`` as resistors of its own, decompose once."""
    rounded, growth = conservative(factor, input_bits)
    system = dense(rounded, float(shift))
    facts = {
        "largest_eigenvalue": system.eigenvalues[-1],
        "smallest_eigenvalue": mode_margin(system),
        "diagonal_shift": growth,
        "conductance": rounded.abs().amax(),
    }
    return Outcome(system, facts)


def convert(columns: Tensor, *, bias_bits: int | None) -> Outcome:
    """Right-hand sides (n, k) through the DAC, each column on its own automatic range."""
    rounded = [quantize(column, bias_bits)[0] for column in columns.double().unbind(dim=1)]
    return Outcome(torch.stack(rounded, dim=1) if bias_bits is not None else columns.double())


def rest(columns: Tensor) -> Outcome:
    """Every relaxation starts from discharged capacitors."""
    return Outcome(torch.zeros_like(columns))


def settle(system: Dense, states: Tensor, drives: Tensor, *, tau: float, kappa0: float, noise_seed: int) -> Outcome:
    """All columns by the exact transition over ``tau`` RC each; noise is drawn by column, whoever serves it."""
    seeds = [address_seed(noise_seed, "column", index) for index in range(drives.shape[1])] if kappa0 > 0 else None
    moved = relax_dense(system, states, drives, tau=tau, kappa0=kappa0, noise_seeds=seeds)
    heat = dense_dissipation(system, states, drives, tau=tau, kappa0=kappa0)
    saturation = torch.stack([s.amax() for s in heat.saturation.values()]).amax()
    return Outcome(moved, {"dissipation": heat.total.sum(), "saturation": saturation})


def read(states: Tensor, *, output_bits: int | None) -> Outcome:
    """Solutions (n, k) through the ADC, each column on its own automatic range; float32 for the GPU."""
    if output_bits is None:
        return Outcome(states.float())
    columns = [quantize(column, output_bits)[0] for column in states.unbind(dim=1)]
    return Outcome(torch.stack(columns, dim=1).float())
