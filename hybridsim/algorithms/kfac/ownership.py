"""Which GPU owns which block: it has the block's factors, and its SPUs solve them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hybridsim.algorithms.kfac.jobs import Job, able_spus, columns_of, predicted
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.algorithms.kfac.prediction import Predictor
from hybridsim.errors import CapacityError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.spu import Spu
from hybridsim.scenario.settings.kfac import Kfac as Settings


def owners(machine: Machine, blocks: Sequence[Block]) -> dict[str, Gpu]:
    """Which GPU inverts what: the most expensive block first, to the GPU with least to do (n³ + m³,
    Graham 1969).
    """
    cost = {
        b.name: float(b.outputs) ** 3 + (0.0 if b.diagonal else float(b.inputs) ** 3)
        for b in blocks
    }
    return _least_busy(
        {name: {gpu.name: time for gpu in machine.gpus} for name, time in cost.items()}, machine
    )


def owners_of_solves(
    machine: Machine, jobs: Mapping[str, Mapping[str, Job]], settings: Settings
) -> dict[str, Gpu]:
    """Which GPU has its SPUs solve what: the block that takes longest first, to the GPU that would
    have done it first.

    A block's time on a GPU is that of its jobs without waiting, on the quickest of the GPU's SPUs,
    shared among all of them. A GPU whose SPUs hold the factors comes before one that has to cut
    them into tiles.

    Raises:
        CapacityError: no SPU of any GPU can take a job.
    """
    times: dict[str, dict[str, float]] = {}
    columns = columns_of(jobs)
    for name, sides in jobs.items():
        for tiling in (False, True) if settings.tiling else (False,):
            found = {
                g.name: _time_on(
                    sides.values(),
                    Predictor(machine, settings, g, columns),
                    machine.spus_of(g),
                    tiling,
                )
                for g in machine.gpus
            }
            times[name] = {gpu: time for gpu, time in found.items() if time is not None}
            if times[name]:
                break
        for job in sides.values() if not times[name] else ():
            able_spus(job, machine.spus, settings.tiling)
    return _least_busy(times, machine)


def _least_busy(times: Mapping[str, Mapping[str, float]], machine: Machine) -> dict[str, Gpu]:
    gpus = {gpu.name: gpu for gpu in machine.gpus}
    load, found = dict.fromkeys(gpus, 0.0), {}
    for name, own in sorted(times.items(), key=lambda item: -min(item[1].values())):
        best = min(own, key=lambda gpu: load[gpu] + own[gpu])
        load[best] += own[best]
        found[name] = gpus[best]
    return found


def _time_on(
    jobs: Iterable[Job], costs: Predictor, spus: Sequence[Spu], tiling: bool
) -> float | None:
    if not spus:
        return None
    total = 0.0
    for job in jobs:
        try:
            able = able_spus(job, spus, tiling)
        except CapacityError:
            return None
        kinds = {costs.kind(spu): spu for spu in able}
        total += min(predicted(job, spu, costs).total_ps for spu in kinds.values()) / len(able)
    return total
