"""A network of resistors and one capacitor to ground at each node, without amplifiers.

    C dV/dt = -(G V - I)

I comes from current sources (ideal ones: what they take beside what they supply is not counted).
The resistors dissipate Vᵀ G V; what the sources supply, ∫ Vᵀ I dt, is that and the change of ½ C
V². The noise of the resistors is D = kT/C G, so that kT/C is every cell's variance, whatever the
matrix. With dual rails there are 2 n nodes, of which x is half the difference: twice the energy,
half the variance.
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


@cache
def load(size: int, rails: int = 1) -> Load:
    """What a factor of order n takes: n (n - 1)/2 resistors between nodes, n to ground; twice as
    many with dual rails.
    """
    resistors = rails * size * (size + 1) // 2
    return Load(rails * size, resistors, 0, resistors, (triangle("factor", size),))


def passive(matrix: Tensor, damping: float, device: Device, *, dual_rail: bool = False) -> Realised:
    """A = matrix + damping · I; O(n³) once per upload.

    Raises:
        HybridsimError: A is not finite, or no such network (:mod:`hybridsim.circuits.networks`).
    """
    parts = network_of(matrix, damping, circuit="passive", dual_rail=dual_rail)
    nodes, rails = Nodes(len(matrix), damping, device), 2 if dual_rail else 1
    largest = torch.maximum(parts.between.amax(), parts.ground.amax())
    slowdown = max(1.0, float(largest) / device.largest_conductance)
    off = parts.between / slowdown < device.smallest_conductance
    built = parts._replace(between=torch.where(off, 0.0, parts.between)).mismatched(device)
    held = built.matrix
    diagonal, alive = torch.diag(held.diagonal()), nodes.alive
    held = diagonal + (held - diagonal) * alive * alive[:, None]
    gain = alive / nodes.capacitors
    basis = eigenbasis(held / nodes.capacitors[:, None])
    conductances, shapes = torch.linalg.eigh(held)
    nothing = torch.zeros_like(gain)
    array = gain[:, None] * held * gain / rails
    return Realised(
        basis=basis,
        loop=Loop.of(basis.rates, ()),
        drive_gain=gain * nodes.input,
        noise=Noise(device.thermal, array, nothing, gain.square(), nothing),
        stages={"network": Stage(rails * conductances, shapes.T.contiguous())},
        largest={"network": largest / slowdown},
        slowdown=slowdown,
        parts=load(len(matrix), rails),
        active=False,
    )
