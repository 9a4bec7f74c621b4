"""Which SPU solves what: factors, and the columns solved against them, are given to SPUs before
anything runs.

Under ``auto``: cutting a job's columns shortens its settling and not the upload of its factor,
which every stretch repeats. So the work is cut coarsely or finely, every plan is scheduled longest
predicted time first, each stretch to the SPU that would have done it first (Graham, 1969), and the
plan is taken whose busiest SPU, or busiest wire, has least to do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import itemgetter

from hybridsim.algorithms.kfac.jobs import (
    SIDES,
    Costs,
    Job,
    Piece,
    Placement,
    able_spus,
    piece_of,
    predicted,
)
from hybridsim.hardware.spu import Spu

_SHARES = (math.inf, 4.0, 2.0, 1.0)
"""The longest settling of a stretch, in equal shares of all settling."""

Able = Mapping[Job, Sequence[Spu]]


def place(
    jobs: Sequence[Job],
    spus: Sequence[Spu],
    rule: str,
    costs: Costs,
    *,
    tiling: bool,
    chained: bool = False,
) -> Placement:
    """Give every job to SPUs.

    ``layers``: factors in turn. ``columns``: the columns of every factor over all SPUs on which it
    fits, in proportion to their speed, where they are divisible. ``auto``: the plan that is
    predicted to end first. ``chained``: A of a block is solved after G (method 2), so that each
    side has all SPUs for itself.

    Raises:
        CapacityError: a factor fits on no SPU and tiling is not asked for.
    """
    able = {job: able_spus(job, spus, tiling) for job in jobs}
    if rule == "columns" and all(job.divisible for job in jobs):
        return _spread(able, costs)
    if rule == "layers":
        turns = ((job, able[job][index % len(able[job])]) for index, job in enumerate(jobs))
        return {job.place: (piece_of(job, spu, 0, job.columns, costs),) for job, spu in turns}
    sides = (
        [{job: own for job, own in able.items() if job.side == side} for side in SIDES]
        if chained
        else [able]
    )
    found: Placement = {}
    for phase in sides:
        found |= _quickest(phase, spus, costs)
    return {job.place: found[job.place] for job in jobs}


def _spread(able: Mapping[Job, Sequence[Spu]], costs: Costs) -> Placement:
    """Every job's columns over all SPUs on which it fits."""
    return {job.place: _split(job, own, costs) for job, own in able.items()}


def _quickest(able: Able, spus: Sequence[Spu], costs: Costs) -> Placement:
    """The plan with the least predicted makespan; the coarser one of two equals."""
    if not able:
        return {}
    divisible_ps = {job: _divisible_ps(job, own, costs) for job, own in able.items()}
    share_ps = max(sum(divisible_ps.values()) / len(spus), 1.0)
    plans = []
    for share in _SHARES:
        cuts = {
            job: min(len(own), math.ceil(divisible_ps[job] / (share * share_ps)))
            for job, own in able.items()
        }
        plans.append(_longest_first(able, cuts, costs))
    if all(divisible_ps.values()):
        plans.append(_spread(able, costs))
    return min(plans, key=lambda plan: makespan_ps(plan, costs))


def makespan_ps(placement: Placement, costs: Costs) -> int:
    """An estimate of the time until all is done: the busiest SPU with what is sent for it, or the
    busiest wire.
    """
    spus: dict[str, int] = defaultdict(int)
    wires: dict[str, int] = defaultdict(int)
    for pieces in placement.values():
        for piece in pieces:
            spus[piece.spu.name] += piece.predicted.total_ps
            for wire in costs.wires(piece.spu):
                wires[wire] += piece.predicted.link_ps
    return max([*spus.values(), *wires.values()])


def _divisible_ps(job: Job, able: Sequence[Spu], costs: Costs) -> int:
    """Time on the quickest SPU that grows with the columns; 0 where they stay together.

    Tiles would all solve the columns that couple them again, in every stretch.
    """
    if not job.divisible or able[0].lacking(job.load):
        return 0
    more = job._replace(columns=job.columns + 1)
    one = job._replace(columns=1)
    kinds = {costs.kind(spu): spu for spu in able}
    return max(
        min(costs(more, spu).device_ps - costs(one, spu).device_ps for spu in kinds.values()), 1
    )


def _longest_first(able: Able, cuts: Mapping[Job, int], costs: Costs) -> Placement:
    """Stretches of nearly equal length, the longest first, each to the SPU that would have done it
    first.
    """
    longest = {}
    stretches = []
    for job, own in able.items():
        number = max(1, min(cuts[job], job.columns))
        edges = [job.columns * k // number for k in range(number + 1)]
        part = job._replace(columns=edges[1])
        kinds = {costs.kind(spu): spu for spu in own}
        longest[job] = min(predicted(part, spu, costs).total_ps for spu in kinds.values())
        stretches += [(job, first, last) for first, last in pairwise(edges)]
    stretches.sort(key=lambda stretch: -longest[stretch[0]])
    queues = _Queues(able, costs)
    found: dict[tuple[str, str], list[Piece]] = {job.place: [] for job in able}
    for job, first, last in stretches:
        found[job.place].append(
            queues.take(job, first, last, {piece.spu.name for piece in found[job.place]})
        )
    return {
        place: tuple(sorted(pieces, key=lambda piece: piece.first))
        for place, pieces in found.items()
    }


class _Queues:
    """When the SPUs of each kind will be free."""

    def __init__(self, able: Able, costs: Costs) -> None:
        self._costs = costs
        self._kinds = {job: {costs.kind(spu) for spu in own} for job, own in able.items()}
        self._free_ps: dict[Hashable, dict[str, int]] = defaultdict(dict)
        self._spus = {spu.name: spu for own in able.values() for spu in own}
        for name, spu in self._spus.items():
            self._free_ps[costs.kind(spu)][name] = 0

    def take(self, job: Job, first: int, last: int, taken: set[str]) -> Piece:
        """The stretch on the SPU that would have done it first, none that has another stretch of
        the job.
        """
        offers = []
        for kind in self._kinds[job]:
            free_ps = [
                (time_ps, name)
                for name, time_ps in self._free_ps[kind].items()
                if name not in taken
            ]
            if free_ps:
                time_ps, name = min(free_ps, key=itemgetter(0))
                piece = piece_of(job, self._spus[name], first, last, self._costs)
                offers.append((time_ps + piece.predicted.total_ps, piece))
        end_ps, piece = min(offers, key=itemgetter(0))
        self._free_ps[self._costs.kind(piece.spu)][piece.spu.name] = end_ps
        return piece


def _split(job: Job, able: Sequence[Spu], costs: Costs) -> tuple[Piece, ...]:
    """Stretches of columns in proportion to what each SPU solves in a given time, none empty."""
    one, many = job._replace(columns=1), job._replace(columns=1 + job.columns)
    # exact fractions, so that equal SPUs share alike however fast they are
    speeds = [
        Fraction(1, max(costs(many, spu).device_ps - costs(one, spu).device_ps, 1)) for spu in able
    ]
    reached = list(accumulate(speeds, initial=Fraction(0)))
    edges = [round(job.columns * part / reached[-1]) for part in reached]
    stretches = zip(able, pairwise(edges), strict=True)
    return tuple(
        piece_of(job, spu, first, last, costs) for spu, (first, last) in stretches if last > first
    )
