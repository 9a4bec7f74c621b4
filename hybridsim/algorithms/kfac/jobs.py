"""Pieces of K-FAC's work on SPUs: jobs, the SPUs that can take them, tiles, and what a piece is
predicted to take.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from hybridsim.algorithms.kfac.layers import Block
from hybridsim.circuits import capacitive, dense, passive, roots
from hybridsim.circuits.load import Load
from hybridsim.errors import CapacityError
from hybridsim.hardware.spu import Spu
from hybridsim.scenario.choices import Circuit
from hybridsim.scenario.settings.kfac import Kfac as Settings
from hybridsim.units import to_s

SIDES = {"g": "G", "a": "A"}


class Job(NamedTuple):
    """A damped factor of order ``size`` and the ``columns`` solved against it.

    ``rows``: of the raw activations or gradients in the array, 0 where the factor itself is.
    ``divisible``: the columns may be solved in several places; samples of one noise trajectory may
    not. ``circuit``, ``rails``: of the SPUs.
    """

    block: str
    side: str
    size: int
    columns: int
    rows: int = 0
    divisible: bool = True
    circuit: Circuit = "summing"
    rails: int = 1

    @property
    def place(self) -> tuple[str, str]:
        """Block and side."""
        return self.block, self.side

    @property
    def load(self) -> Load:
        """One array for the factor, or two for its raw rows (TKFAC: 2bn); or a network."""
        if self.circuit == "passive":
            return passive.load(self.size, self.rails)
        if self.circuit == "capacitive":
            return capacitive.load(self.size, self.rails)
        return roots.load(self.rows, self.size) if self.rows else dense.load(self.size)


class Prediction(NamedTuple):
    """Time of a job without waiting: on the SPU, and on the link."""

    device_ps: int = 0
    link_ps: int = 0

    @property
    def total_ps(self) -> int:
        """Both, one after the other."""
        return self.device_ps + self.link_ps

    def plus(self, other: Prediction) -> Prediction:
        """Both jobs, one after the other."""
        return Prediction(self.device_ps + other.device_ps, self.link_ps + other.link_ps)


class Piece(NamedTuple):
    """Columns ``first`` to ``first + columns`` of a job on one SPU, in ``tiles`` (their orders)
    where it is too large.
    """

    spu: Spu
    first: int
    columns: int
    tiles: tuple[int, ...]
    predicted: Prediction


Placement = dict[tuple[str, str], tuple[Piece, ...]]


class Costs(Protocol):
    """What placement needs to know of a machine."""

    def __call__(self, job: Job, spu: Spu) -> Prediction:
        """Time of a job that fits, without waiting."""

    def kind(self, spu: Spu) -> Hashable:
        """SPUs of one kind take equal times."""

    def wires(self, spu: Spu) -> tuple[str, ...]:
        """Wires on the way to an SPU: what is sent over the same wire takes turns."""


def jobs_of(
    blocks: Sequence[Block],
    settings: Settings,
    rows: dict[str, tuple[int, int]],
    circuit: Circuit = "summing",
    rails: int = 1,
) -> dict[str, dict[str, Job]]:
    """The solves that each block takes on SPUs, by side; a diagonal A is divided by on the GPU.

    ``solves``: the n columns of the gradient (m, n) against G, then its m rows against A.
    ``inverse``: unit columns. ``noise``: as many samples as the covariance takes. ``rows``: of raw
    gradients and activations, 0: factors are sent.
    """
    found: dict[str, dict[str, Job]] = {}
    for block in blocks:
        orders = {"g": (block.outputs, block.inputs), "a": (block.inputs, block.outputs)}
        if block.diagonal:
            orders.pop("a")
        found[block.name] = {}
        for side, (size, others) in orders.items():
            columns = {"solves": others, "inverse": size, "noise": settings.covariance.samples}[
                settings.method
            ]
            height = rows[block.name][side == "g"] if rows else 0
            found[block.name][side] = Job(
                block.name,
                side,
                size,
                columns,
                height,
                divisible=settings.method != "noise",
                circuit=circuit,
                rails=rails,
            )
    return found


def columns_of(jobs: Mapping[str, Mapping[str, Job]]) -> int:
    """Right-hand sides of a step, of all blocks and sides together."""
    return sum(job.columns for sides in jobs.values() for job in sides.values())


def rows_of(placement: Placement) -> list[dict[str, Any]]:  # Any: goes to JSON
    """The placement as plain data, for the report."""
    return [
        {
            "layer": block,
            "factor": SIDES[side],
            "part": piece.spu.name,
            "first": piece.first,
            "columns": piece.columns,
            "order": sum(piece.tiles),
            "tiles": len(piece.tiles),
            "device_s": to_s(piece.predicted.device_ps),
            "link_s": to_s(piece.predicted.link_ps),
        }
        for (block, side), pieces in placement.items()
        for piece in pieces
    ]


def tiles_of(job: Job, spu: Spu) -> tuple[int, ...]:
    """Orders of the blocks that a job is cut into on an SPU: one if it fits, else nearly equal
    ones.
    """
    if not spu.lacking(job.load):
        return (job.size,)
    number = math.ceil(job.size / spu.largest_order())
    edges = [round(k * job.size / number) for k in range(number + 1)]
    return tuple(b - a for a, b in pairwise(edges))


def tile_jobs(job: Job, tiles: Sequence[int]) -> list[Job]:
    """The solves that block elimination takes: each tile also solves the columns that couple it
    with the rest.
    """
    rest = [job.size - sum(tiles[: k + 1]) for k in range(len(tiles))]
    return [job._replace(size=t, columns=job.columns + r) for t, r in zip(tiles, rest, strict=True)]


def able_spus(job: Job, spus: Sequence[Spu], tiling: bool) -> list[Spu]:
    """The SPUs that can take a job: those that hold its factor, else with tiling all that hold
    anything.

    Raises:
        CapacityError: there is none.
    """
    found = [spu for spu in spus if not spu.lacking(job.load)]
    if not found and tiling:
        found = [spu for spu in spus if spu.largest_order() > 0]
    if found:
        return found
    widest = max(spus, key=lambda spu: spu.largest_order())
    lacks = " and ".join(
        f"{needed} {name} ({available:.0f})" for name, needed, available in widest.lacking(job.load)
    )
    raise CapacityError(
        f"factor {SIDES[job.side]} of layer '{job.block}', of order {job.size}, fits on no SPU: "
        f"it needs {lacks} on the "
        f"largest, {widest.name}; choose a larger part (machine.spus.cells, "
        "machine.spus.resistors), a narrower layer, "
        "or training.algorithm.tiling: true"
    )


def piece_of(job: Job, spu: Spu, first: int, last: int, costs: Costs) -> Piece:
    """A stretch of a job's columns on an SPU."""
    part = job._replace(columns=last - first)
    return Piece(spu, first, last - first, tiles_of(job, spu), predicted(part, spu, costs))


def predicted(job: Job, spu: Spu, costs: Costs) -> Prediction:
    """Time of a job, in tiles where it is too large."""
    total = Prediction()
    for tile in tile_jobs(job, tiles_of(job, spu)):
        total = total.plus(costs(tile, spu))
    return total
