"""The diagonal blocks of A = J̃ᵀ J̃ + λ I over groups of columns, a circuit of its own for each.

Block j relaxes dx_j = -(A_jj x_j + J̃_jᵀ c_j - b_j) dτ: what the others have, c_j = Σ_{i≠j} J̃_i x_i
in r dimensions, is fed into its summing amplifiers and counts as drive. A vector is kept as in
``low_rank``: perp (N,) and coeff (k, r), one row for each block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridsim.circuits.base import AUTOMATIC, Dissipation, FullScales
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank
from hybridsim.circuits.low_rank_parts import cells_of


@dataclass(frozen=True, eq=False)
class LowRankBlocks:
    """k blocks, side by side in N; build it with :func:`blocks`."""

    parts: tuple[LowRank, ...]

    @property
    def full_scales(self) -> FullScales:
        """None is fixed, as of each block."""
        return AUTOMATIC

    def cut(self, place: int) -> slice:
        """The columns of a block."""
        first = sum(part.size for part in self.parts[:place])
        return slice(first, first + self.parts[place].size)

    def vector(self, perp: Tensor | None = None, coeff: Tensor | None = None) -> Vector:
        """A vector with coefficients (r,), the same in all blocks; a part left out is zero."""
        perps = [None if perp is None else perp[self.cut(k)] for k in range(len(self.parts))]
        found = [part.vector(own, coeff) for part, own in zip(self.parts, perps, strict=True)]
        return Vector(torch.cat([v.perp for v in found]), torch.stack([v.coeff for v in found]))

    def own(self, vector: Vector, place: int) -> Vector:
        """A vector's part in a block."""
        return Vector(vector.perp[self.cut(place)], vector.coeff[place])

    def replaced(self, vector: Vector, place: int, own: Vector) -> Vector:
        """The vector with another part in a block."""
        perp, coeff = vector.perp.clone(), vector.coeff.clone()
        perp[self.cut(place)], coeff[place] = own.perp, own.coeff
        return Vector(perp, coeff)

    def full(self, vector: Vector) -> Tensor:
        """The vector x (N,)."""
        pairs = enumerate(self.parts)
        return torch.cat([part.full(self.own(vector, place)) for place, part in pairs])

    def lines(self, vector: Vector, place: int) -> Tensor:
        """J_j x_j (r,) float64: what a block's summing lines carry."""
        part = self.parts[place]
        found: Tensor = part.jacobian.times(part.full(self.own(vector, place))[:, None])
        return found[:, 0]

    def coupled(self, drive: Vector, place: int, lines: Tensor) -> Vector:
        """The drive with -J̃_jᵀ c_j, from what the lines (r,) of the others carry together."""
        own = self.own(drive, place)
        fed = self.parts[place].rooted(lines[:, None])[:, 0]
        return self.replaced(drive, place, Vector(own.perp, own.coeff - fed))

    def settle(
        self,
        state: Vector,
        drive: Vector,
        place: int,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
    ) -> tuple[Vector, Dissipation]:
        """One block relaxes, the others are held."""
        own, driven = self.own(state, place), self.own(drive, place)
        moved, heat = self.parts[place].settle(
            own, driven, tau=tau, kappa0=kappa0, noise_seeds=noise_seeds
        )
        return self.replaced(state, place, moved), heat

    def facts(self) -> dict[str, Tensor]:
        """Of all blocks the largest of each, and the smallest eigenvalue."""
        every = [part.facts() for part in self.parts]
        return {
            name: torch.stack([found[name] for found in every]).amin()
            if name == "smallest_eigenvalue"
            else torch.stack([found[name] for found in every]).amax()
            for name in every[0]
        }


def blocks(
    jacobian: Tensor, root: Tensor | None, scale: float, damping: float, parts: int
) -> LowRankBlocks:
    """Set up the blocks of N columns over some devices; see ``low_rank.lowrank``."""
    columns = torch.split(jacobian, cells_of(jacobian.shape[1], parts), dim=1)
    return LowRankBlocks(tuple(lowrank(own.contiguous(), root, scale, damping) for own in columns))
