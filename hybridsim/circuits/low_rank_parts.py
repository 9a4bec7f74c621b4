"""What each of several devices takes that hold TNGD's circuit together, split along N."""

from __future__ import annotations

from hybridsim.circuits import low_rank
from hybridsim.circuits.base import Load


def cells_of(size: int, parts: int) -> list[int]:
    """N state variables over some parts, as equally as can be."""
    return [size // parts + (part < size % parts) for part in range(parts)]


def loads(
    size: int,
    rows: int,
    *,
    outputs: int,
    parts: int,
    full_hessian: bool = False,
    copies: int = 1,
) -> list[Load]:
    """The circuit of ``low_rank.load`` over some devices: each has its columns of J and of Jᵀ.

    The first also has the H array and the amplifiers of u and w; the others drive w to their own
    columns, r amplifiers each. Cells, resistors and numbers that are sent add up to those of one
    device.
    """
    first, *others = cells_of(size, parts)
    return [
        low_rank.load(first, rows, outputs=outputs, full_hessian=full_hessian, copies=copies),
        *(low_rank.load(cells, rows, outputs=0, copies=copies) for cells in others),
    ]
