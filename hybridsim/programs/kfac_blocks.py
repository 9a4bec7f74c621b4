"""What the parts of the K-FAC program hand to each other, block by block; whose a block is, and what it takes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import simpy

from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.spu import Spu
from hybridsim.learning.kfac_layers import Block
from hybridsim.operations.ref import Ref
from hybridsim.programs.placement import Job, Predict, Prediction


class Parts(NamedTuple):
    """What a backward pass yields for a block: factors (None on a step without them), mean gradient (m, n), and when."""

    a: Ref | None
    g: Ref | None
    d: Ref
    ready_ps: int


class Prepared(NamedTuple):
    """A block's preconditioner, from the factors of ``step``: what it is applied with (inverses, or what is solved
    against), and on SPUs the ``system`` that it stands for: factors and shifts.
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


def results(env: simpy.Environment, running: Sequence[simpy.Process]) -> Generator[simpy.Event, Any, list[Any]]:
    """What processes returned, when the last is done."""
    yield env.all_of(running)
    return [process.value for process in running]


def jobs_of(blocks: Sequence[Block], algorithm: Any, rows: dict[str, tuple[int, int]]) -> dict[str, dict[str, Job]]:
    """The solves that each block takes on SPUs, by side; a diagonal A is divided by on the GPU.

    ``solves``: the n columns of the gradient (m, n) against G, then its m rows against A. ``inverse``: unit columns.
    ``noise``: as many samples as the covariance takes. ``rows``: of raw gradients and activations, 0: factors are sent.
    """
    found: dict[str, dict[str, Job]] = {}
    for block in blocks:
        orders = {"g": (block.outputs, block.inputs), "a": (block.inputs, block.outputs)}
        if block.diagonal:
            orders.pop("a")
        found[block.name] = {}
        for side, (size, others) in orders.items():
            columns = {"solves": others, "inverse": size, "noise": algorithm.covariance.samples}[algorithm.method]
            height = rows[block.name][side == "g"] if rows else 0
            found[block.name][side] = Job(
                block.name, side, size, columns, height, divisible=algorithm.method != "noise"
            )
    return found


def owners(machine: Machine, blocks: Sequence[Block], thermodynamic: bool) -> dict[str, Gpu]:
    """Which GPU inverts what: the most expensive block first, to the GPU with least to do (n³ + m³, Graham 1969).

    Only GPUs with SPUs of their own take part where SPUs do the work.
    """
    gpus = [gpu for gpu in machine.gpus if not thermodynamic or machine.spus_of(gpu)]
    load, found = dict.fromkeys((gpu.name for gpu in gpus), 0.0), {}
    cost = {b.name: float(b.outputs) ** 3 + (0.0 if b.diagonal else float(b.inputs) ** 3) for b in blocks}
    for block in sorted(blocks, key=lambda b: -cost[b.name]):
        found[block.name] = min(gpus, key=lambda gpu: load[gpu.name])
        load[found[block.name].name] += cost[block.name]
    return found


def predictor(machine: Machine, algorithm: Any, gpu: Gpu) -> Predict:
    """Time of a job on an SPU that a GPU sends to, without waiting: what is sent, writing, converters, settling, answers."""

    def predict(job: Job, spu: Spu) -> Prediction:
        tau, sent = algorithm.settle_tau, job.numbers * spu.bits("input")
        if algorithm.method == "solves":
            sent += job.size * job.columns * spu.bits("bias")
        if algorithm.method == "noise":
            tau = (tau + (job.columns - 1) * algorithm.covariance.spacing_tau) / job.columns
        driven = algorithm.method != "noise"
        device_ps = spu.service_ps(job.load, job.columns, tau, written=job.load.resistors, converted=driven)
        up, down = machine.route(gpu.name, spu.name), machine.route(spu.name, gpu.name)
        link_ps = up.occupancy_ps(sent) + down.occupancy_ps(job.size * job.columns * spu.bits("output"))
        return Prediction(device_ps, link_ps + up.latency_ps + down.latency_ps)

    return predict
