"""What a device was drawn with: numbers that belong to its parts, whatever is programmed."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

import torch
from torch import Tensor

from hybridsim.rng import address_seed

_LANES = 16  # numbers that torch draws together; from their multiples on it draws them alike


@lru_cache(maxsize=6)
def normal_pattern(instance: int, part: str, *shape: int, dtype: torch.dtype) -> Tensor:
    """Standard normal ε of every part of a kind: (shape), from the device and the kind alone.

    A smaller array uses the first rows and columns of a larger one only if its shape says so: a
    device's arrays are addressed by their shapes. Do not write to it.
    """
    seed = address_seed(instance, "device", part)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def normal_columns(
    instance: int,
    part: str,
    rows: int,
    size: int,
    columns: slice,
    starts: tuple[int, ...],
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Some columns of ``normal_pattern(instance, part, rows, size)``, without all the others in
    memory. Do not write to it.

    Args:
        instance: as there, and so ``part`` and ``dtype``.
        part: see there.
        rows: of the whole pattern.
        size: columns of the whole pattern.
        columns: which; they begin at one of the ``starts``.
        starts: where columns are asked for, ascending from 0; the same for all calls.
        dtype: see there.
    """
    if (columns.start, columns.stop) == (0, size):
        return normal_pattern(instance, part, rows, size, dtype=dtype)
    drawn, width = _drawn(instance, part, rows, size, starts, dtype), columns.stop - columns.start
    firsts = range(columns.start, rows * size, size)
    return torch.stack([drawn.numbers(first, first + width) for first in firsts])


@lru_cache(maxsize=4)
def _drawn(
    instance: int, part: str, rows: int, size: int, starts: tuple[int, ...], dtype: torch.dtype
) -> _Drawn:
    seed, first = address_seed(instance, "device", part), range(0, rows * size, size)
    return _Drawn(seed, rows * size, [row + start for row in first for start in starts], dtype)


class _Drawn:
    """``torch.randn(total)`` from a seed, of which any stretch is drawn again.

    Torch's generator cannot skip: all numbers are drawn once, and its state (5 kB) is kept where
    stretches begin. Torch draws 16 numbers at a time, of a length that is no multiple of 16 the
    last 16 again: hence stretches that begin and end at multiples, or end where all do.
    """

    def __init__(self, seed: int, total: int, begins: list[int], dtype: torch.dtype) -> None:
        self._total, self._dtype = total, dtype
        self._generator = torch.Generator().manual_seed(seed)
        self._at = sorted({self._aligned(begin) for begin in begins})
        self._states = []
        for place, following in zip(self._at, [*self._at[1:], total], strict=True):
            self._states.append(self._generator.get_state())
            self._draw(following - place)

    def numbers(self, first: int, last: int) -> Tensor:
        """Numbers ``first`` to ``last``; ``first`` is one that ``begins`` named."""
        index = bisect_right(self._at, self._aligned(first)) - 1
        place = self._at[index]
        self._generator.set_state(self._states[index])
        count, left = -(-(last - place) // _LANES) * _LANES, self._total - place
        if count > left - _LANES:
            count = left
        return self._draw(count)[first - place : last - place]

    def _aligned(self, place: int) -> int:
        """Where to begin to draw: at a multiple, at least one from the end."""
        return max(0, min(place, self._total - _LANES) // _LANES * _LANES)

    def _draw(self, count: int) -> Tensor:
        return torch.randn(count, generator=self._generator, dtype=self._dtype)
