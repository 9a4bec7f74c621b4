"""Where a K-FAC step's time goes: its critical path, divided among groups that add up to it."""

from __future__ import annotations

from collections.abc import Iterable

import hybridsim

PASSES, AVERAGES, INVERSION, PRODUCTS, UPDATE, REDUCE, GATHER = (
    "forward and backward",
    "factors",
    "inversion",
    "preconditioning",
    "update",
    "all-reduce",
    "gather directions",
)
FACTORS, COLUMNS, SETTLING, READBACK, HELP = (
    "upload of factors",
    "upload of columns",
    "settling",
    "readback",
    "GPU damping, packing, transposes",
)
_GROUP_OF = {
    **dict.fromkeys(
        ("forward", "backward and factors", "factors", "gradient", "gather gradient"), PASSES
    ),
    "average factors": AVERAGES,
    **dict.fromkeys(("invert", "inverse", "Newton-Schulz start", "Newton-Schulz"), INVERSION),
    "precondition": PRODUCTS,
    **dict.fromkeys(("join", "update"), UPDATE),
    **dict.fromkeys(
        ("all-reduce gradient", "all-reduce gradient and factors", "all-reduce add"), REDUCE
    ),
    "gather directions": GATHER,
    **dict.fromkeys(("upload factor", "program"), FACTORS),
    **dict.fromkeys(("upload columns", "convert"), COLUMNS),
    "settle": SETTLING,
    **dict.fromkeys(("measure", "download"), READBACK),
    **dict.fromkeys(("damping", "pack factors", "pack columns", "pack tile", "transpose"), HELP),
}


def divided(
    run: hybridsim.Run, start_ps: int, end_ps: int, groups: Iterable[str]
) -> dict[str, int]:
    """Picoseconds of the critical path between two moments, by group.

    Raises:
        KeyError: an operation on the path belongs to none of ``groups``.
    """
    found = dict.fromkeys(groups, 0)
    for segment in run.path:
        inside = min(segment.end_ps, end_ps) - max(segment.start_ps, start_ps)
        if inside > 0:
            found[_GROUP_OF[segment.kind]] += inside
    return found
