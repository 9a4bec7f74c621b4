"""What TNGD's circuit takes: on one device, and split along N on several."""

from __future__ import annotations

from hybridsim.circuits.load import Array, Load, rectangle


def load(
    size: int,
    rows: int,
    *,
    outputs: int,
    full_hessian: bool = False,
    copies: int = 1,
    on_site: bool = False,
) -> Load:
    """What TNGD's circuit takes: two arrays for J, one for H_L, an amplifier per row of each stage.

    r (r + 2 N) programmable resistors and N + 2 r amplifiers, r = b d_z; with the empirical Fisher
    there is no H array: 2 r N resistors, N + r amplifiers (TNGD, arXiv 2405.13817).

    Args:
        size: N.
        rows: r.
        outputs: d_z, 0 for the empirical Fisher.
        full_hessian: all of the H array is sent and written, not its blocks alone.
        copies: how often J is sent; once serves both arrays.
        on_site: a non-linear element in every cell, counted with the resistors and never written.
    """
    arrays, written = [rectangle("jacobian", rows * size, copies)], 2 * rows * size
    elements = size if on_site else 0
    if not outputs:
        return Load(size, written + elements, size + rows, written, tuple(arrays), rows)
    hessian = rows * (rows if full_hessian else outputs)
    arrays.append(Array("hessian", hessian, hessian, rows))
    resistors, amplifiers = rows * (rows + 2 * size) + elements, size + 2 * rows
    return Load(size, resistors, amplifiers, written + hessian, tuple(arrays), rows)


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
    on_site: bool = False,
) -> list[Load]:
    """The circuit of ``load`` over some devices: each has its columns of J and of Jᵀ.

    The first also has the H array and the amplifiers of u and w; the others drive w to their own
    columns, r amplifiers each. Cells, resistors and numbers that are sent add up to those of one
    device. ``own_hessian``: each has an H array, and its amplifiers, of its own. ``on_site``: as
    there.
    """
    return [
        load(
            cells,
            rows,
            outputs=outputs if place == 0 or own_hessian else 0,
            full_hessian=full_hessian,
            copies=copies,
            on_site=on_site,
        )
        for place, cells in enumerate(cells_of(size, parts))
    ]
