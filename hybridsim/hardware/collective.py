"""Ring collectives between GPUs: all-reduce and all-gather, over whatever routes lie between
neighbours.

A payload is cut into one piece for each GPU. Every piece starts at a GPU of its own and travels
from neighbour to neighbour, so that each hop of all pieces loads each direction of each link once
(Patarasuk & Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, J. Parallel
Distrib. Comput. 69, 2009). A piece moves on as soon as it has arrived; a collective starts when all
GPUs have their payload and ends for all when the last piece is there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar, cast

import simpy
import torch

from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.machine import Machine
from hybridsim.operations import reductions
from hybridsim.operations.ref import Carried, Computation, Ref, Token

T = TypeVar("T")
Steps = Generator[simpy.Event, Any, T]  # Any: what SimPy sends back is the event's own
Processes = Steps[list[Ref]]
_ADD = Computation(reductions.add)
_PIECE = b"a piece of a payload"
_NUMBERS = {32: torch.float32, 64: torch.float64}


def side_by_side(
    env: simpy.Environment, issuers: Sequence[Issuer], processes: Sequence[Steps[T]]
) -> Steps[list[T]]:
    """Run one process for each issuer at the same time; all go on when the last is done.

    Afterwards every issuer has the span that ended last as its own last one: it is what each of
    them waited for.
    """

    def timed(process: Steps[T]) -> Steps[tuple[int, T]]:
        result = yield from process
        return int(env.now), result

    if len(processes) == 1:
        return [(yield from processes[0])]
    running = [env.process(timed(process)) for process in processes]
    yield env.all_of(running)
    found = [cast("tuple[int, T]", process.value) for process in running]
    slowest = max(range(len(found)), key=lambda k: (found[k][0], k))
    for issuer in issuers:
        issuer.last = issuers[slowest].last
    return [result for _, result in found]


def all_reduce(
    machine: Machine,
    issuers: Sequence[Issuer],
    label: Label,
    gpus: Sequence[Gpu],
    payloads: Sequence[Ref],
    bits: int,
    combine: Computation,
    number_bits: int = 32,
) -> Processes:
    """Combine the payloads of G GPUs so that every one has the result.

    A piece of ``ceil(bits / G)`` makes G - 1 hops on which each receiver adds its share, and G - 1
    more that spread the sum. Between equal links that nobody else uses this takes ``2 (G - 1) (bits
    / (G bandwidth) + latency)`` and G - 1 adds, each a kernel of its own.

    Args:
        machine: where the routes are.
        issuers: one thread of control for each GPU.
        label: what the transfers are called.
        gpus: the ring, in order.
        payloads: what each GPU has.
        bits: size of one payload.
        combine: the result as a function of all payloads, evaluated once; equal numbers on every
            GPU.
        number_bits: size of one number, 32 or 64.

    Returns:
        The result as it lies on each GPU; with one GPU its payload, at once.
    """
    size = len(gpus)
    if size == 1:
        return list(payloads)
    piece_bits = -(-bits // size)
    backend = machine.context.backend
    length = -(-piece_bits // number_bits)
    numbers = backend.shapes.meta(torch.empty(length, dtype=_NUMBERS[number_bits], device="meta"))
    arrivals = [payload.spans for payload in payloads]
    start = _together(payloads, issuers)

    def travel(issuer: Issuer, first: int) -> Steps[Ref]:
        # The numbers of a piece are never looked at: the sum is computed once, by ``combine``.
        piece = Ref.of(numbers, _PIECE, start)
        for hop in range(2 * (size - 1)):
            here, there = gpus[(first + hop) % size], (first + hop + 1) % size
            piece = yield from machine.transfer(
                issuer, label, here.name, gpus[there].name, piece, piece_bits
            )
            if hop < size - 1:
                adding = Label("all-reduce add", label.step, label.layer)
                piece = yield from gpus[there].execute(
                    issuer, adding, _ADD, (piece, piece), known=piece
                )
            arrivals[there] = piece.spans
        return piece

    yield from _round_trip(machine, issuers, travel)
    result = backend.evaluate(combine, tuple(payloads), backend.work(combine, tuple(payloads))[1])
    # it ends for all GPUs when its last piece has arrived, wherever that is
    ends = [{*spans, issuer.last} - {-1} for spans, issuer in zip(arrivals, issuers, strict=True)]
    return [result.at(*sorted(spans)) for spans in ends]


def all_gather(
    machine: Machine,
    issuers: Sequence[Issuer],
    label: Label,
    gpus: Sequence[Gpu],
    payloads: Sequence[Carried],
    bits_each: Sequence[int],
) -> Steps[list[Carried]]:
    """Bring what each of G GPUs has to all others: G - 1 hops for each payload, all at the same
    time.

    Args:
        machine: where the routes are.
        issuers: one thread of control for each GPU.
        label: what the transfers are called.
        gpus: the ring, in order.
        payloads: what each GPU has.
        bits_each: their sizes; nothing is sent of an empty one.

    Returns:
        The payloads in order, each as produced by its last hop: every GPU has all of them. With one
        GPU its payload, at once.
    """
    size, start = len(gpus), _together(payloads, issuers)
    if size == 1:
        return list(payloads)

    def travel(issuer: Issuer, first: int) -> Steps[Carried]:
        piece = payloads[first].at(*start)
        for hop in range(size - 1):
            here, there = gpus[(first + hop) % size].name, gpus[(first + hop + 1) % size].name
            piece = yield from machine.transfer(issuer, label, here, there, piece, bits_each[first])
        return piece

    return (yield from _round_trip(machine, issuers, travel))


def _together(
    payloads: Sequence[Ref] | Sequence[Token], issuers: Sequence[Issuer]
) -> tuple[int, ...]:
    """Spans after which a collective can start: all payloads are there, all threads have come."""
    spans = {span for payload in payloads for span in payload.spans}
    return tuple(sorted(spans | {issuer.last for issuer in issuers if issuer.last >= 0}))


def _round_trip(
    machine: Machine, issuers: Sequence[Issuer], travel: Callable[[Issuer, int], Steps[T]]
) -> Steps[list[T]]:
    """All pieces at once, each a thread of its own; the GPUs' threads go on when the last has
    arrived.
    """
    threads = [Issuer() for _ in issuers]
    processes = [travel(thread, first) for first, thread in enumerate(threads)]
    pieces = yield from side_by_side(machine.context.env, threads, processes)
    for issuer in issuers:
        if threads[0].last >= 0:  # free routes leave no span
            issuer.last = threads[0].last
    return pieces
