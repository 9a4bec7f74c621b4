"""What a digital processor does before numbers cross a link: find their range, round, pack bits.

One pass over the numbers for the range and one that rounds and writes the packed levels, as a
hand-written kernel would; a symmetric matrix is rounded conservatively (``circuits.precision``),
which takes its rows' rounding errors into its diagonal, and only one of two equal entries is
packed. Numbers that cross as they are take no work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from hybridsim.work import Kernel, Precision, Work

_PRECISION: dict[int, Precision] = {4: "fp32", 8: "fp64"}


class Packed(NamedTuple):
    """Numbers that are packed.

    Attributes:
        entries: as they lie in memory.
        sent: as they cross the link, once.
        diagonal: entries on diagonals, 0 where nothing is symmetric.
        bits: of one number on the link.
    """

    entries: int
    sent: int
    diagonal: int
    bits: int


def packing(arrays: Sequence[Packed], element_bytes: int) -> Work:
    """The work of packing arrays whose numbers take ``element_bytes`` in memory.

    Per entry 1 FLOP for the range, 3 to round (divide, round, clamp), 2 more to sum the errors of
    conservative rounding; bytes: every entry read twice, the packed numbers written.
    """
    return _packing(tuple(arrays), element_bytes)


@cache  # the same work is the same object: its identity serves as a key
def _packing(arrays: tuple[Packed, ...], element_bytes: int) -> Work:
    kernels, memory = list[Kernel](), 0.0
    precision = _PRECISION.get(element_bytes, "fp32")
    for array in arrays:
        if array.bits >= 8 * element_bytes or array.entries == 0:
            continue
        size, written = array.entries * element_bytes, array.sent * array.bits / 8
        flop = (5.0 if array.diagonal else 3.0) * array.entries
        found = [("pack.range", array.entries, size), ("pack.round", flop, size + written)]
        if array.diagonal:
            found.append(("pack.diagonal", 3 * array.diagonal, 3 * array.diagonal * element_bytes))
        for name, operations, moved in found:
            kernels.append(Kernel(name, float(operations), float(moved), precision=precision))
        memory += size + written
    return Work(tuple(kernels), peak_bytes=round(memory))
