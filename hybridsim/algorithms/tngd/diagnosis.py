"""What keeps TNGD's answer from the exact one, effect by effect, and the least that a settle could
dissipate: diagnostics, which cost no simulated time.
"""

from __future__ import annotations

from torch import Tensor

from hybridsim.algorithms.natural_gradient.exact import natural_gradient
from hybridsim.algorithms.natural_gradient.linearization import Linearization
from hybridsim.algorithms.tngd import device
from hybridsim.algorithms.tngd.device import System
from hybridsim.circuits.base import Dissipation
from hybridsim.circuits.low_rank import Vector
from hybridsim.outcome import Outcome


def diagnose(
    lin: Linearization,
    answer: Tensor,
    system: System,
    drive: Vector,
    start: Vector,
    *states: Vector,
    damping: float,
    taus: tuple[float, ...],
    input_bits: int | None,
    bias_bits: int | None,
    reset: bool,
) -> Outcome:
    """Split the error of an answer, and compare what its settle dissipated with the least possible.

    The answer is computed again with one effect more each time, and every error is a difference of
    neighbours over the exact solution's norm, so that the differences add up to the whole:

        settling   an ideal device, read when this one was, less the exact solution
        rounding   + J, H_L and g on levels
        device     + what else this device's parts do to the system: its own, without noise
        noise      + noise: the nodes that were read
        readout    + converters: the answer

    A cosine is that of the answer so far with the exact solution. A kept state starts where it was
    on this device.

    No motion from m₀ to m₁ in time τ dissipates less than ‖m₁ - m₀‖²/τ (in V_fs² C, over x_fs²):
    W₂² of two Gaussians of one covariance over the time (Aurell et al., Phys. Rev. Lett. 106,
    250601, 2011). What noise spreads on the way is left out.

    Args:
        lin: the system that was asked for.
        answer: (N,), as the GPU has it.
        system: what the device was programmed with.
        drive: what it was driven with.
        start: where its state began.
        states: at each reading.
        damping: λ.
        taus: RC from the start to each reading.
        input_bits: of J and H_L.
        bias_bits: of g.
        reset: the start is the drive.

    Returns:
        Outcome(None, {"solver_error_settling", ..., "solver_cosine_settling", ...,
        "settle_dissipation", "minimum_dissipation"}).
    """

    def asked(input_bits: int | None, bias_bits: int | None) -> Tensor:
        """The mean reading of a device without flaws but for levels."""
        made = device.upload(lin, damping=damping, input_bits=input_bits).value
        exact = input_bits is None and bias_bits is None and not lin.drawn
        given = device.drive(made, lin, bias_bits=bias_bits, exact=exact).value
        first = given if reset else device.carry(system, start, made).value
        return _readings(made, first, given, taus)[0]

    exact = natural_gradient(lin, damping=damping)
    own, end, heat = _readings(system, start, drive, taus)
    read = [system.matrix.full(state).double() for state in states]
    stages = {
        "settling": asked(None, None),
        "rounding": asked(input_bits, bias_bits),
        "device": own,
        "noise": sum(read[1:], read[0]) / len(read),
        "readout": answer.double(),
    }
    facts, last = {}, exact
    for name, found in stages.items():
        facts[f"solver_error_{name}"] = (found - last).norm() / exact.norm()
        last = found
    for name in list(stages)[:-1]:
        found = stages[name]
        facts[f"solver_cosine_{name}"] = found @ exact / (found.norm() * exact.norm())
    scale = heat.full_scales["x"] ** 2
    moved = (end - system.matrix.full(start).double()).square().sum() / scale
    facts["settle_dissipation"] = heat.total
    facts["minimum_dissipation"] = moved / taus[-1] if taus[-1] else moved
    return Outcome(None, facts)


def _readings(
    system: System, start: Vector, drive: Vector, taus: tuple[float, ...]
) -> tuple[Tensor, Tensor, Dissipation]:
    """The mean of noise-free readings and the last (N,) float64; what is dissipated up to it."""
    matrix, found = system.matrix.quiet(), []
    for tau in taus:
        moved, heat = matrix.settle(start, drive, tau=tau, kappa0=0.0, noise_seeds=None)
        found.append(matrix.full(moved).double())
    return sum(found[1:], found[0]) / len(found), found[-1], heat
