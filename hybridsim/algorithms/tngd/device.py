"""What an SPU computes for natural gradient descent: module-level functions from values to
outcomes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Linearization, range_coordinates
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank
from hybridsim.circuits.precision import conservative, quantize
from hybridsim.circuits.random_rounding import round_randomly, round_symmetric_randomly
from hybridsim.outcome import Outcome
from hybridsim.rng import address_seed


class System(NamedTuple):
    """An uploaded system: A = Jᵀ H J / b + lambda I as the resistors hold it, and the gradient's
    coordinates in it.
    """

    matrix: LowRank
    coordinates: Tensor


def upload(
    linearization: Linearization,
    *,
    damping: float,
    input_bits: int | None,
    rounding_seed: int | None = None,
) -> Outcome:
    """Round J and the loss Hessian to the resistors' levels and decompose the system once (TNGD,
    arXiv 2405.13817).

    A curvature without a loss Hessian (empirical Fisher) leaves the Hessian array out.
    ``rounding_seed``: at random and without bias. Both arrays of J are then rounded alike, which
    leaves an error of second order; so does a Hessian that its rounding made indefinite, whose
    negative eigenvalues count as zero, one of first order.
    """
    jacobian, held = _rounded(linearization, input_bits, rounding_seed)
    root, coordinates = range_coordinates(linearization, hessian=held)
    matrix = lowrank(jacobian, root, linearization.size**-0.5, damping)
    return Outcome(System(matrix, coordinates), matrix.facts())


def _rounded(
    linearization: Linearization, bits: int | None, seed: int | None
) -> tuple[Tensor, Tensor | None]:
    """J and the loss Hessian on the resistors' levels; None where it is not rounded."""
    hessian = None if bits is None else linearization.hessian
    if seed is None:
        held = None if hessian is None else conservative(hessian, bits)[0]
        return quantize(linearization.jacobian, bits)[0], held
    jacobian = round_randomly(linearization.jacobian, bits, address_seed(seed, "jacobian"))
    if hessian is None:
        return jacobian, None
    return jacobian, round_symmetric_randomly(hessian, bits, address_seed(seed, "hessian"))


def drive(
    system: System,
    linearization: Linearization,
    *,
    bias_bits: int | None,
    exact: bool,
    rounding_seed: int | None = None,
) -> Outcome:
    """The gradient as the DAC puts it on the nodes.

    With nothing rounded (``exact``) it lies in the span of J̃ᵀ; otherwise the difference to that
    span's part is kept beside the coordinates, so that neither is lost to float32.
    ``rounding_seed``: rounded at random.
    """
    within = system.matrix.vector(coeff=system.coordinates)
    if exact:
        return Outcome(within)
    facts = {}
    if rounding_seed is None:
        rounded, facts["clipped"] = quantize(linearization.gradient, bias_bits)
    else:
        seed = address_seed(rounding_seed, "gradient")
        rounded = round_randomly(linearization.gradient, bias_bits, seed)
    return Outcome(Vector(rounded - system.matrix.full(within), within.coeff), facts)


def drive_vector(
    system: System,
    linearization: Linearization,
    vector: Tensor,
    *,
    bias_bits: int | None,
    rounding_seed: int | None = None,
) -> Outcome:
    """Any other vector (N,) in the gradient's place, as the DAC puts it on the nodes: a residual.

    Nothing is known of its coordinates in the span of J̃ᵀ.
    """
    unknown = system._replace(coordinates=torch.zeros_like(system.coordinates))
    given = linearization._replace(gradient=vector)
    rounding = {"bias_bits": bias_bits, "rounding_seed": rounding_seed}
    return drive(unknown, given, exact=False, **rounding)


def rest(system: System) -> Outcome:
    """Discharged capacitors."""
    return Outcome(system.matrix.rest())


def carry(old: System, state: Vector, new: System) -> Outcome:
    """The node voltages stay where they are when another system is switched in."""
    return Outcome(new.matrix.vector(perp=old.matrix.full(state)))


def settle(
    system: System, state: Vector, drive: Vector, *, tau: float, kappa0: float, noise_seed: int
) -> Outcome:
    """The exact transition over ``tau`` RC, and what the circuit dissipated on the way."""
    run = {"tau": tau, "kappa0": kappa0}
    moved, heat = system.matrix.settle(state, drive, **run, noise_seeds=[noise_seed])
    return Outcome(moved, {"dissipation": heat.total, **heat.facts()})


def read(system: System, state: Vector, *, output_bits: int | None) -> Outcome:
    """The node voltages through the ADC, auto-ranged."""
    reading, clipped = quantize(system.matrix.full(state), output_bits)
    return Outcome(reading, {"clipped": clipped})


def mean(*readings: Tensor) -> Outcome:
    """Average of several readings."""
    return Outcome(sum(readings[1:], readings[0]) / len(readings))
