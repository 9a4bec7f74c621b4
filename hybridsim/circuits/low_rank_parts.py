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
    own_hessian: bool = False,
) -> list[Load]:
    """The circuit of ``low_rank.load`` over some devices: each has its columns of J and of Jᵀ.

    The first also has the H array and the amplifiers of u and w; the others drive w to their own
    columns, r amplifiers each. Cells, resistors and numbers that are sent add up to those of one
    device. ``own_hessian``: each has an H array, and its amplifiers, of its own.
    """
    return [
        low_rank.load(
            cells,
            rows,
            outputs=outputs if place == 0 or own_hessian else 0,
            full_hessian=full_hessian,
            copies=copies,
        )
        for place, cells in enumerate(cells_of(size, parts))
    ]
