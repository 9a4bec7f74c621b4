"""Iterative refinement of an analog answer by the GPU: x ← x + SPU(b - A x) (Wilkinson 1963).

A device that solves with Ã in A's place shrinks the error by ‖I - Ã⁻¹A‖ an iteration, below its own
resolution: a residual is scaled up to the range of what was given at first, and so are neither
converters nor noise in its way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridsim.operations.ref import Ref
from hybridsim.outcome import Outcome


def scaled(residual: Tensor, given: Tensor, largest: Tensor | None = None) -> Outcome:
    """A residual (n,) or (n, k) in the range of what was ``given``, column by column.

    ``largest``: it is to become no larger than this, 0-dim or (k,).

    Returns:
        Outcome((s · residual, s), {"residual"}): s = max |given|/max |residual|, 0-dim or (k,), 1
        where either is zero; and ‖residual‖/‖given‖.
    """
    peak, reach = residual.abs().amax(dim=0), given.abs().amax(dim=0)
    reach = reach if largest is None else torch.minimum(reach, largest)
    scale = torch.where((peak == 0) | (reach == 0), 1.0, reach / peak)
    size = torch.linalg.vector_norm(given)
    left = torch.where(size == 0, 0.0, torch.linalg.vector_norm(residual) / size)
    return Outcome((residual * scale, scale), {"residual": left})


def correct(answer: Tensor, correction: Tensor, scale: Tensor) -> Outcome:
    """The answer x + correction/s, for the one to a residual that was scaled by s."""
    return Outcome(answer + correction / scale)


class Shrinking:
    """Whether the residuals of one refinement shrink; where nothing is computed they do.

    Attributes:
        left: ‖residual‖/‖given‖ of the newest.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.left: float = math.inf
        self._rounding = torch.finfo(dtype).eps ** 0.5

    def shrinks(self, scaled: Ref) -> bool:
        """Whether this residual is smaller than the one before; so is the first."""
        before, self.left = self.left, scaled.facts.get("residual", self.left)
        return not scaled.facts or self.left < before

    @property
    def note(self) -> str:
        """What is to be said where they do not shrink; nothing where half the digits of the GPU's
        type are reached: what is left is its rounding.
        """
        if self.left <= self._rounding:
            return ""
        return "residual over what was given does not shrink: the iterate before is taken"
