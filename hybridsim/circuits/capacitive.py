"""Cells that are coupled by capacitors: the matrix is their Maxwell matrix M, resistors R lead from
every node to ground (arXiv 2312.04836, eight cells on a board).

    M dV/dt = -V/R + I,     x: M dx/dτ = -x + b + sqrt(2 kappa0) dW/dτ

Its mean tends to b whatever M is, so it solves no linear system; the noise's covariance tends to
kappa0 M⁻¹, mode by mode kappa0/m (1 - exp(-2 τ/m)), which inverts. Johnson noise of the resistors
is D = kT/C: the covariance kT/C M⁻¹ again.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from hybridsim.circuits.eigenbasis import Loop, eigenbasis
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.nodes import Nodes
from hybridsim.circuits.load import Load, triangle
from hybridsim.circuits.networks import network_of
from hybridsim.circuits.noise import Noise
from hybridsim.circuits.rails import Stage
from hybridsim.circuits.realised import Realised
from hybridsim.errors import HybridsimError


@cache
def load(size: int, rails: int = 1) -> Load:
    """What a factor of order n takes: n (n + 1)/2 programmable capacitors, which stand in the place
    of resistors; twice as many with dual rails.
    """
    parts = rails * size * (size + 1) // 2
    return Load(rails * size, parts, 0, parts, (triangle("factor", size),))


def capacitive(
    matrix: Tensor, damping: float, device: Device, *, dual_rail: bool = False
) -> Realised:
    """M = matrix + damping · I in the capacitors, in units of C; O(n³) once per upload.

    Raises:
        HybridsimError: M is not finite, singular, or no such network
            (:mod:`hybridsim.circuits.networks`).
    """
    parts = network_of(matrix, damping, circuit="capacitive", dual_rail=dual_rail)
    nodes, rails = Nodes(len(matrix), damping, device), 2 if dual_rail else 1
    sizes, shapes = torch.linalg.eigh(parts.mismatched(device).matrix)
    if not float(sizes[0]) > 0:
        raise HybridsimError(
            f"circuit: capacitive: expected a definite matrix, got the eigenvalue {sizes[0]:.3g}"
        )
    inverse = (shapes / sizes) @ shapes.T  # of capacitances: a charge makes voltages at once
    alive, one = nodes.alive, torch.ones_like(sizes)
    inverse = inverse * alive * alive[:, None]
    basis = eigenbasis(inverse * nodes.damping_factors + torch.diag(~alive * one))
    injected, nothing = inverse @ inverse, torch.zeros_like(one)
    johnson = (inverse * nodes.damping_factors) @ inverse / rails
    return Realised(
        basis=basis,
        loop=Loop.of(basis.rates, ()),
        drive_gain=inverse,
        noise=Noise(device.thermal, johnson, nothing, injected, nothing),
        stages={"ground": Stage(rails * nodes.damping_factors)},
        largest={},
        slowdown=1.0,
        parts=load(len(matrix), rails),
        active=False,
    )
