"""What an SPU computes for natural gradient descent: module-level functions from values to
outcomes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import (
    Linearization,
    hessian_root,
    range_coordinates,
)
from hybridsim.circuits import quartic
from hybridsim.circuits.base import AUTOMATIC
from hybridsim.circuits.imperfect_low_rank import ImperfectLowRank, imperfect_lowrank
from hybridsim.circuits.imperfections.device import IDEAL, Device
from hybridsim.circuits.imperfections.parts import built, converted
from hybridsim.circuits.imperfections.ranges import chosen, raised
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank
from hybridsim.circuits.precision import conservative, largest_magnitude, quantize
from hybridsim.circuits.random_rounding import round_randomly, round_symmetric_randomly
from hybridsim.circuits.rows import Explicit, Rows, as_rows
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.rng import address_seed

_USED = 0.25  # share of its range below which a reading is taken again


class System(NamedTuple):
    """An uploaded system: A = Jᵀ H J / b + lambda I as the resistors hold it, and the gradient's
    coordinates in it.
    """

    matrix: LowRank | ImperfectLowRank
    coordinates: Tensor


@derivable
def upload(
    linearization: Linearization,
    last: Vector | None = None,
    *,
    damping: float,
    input_bits: int | None,
    device: Device = IDEAL,
    age_tau: float = 1.0,
    rounding_seed: int | None = None,
    apart: bool = False,
) -> Outcome:
    """Round J and the loss Hessian to the resistors' levels and decompose the system once (TNGD,
    arXiv 2405.13817).

    A curvature without a loss Hessian (empirical Fisher) leaves the Hessian array out.

    Args:
        linearization: what is uploaded.
        last: the device's state when this is written: what programmable gains are chosen from.
            None: they are automatic, those of a first settle that only finds them.
        damping: lambda.
        input_bits: of a resistor.
        device: what is imperfect.
        age_tau: time in RC after which drift is taken.
        rounding_seed: rounded at random and without bias, the loss Hessian too, which may become
            indefinite; None: to nearest levels.
        apart: the two arrays of J are rounded at random apart from each other; else alike, which
            leaves an error of second order.
    """
    jacobian, transposed, held = _rounded(linearization, input_bits, rounding_seed, apart)
    if device.ideal and rounding_seed is None:
        root, coordinates = range_coordinates(linearization, hessian=held)
        ideal = lowrank(jacobian, root, linearization.size**-0.5, damping)
        return Outcome(System(ideal, coordinates), ideal.facts())
    if linearization.hessian is not None and held is None:
        root = hessian_root(linearization.residual, linearization.probabilities)
        held = root @ root.mT
    gradient, ranges = linearization.gradient, AUTOMATIC
    if last is not None and last.peaks is not None:
        ranges = chosen(last.peaks, float(largest_magnitude(gradient)), device)
    size = linearization.size
    coordinates = linearization.residual.new_full((len(jacobian),), 1 / size)
    if linearization.hessian is not None:
        coordinates = linearization.residual.reshape(-1) / size
    matrix = imperfect_lowrank(
        jacobian, held, size, damping, gradient, device, ranges, age_tau=age_tau,
        transposed=transposed,
    )  # fmt: skip
    return Outcome(System(matrix, coordinates), matrix.facts())


def _rounded(
    linearization: Linearization, bits: int | None, seed: int | None, apart: bool
) -> tuple[Rows, Rows | None, Tensor | None]:
    """J, what stands in the Jᵀ array if it differs, and the loss Hessian where it is rounded."""
    rows, hessian = as_rows(linearization.jacobian), None if bits is None else linearization.hessian
    if seed is None:
        held = None if hessian is None else conservative(hessian, bits)[0]
        return _levelled(rows, bits), None, held
    driven, transposed, held = _levelled_randomly(rows, bits, seed), None, None
    if apart:
        transposed = _levelled_randomly(rows, bits, address_seed(seed, "transposed"))
    if hessian is not None:
        held = round_symmetric_randomly(hessian, bits, address_seed(seed, "hessian"))
    return driven, transposed, held


def _levelled(rows: Rows, bits: int | None) -> Rows:
    """On the nearest of the levels of one range, max |J_ij|: JᵀHJ stays semidefinite."""
    if bits is None:
        return rows
    largest = rows.largest()
    return rows.mapped(lambda _, entries: quantize(entries, bits, largest)[0])


def _levelled_randomly(rows: Rows, bits: int | None, seed: int) -> Rows:
    """Its draws follow one another row by row: all of J is needed at once."""
    return Explicit(round_randomly(rows.columns(slice(0, rows.shape[1])), bits, seed))


@derivable
def drive(
    system: System,
    linearization: Linearization,
    *,
    bias_bits: int | None,
    exact: bool,
    device: Device = IDEAL,
    rounding_seed: int | None = None,
) -> Outcome:
    """The gradient as the DAC puts it on the nodes.

    With nothing rounded (``exact``) it lies in the span of J̃ᵀ; otherwise the difference to that
    span's part is kept beside the coordinates, so that neither is lost to float32.
    ``rounding_seed``: rounded at random.
    """
    matrix = system.matrix
    within = matrix.vector(coeff=system.coordinates)
    if device.ideal and exact:
        return Outcome(within)
    reach, given = matrix.full_scales.b, linearization.gradient
    if rounding_seed is not None:
        given = round_randomly(given, bias_bits, rounding_seed, reach)
    rounded, clipped = converted(given, bias_bits, device, "dac", reach)
    rounded = built(rounded, device, "input")
    rest = matrix.vector(rounded - matrix.full(within), within.coeff)
    return Outcome(rest, {"clipped": clipped})


def drive_vector(
    system: System,
    linearization: Linearization,
    vector: Tensor,
    *,
    bias_bits: int | None,
    device: Device = IDEAL,
    rounding_seed: int | None = None,
) -> Outcome:
    """Any other vector (N,) in the gradient's place, as the DAC puts it on the nodes: a residual.

    Nothing is known of its coordinates in the span of J̃ᵀ.
    """
    unknown = system._replace(coordinates=torch.zeros_like(system.coordinates))
    return drive(
        unknown,
        linearization._replace(gradient=vector),
        bias_bits=bias_bits,
        exact=False,
        device=device,
        rounding_seed=rounding_seed,
    )


@derivable
def drive_reversed(
    system: System,
    linearization: Linearization,
    *,
    bias_bits: int | None,
    exact: bool,
    device: Device = IDEAL,
    rounding_seed: int | None = None,
) -> Outcome:
    """The gradient with its sign reversed: the DAC negates what it was sent."""
    return drive(
        system._replace(coordinates=-system.coordinates),
        linearization._replace(gradient=-linearization.gradient),
        bias_bits=bias_bits,
        exact=exact,
        device=device,
        rounding_seed=rounding_seed,
    )


def rest(system: System, state: Vector) -> Outcome:
    """Discharged capacitors; what was seen of the system, from which ranges are chosen, stays."""
    return Outcome(system.matrix.rest()._replace(peaks=state.peaks))


def carry(old: System, state: Vector, new: System) -> Outcome:
    """The node voltages stay where they are when another system is switched in."""
    return Outcome(new.matrix.vector(perp=old.matrix.full(state)))


def settle(
    system: System,
    state: Vector,
    drive: Vector,
    *,
    tau: float,
    kappa0: float,
    noise_seed: int,
    charge: bool = False,
) -> Outcome:
    """The transition over ``tau`` RC, and what the circuit dissipated on the way.

    With ``charge`` also what its amplifiers' loads took.
    """
    moved, heat = system.matrix.settle(
        state, drive, tau=tau, kappa0=kappa0, noise_seeds=[noise_seed], charge=charge
    )
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


def read(
    system: System, state: Vector, *, output_bits: int | None, device: Device = IDEAL
) -> Outcome:
    """The node voltages through the ADC, auto-ranged.

    A device with programmable gains is read on the full scale of its cells, and where they use less
    than a quarter of it once more on the range that fits: the fact ``retaken``.
    """
    voltages, matrix = system.matrix.full(state), system.matrix
    reach, facts = matrix.full_scales.x, dict[str, float]()
    if reach is not None and output_bits is not None:
        largest = float(largest_magnitude(voltages))
        facts["retaken"] = float(largest < _USED * reach)
        if facts["retaken"]:
            reach = raised(largest, device.gain_step)
    reading, clipped = converted(voltages, output_bits, device, "adc", reach)
    return Outcome(matrix.vector(reading).perp, {"clipped": clipped, **facts})


def mean(*readings: Tensor) -> Outcome:
    """Average of several readings."""
    return Outcome(sum(readings[1:], readings[0]) / len(readings))
