"""What the parts of the K-FAC program hand to each other, block by block; whose a block is, and
what it takes.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import simpy

from hybridsim.algorithms.kfac.jobs import Job, Prediction, able_spus, predicted
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.errors import CapacityError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.link import Route
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Ref


class Parts(NamedTuple):
    """What a backward pass yields for a block: factors (None on a step without them), mean gradient
    (m, n), and when.
    """

    a: Ref | None
    g: Ref | None
    d: Ref
    ready_ps: int


class Prepared(NamedTuple):
    """A block's preconditioner, from the factors of ``step``: what it is applied with (inverses, or
    what is solved against), and on SPUs the ``system`` that it stands for: factors and shifts.
    """

    step: int
    refs: tuple[Ref, ...]
    system: tuple[Ref, ...] = ()


class Answer(NamedTuple):
    """A block's direction U, the gradient D it answers, and the preconditioner used."""

    block: Block
    direction: Ref
    gradient: Ref
    prepared: Prepared


def results(
    env: simpy.Environment, running: Sequence[simpy.Process]
) -> Generator[simpy.Event, Any, list[Any]]:
    """What processes returned, when the last is done."""
    yield env.all_of(running)
    return [process.value for process in running]


def jobs_of(
    blocks: Sequence[Block], algorithm: Any, rows: dict[str, tuple[int, int]]
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
            columns = {"solves": others, "inverse": size, "noise": algorithm.covariance.samples}[
                algorithm.method
            ]
            height = rows[block.name][side == "g"] if rows else 0
            found[block.name][side] = Job(
                block.name, side, size, columns, height, divisible=algorithm.method != "noise"
            )
    return found


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
    machine: Machine, jobs: Mapping[str, Mapping[str, Job]], algorithm: Any
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
    for name, sides in jobs.items():
        for tiling in (False, True) if algorithm.tiling else (False,):
            found = {
                g.name: _time_on(machine, g, sides.values(), algorithm, tiling)
                for g in machine.gpus
            }
            times[name] = {gpu: time for gpu, time in found.items() if time is not None}
            if times[name]:
                break
        for job in sides.values() if not times[name] else ():
            able_spus(job, machine.spus, algorithm.tiling)
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
    machine: Machine, gpu: Gpu, jobs: Iterable[Job], algorithm: Any, tiling: bool
) -> float | None:
    spus, costs = machine.spus_of(gpu), Predictor(machine, algorithm, gpu)
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


class Predictor:
    """Time of a job on an SPU that a GPU sends to, without waiting: what is sent, writing,
    converters, settling, answers.
    """

    def __init__(self, machine: Machine, algorithm: Any, gpu: Gpu) -> None:
        self._machine, self._algorithm, self._gpu = machine, algorithm, gpu
        self._kinds: dict[str, tuple[object, ...]] = {}
        self._known: dict[tuple[Job, Hashable], Prediction] = {}

    def wires(self, spu: Spu) -> tuple[str, ...]:
        """Names of the wires that lead to an SPU."""
        return tuple(wire.name for wire in self._machine.route(self._gpu.name, spu.name).wires)

    def kind(self, spu: Spu) -> Hashable:
        """Datasheet, resolutions, buffering and routes: all that a time depends on."""
        if spu.name not in self._kinds:
            routes = self._routes(spu)
            paths = tuple((route.occupancy_ps(10**9), route.latency_ps) for route in routes)
            bits = tuple(spu.bits(end) for end in ("input", "bias", "output"))
            self._kinds[spu.name] = (id(spu.sheet), spu.node.buffering, bits, paths)
        return self._kinds[spu.name]

    def __call__(self, job: Job, spu: Spu) -> Prediction:
        """The prediction, the same for all SPUs of a kind."""
        key = (job, self.kind(spu))
        if key not in self._known:
            self._known[key] = self._predict(job, spu)
        return self._known[key]

    def _routes(self, spu: Spu) -> tuple[Route, Route]:
        return self._machine.route(self._gpu.name, spu.name), self._machine.route(
            spu.name, self._gpu.name
        )

    def _predict(self, job: Job, spu: Spu) -> Prediction:
        algorithm, (up, down) = self._algorithm, self._routes(spu)
        messages = [job.numbers * spu.bits("input")]
        if algorithm.method == "solves":
            messages.append(job.size * job.columns * spu.bits("bias"))
        tau, driven = algorithm.settle_tau, algorithm.method != "noise"
        if not driven:
            tau = (tau + (job.columns - 1) * algorithm.covariance.spacing_tau) / job.columns
        device_ps = spu.service_ps(
            job.load, job.columns, tau, written=job.load.resistors, converted=driven
        )
        sent_ps = sum(up.occupancy_ps(bits) + up.latency_ps for bits in messages)
        read_ps = down.occupancy_ps(job.size * job.columns * spu.bits("output")) + down.latency_ps
        return Prediction(device_ps, sent_ps + read_ps)
