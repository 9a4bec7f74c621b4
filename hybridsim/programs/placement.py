"""Which SPU solves what: factors, and the columns solved against them, are given to SPUs before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from hybridsim.errors import CapacityError
from hybridsim.hardware.spu import Load, Spu
from hybridsim.units import to_s

SIDES = {"g": "G", "a": "A"}


class Job(NamedTuple):
    """A damped factor of order ``size`` and the ``columns`` solved against it.

    ``rows``: of the raw activations or gradients in the array, 0 where the factor itself is. ``divisible``: the columns
    may be solved in several places; samples of one noise trajectory may not.
    """

    block: str
    side: str
    size: int
    columns: int
    rows: int = 0
    divisible: bool = True

    @property
    def numbers(self) -> int:
        """Numbers that are sent for the array."""
        return (self.rows or self.size) * self.size

    @property
    def load(self) -> Load:
        """A resistor per entry; raw rows stand in two arrays, X and its transpose (TKFAC: 2bn)."""
        if self.rows:
            return Load(self.size, 2 * self.rows * self.size, self.size + self.rows)
        return Load(self.size, self.size**2, self.size)


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
    """Columns ``first`` to ``first + columns`` of a job on one SPU, in ``tiles`` (their orders) where it is too large."""

    spu: Spu
    first: int
    columns: int
    tiles: tuple[int, ...]
    predicted: Prediction


Placement = dict[tuple[str, str], tuple[Piece, ...]]
Predict = Callable[[Job, Spu], Prediction]


def place(
    jobs: Sequence[Job], spus: Sequence[Spu], rule: str, predict: Predict, *, tiling: bool, chained: bool = False
) -> Placement:
    """Give every job to SPUs.

    ``layers``: factors in turn. ``columns``: the columns of every factor over all SPUs on which it fits, in proportion
    to their speed (where they are divisible). ``auto``: longest predicted time first, each to the SPU that would finish it first (Graham, 1969); a
    job that alone takes longer than an equal share of all work is cut into so many stretches of columns before.
    ``chained``: A of a block is solved after G (method 2), so that each side has all SPUs for itself.

    Raises:
        CapacityError: a factor fits on no SPU and tiling is not asked for.
    """
    able = {job: _able(job, spus, tiling) for job in jobs}
    if rule == "columns" and all(job.divisible for job in jobs):
        return {(job.block, job.side): _split(job, able[job], predict) for job in jobs}
    if rule == "layers":
        turns = ((job, able[job][index % len(able[job])]) for index, job in enumerate(jobs))
        return {(job.block, job.side): (_piece(job, spu, 0, job.columns, predict),) for job, spu in turns}
    sides = [{job: own for job, own in able.items() if job.side == side} for side in SIDES] if chained else [able]
    found: Placement = {}
    for phase in sides:
        found |= _longest_first(phase, spus, predict)
    return {(job.block, job.side): found[job.block, job.side] for job in jobs}


def _longest_first(able: Mapping[Job, Sequence[Spu]], spus: Sequence[Spu], predict: Predict) -> Placement:
    best_ps = {job: min(_predict(job, spu, predict).total_ps for spu in own) for job, own in able.items()}
    share_ps = max(sum(best_ps.values()) / len(spus), 1.0)
    cuts = {job: _cuts(job, own, best_ps[job] / share_ps) for job, own in able.items()}
    stretches = [(job, *stretch) for job, number in cuts.items() for stretch in pairwise(_edges(job.columns, number))]
    stretches.sort(key=lambda s: -best_ps[s[0]] * (s[2] - s[1]) / s[0].columns)
    busy_ps = dict.fromkeys((spu.name for spu in spus), 0)
    found: dict[tuple[str, str], list[Piece]] = {(job.block, job.side): [] for job in able}
    for job, first, last in stretches:
        pieces = found[job.block, job.side]
        taken = {piece.spu.name for piece in pieces}
        offers = [_piece(job, spu, first, last, predict) for spu in able[job] if spu.name not in taken]
        piece = min(offers, key=lambda offer: busy_ps[offer.spu.name] + offer.predicted.total_ps)
        busy_ps[piece.spu.name] += piece.predicted.total_ps
        pieces.append(piece)
    return {place: tuple(sorted(pieces, key=lambda piece: piece.first)) for place, pieces in found.items()}


def _cuts(job: Job, able: Sequence[Spu], shares: float) -> int:
    """Into how many stretches: tiles would all solve the columns that couple them again."""
    return min(len(able), math.ceil(shares)) if job.divisible and not able[0].lacking(job.load) else 1


def rows_of(placement: Placement) -> list[dict[str, Any]]:
    """The placement as plain data, for the report."""
    return [
        {
            "layer": block, "factor": SIDES[side], "part": piece.spu.name, "first": piece.first, "columns": piece.columns,
            "order": sum(piece.tiles), "tiles": len(piece.tiles), "device_s": to_s(piece.predicted.device_ps),
            "link_s": to_s(piece.predicted.link_ps),
        }
        for (block, side), pieces in placement.items()
        for piece in pieces
    ]  # fmt: skip


def tiles_of(job: Job, spu: Spu) -> tuple[int, ...]:
    """Orders of the blocks that a job is cut into on an SPU: one if it fits, else nearly equal ones."""
    if not spu.lacking(job.load):
        return (job.size,)
    number = math.ceil(job.size / spu.largest_order())
    edges = [round(k * job.size / number) for k in range(number + 1)]
    return tuple(b - a for a, b in pairwise(edges))


def tile_jobs(job: Job, tiles: Sequence[int]) -> list[Job]:
    """The solves that block elimination takes: each tile also solves the columns that couple it with the rest."""
    rest = [job.size - sum(tiles[: k + 1]) for k in range(len(tiles))]
    return [job._replace(size=t, columns=job.columns + r) for t, r in zip(tiles, rest, strict=True)]


def _able(job: Job, spus: Sequence[Spu], tiling: bool) -> list[Spu]:
    fitting = [spu for spu in spus if not spu.lacking(job.load)]
    if fitting or (tiling and any(spu.largest_order() > 0 for spu in spus)):
        return fitting or [spu for spu in spus if spu.largest_order() > 0]
    widest = max(spus, key=lambda spu: spu.largest_order())
    lacks = " and ".join(f"{needed} {name} ({available:.0f})" for name, needed, available in widest.lacking(job.load))
    raise CapacityError(
        f"factor {SIDES[job.side]} of layer '{job.block}', of order {job.size}, fits on no SPU: it needs {lacks} on the "
        f"largest, {widest.name}; choose a larger part (machine.spus.cells, machine.spus.resistors), a narrower layer, "
        "or training.algorithm.tiling: true"
    )


def _predict(job: Job, spu: Spu, predict: Predict) -> Prediction:
    total = Prediction()
    for tile in tile_jobs(job, tiles_of(job, spu)):
        total = total.plus(predict(tile, spu))
    return total


def _split(job: Job, able: Sequence[Spu], predict: Predict) -> tuple[Piece, ...]:
    """Stretches of columns in proportion to what each SPU solves in a given time, none empty."""
    one, many = job._replace(columns=1), job._replace(columns=1 + job.columns)
    # exact fractions, so that equal SPUs share alike however fast they are
    speeds = [Fraction(1, max(predict(many, spu).device_ps - predict(one, spu).device_ps, 1)) for spu in able]
    reached = list(accumulate(speeds, initial=Fraction(0)))
    edges = [round(job.columns * part / reached[-1]) for part in reached]
    stretches = zip(able, pairwise(edges), strict=True)
    return tuple(_piece(job, spu, first, last, predict) for spu, (first, last) in stretches if last > first)


def _piece(job: Job, spu: Spu, first: int, last: int, predict: Predict) -> Piece:
    part = job._replace(columns=last - first)
    return Piece(spu, first, last - first, tiles_of(job, spu), _predict(part, spu, predict))


def _edges(columns: int, stretches: int) -> list[int]:
    """Where nearly equal stretches of columns begin and end, none empty."""
    number = max(1, min(stretches, columns))
    return [columns * k // number for k in range(number + 1)]
