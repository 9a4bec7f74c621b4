"""What an SPU computes for natural gradient descent: module-level functions from values to
outcomes.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Linearization, range_coordinates
from hybridsim.circuits import quartic
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank
from hybridsim.circuits.precision import conservative, quantize
from hybridsim.outcome import Outcome


class System(NamedTuple):
    """An uploaded system: A = Jᵀ H J / b + lambda I as the resistors hold it, and the gradient's
    coordinates in it.
    """

    matrix: LowRank
    coordinates: Tensor


def upload(linearization: Linearization, *, damping: float, input_bits: int | None) -> Outcome:
    """Round J and the loss Hessian to the resistors' levels and decompose the system once (TNGD,
    arXiv 2405.13817).

    A curvature without a loss Hessian (empirical Fisher) leaves the Hessian array out.
    """
    jacobian, _ = quantize(linearization.jacobian, input_bits)
    held = None
    if linearization.hessian is not None and input_bits is not None:
        held, _ = conservative(linearization.hessian, input_bits)
    root, coordinates = range_coordinates(linearization, hessian=held)
    matrix = lowrank(jacobian, root, linearization.size**-0.5, damping)
    return Outcome(System(matrix, coordinates), matrix.facts())


def drive(
    system: System, linearization: Linearization, *, bias_bits: int | None, exact: bool
) -> Outcome:
    """The gradient as the DAC puts it on the nodes.

    With nothing rounded (``exact``) it lies in the span of J̃ᵀ; otherwise the difference to that
    span's part is kept beside the coordinates, so that neither is lost to float32.
    """
    within = system.matrix.vector(coeff=system.coordinates)
    if exact:
        return Outcome(within)
    rounded, clipped = quantize(linearization.gradient, bias_bits)
    return Outcome(Vector(rounded - system.matrix.full(within), within.coeff), {"clipped": clipped})


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


def settle_quartic(
    system: System,
    state: Vector,
    drive: Vector,
    *,
    tau: float,
    kappa0: float,
    noise_seed: int,
    strength: float,
) -> Outcome:
    """``settle`` with a current ``strength`` x³ in every cell: towards the minimum of ½ xᵀAx - gᵀx
    + ¼ strength Σ x_j⁴, by splitting (:mod:`hybridsim.circuits.quartic`).
    """
    element = quartic.Quartic(strength)
    moved, heat, split = quartic.settle(
        system.matrix, element, state, drive, tau=tau, kappa0=kappa0, noise_seeds=[noise_seed]
    )
    return Outcome(moved, {"dissipation": heat.total, **heat.facts(), **split})


def read(system: System, state: Vector, *, output_bits: int | None) -> Outcome:
    """The node voltages through the ADC, auto-ranged."""
    reading, clipped = quantize(system.matrix.full(state), output_bits)
    return Outcome(reading, {"clipped": clipped})


def mean(*readings: Tensor) -> Outcome:
    """Average of several readings."""
    return Outcome(sum(readings[1:], readings[0]) / len(readings))
