"""Symmetric matrices as networks of two-terminal parts: what lies between nodes, and to ground.

A part of size g between nodes i and j adds g to A_ii and A_jj and -g to A_ij; one from i to ground
adds to A_ii alone. So off-diagonals are at most 0, and no row has less on its diagonal than off it.
With dual rails every node has a complement at the opposite voltage: a part from i to the complement
of j, and one from that of i to j, add +g to A_ij.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.circuits.modal import check_finite
from hybridsim.errors import HybridsimError

_ROUNDING = 1e-12  # of the largest entry


class Network(NamedTuple):
    """Parts of a matrix.

    Attributes:
        between: sizes (n, n) >= 0, symmetric, zero diagonal.
        signs: of the off-diagonals that they make, -1 or, with dual rails, 1.
        ground: from each node to ground (n,) >= 0.
    """

    between: Tensor
    signs: Tensor
    ground: Tensor

    @property
    def matrix(self) -> Tensor:
        """A (n, n)."""
        return self.signs * self.between + torch.diag(self.ground + self.between.sum(dim=1))

    def mismatched(self, device: Device) -> Network:
        """As a device's parts are; of dual rails both copies alike."""
        if device.mismatch == 0:
            return self
        pair = normal_pattern(
            device.instance, "network", *self.between.shape, dtype=torch.float64
        ).tril()
        own = normal_pattern(device.instance, "ground", len(self.ground), dtype=torch.float64)
        factors = [(1 + device.mismatch * e).clamp(min=0) for e in (pair + pair.T, own)]
        return self._replace(between=factors[0] * self.between, ground=factors[1] * self.ground)


def network_of(matrix: Tensor, damping: float, *, circuit: str, dual_rail: bool) -> Network:
    """The parts of matrix + damping · I.

    Args:
        matrix: (n, n) float64, symmetric.
        damping: λ, in parallel to what leads to ground.
        circuit: its name, for errors.
        dual_rail: whether positive off-diagonals have complements to lead to.

    Raises:
        HybridsimError: the matrix is not finite, or is no network: which condition it violates, in
            which row, and by how much.
    """
    check_finite("a finite matrix and damping", matrix, damping)
    diagonal = matrix.diagonal() + damping
    off = matrix - torch.diag(matrix.diagonal())
    allowed = _ROUNDING * float(matrix.abs().amax())
    if not dual_rail and bool((off > allowed).any()):
        row, column = divmod(int(off.argmax()), len(off))
        raise HybridsimError(
            f"circuit: {circuit}: expected off-diagonals <= 0 (or dual_rail: true), got "
            f"{float(off[row, column]):.4g} in row {row}, column {column}"
        )
    between = off.abs()
    ground = diagonal - between.sum(dim=1)
    if bool((ground < -allowed).any()):
        row = int(ground.argmin())
        raise HybridsimError(
            f"circuit: {circuit}: expected a diagonal of at least the sum of the other magnitudes "
            f"of its row (a part to ground is not negative), got {float(diagonal[row]):.4g} < "
            f"{float(between[row].sum()):.4g} in row {row}; more damping makes up for it"
        )
    return Network(between, torch.where(off > 0, 1.0, -1.0), ground.clamp(min=0))
