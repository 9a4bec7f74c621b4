"""Links: FIFO per direction, occupancy = bits / bandwidth, latency that pipelines, cut-through over
several hops.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy

from hybridsim.hardware.gpu import basis_row
from hybridsim.hardware.lane import Context, Issuer, Label, Price, Process, Server, record_start
from hybridsim.operations.ref import Ref
from hybridsim.scenario.machine import EdgeSpec
from hybridsim.units import to_ps


class Wire:
    """One direction of one link: a FIFO server.

    Args:
        context: environment, trace and backend.
        edge: the link and its datasheet.
        order: place in the one global order in which wires are acquired, which excludes deadlock.
        towards: the node at the receiving end.
    """

    def __init__(self, context: Context, edge: EdgeSpec, order: int, towards: str) -> None:
        assert edge.sheet is not None, "a free connection carries no wire"
        self.name, self.order, self.lane = edge.name, order, f"to {towards}"
        self.server = Server(context.env)
        self._sheet = edge.sheet
        self.bandwidth_bit_per_s = edge.sheet.value("bandwidth_bit_per_s")
        self.latency_s = edge.sheet.value("latency_s")
        low, high = edge.sheet.bounds("energy_j_per_bit")
        self.energy_j_per_bit = (edge.sheet.value("energy_j_per_bit"), low, high)
        self.chunk_bits = edge.chunk_bits
        self.number_bits = int(edge.sheet.value("number_bits"))

    def energy_basis(self) -> dict[str, Any]:
        """Which constant sets the energy of this wire."""
        return basis_row(self.name, self.lane, self._sheet, "energy_j_per_bit")

    def price(self, bits: int, duration_ps: int, count: int) -> Price:
        """Occupancy is set by the slowest hop; energy is this wire's own."""
        nominal, low, high = (bits * rate for rate in self.energy_j_per_bit)
        return Price(
            duration_ps, duration_ps, (0.0, bits / 8, 0, bits, 0, 0), (nominal, low, high), count
        )


class Route:
    """The wires from one node to another."""

    def __init__(self, context: Context, wires: Sequence[Wire]) -> None:
        self._context = context
        self.wires = tuple(wires)
        self._ordered = tuple(sorted(wires, key=lambda wire: wire.order))
        self.latency_ps = to_ps(sum(wire.latency_s for wire in wires))
        chunks = [wire.chunk_bits for wire in wires if wire.chunk_bits]
        self._chunk_bits = min(chunks) if chunks else None

    def occupancy_ps(self, bits: int) -> int:
        """Time for which a message holds every wire of the route."""
        return (
            to_ps(max(bits / wire.bandwidth_bit_per_s for wire in self.wires)) if self.wires else 0
        )

    def transfer(
        self, issuer: Issuer, label: Label, payload: Ref, bits: int, count: int = 1
    ) -> Process:
        """Send ``bits``; the payload is visible at the far end after occupancy and latency.

        With chunks, other senders may come in between; a free route takes no time and leaves no
        span.
        """
        if not self.wires or bits == 0:
            return payload
        sent = 0
        while sent < bits:
            size = min(bits - sent, self._chunk_bits or bits)
            # Rounding the sum, not every chunk, keeps many small chunks from losing or gaining
            # time.
            duration_ps = self.occupancy_ps(sent + size) - self.occupancy_ps(sent)
            payload = yield from self._occupy(
                issuer, label, payload, size, duration_ps, count if size == bits else 1
            )
            sent += size
        if self.latency_ps:
            payload = yield from self._fly(issuer, label, payload)
        return payload

    def _occupy(
        self, issuer: Issuer, label: Label, payload: Ref, bits: int, duration_ps: int, count: int
    ) -> Process:
        env, trace, _ = self._context
        parents = issuer.parents((payload,))
        queued, blocker = issuer.take_wait(int(env.now))
        blocker = yield from self._acquire(blocker)
        start = int(env.now)
        spans = []
        for wire in self.wires:
            spans.append(trace.new_id())
            price = wire.price(bits, duration_ps, count)
            record_start(
                trace,
                spans[-1],
                parents,
                blocker,
                (wire.name, wire.lane),
                label,
                queued,
                start,
                price,
            )
        yield env.timeout(duration_ps)
        for wire, span in zip(self.wires, spans, strict=True):
            trace.finish(span)
            wire.server.release(span)
        issuer.last = spans[-1]
        return payload.at(spans[-1])

    def _acquire(self, blocker: int) -> Generator[simpy.Event, None, int]:
        """Take all wires in global order; returns the span that freed the last one waited for."""
        env = self._context.env
        for wire in self._ordered:
            asked = env.now
            turn = wire.server.request()
            if turn is not None:
                yield turn
                if env.now > asked:
                    blocker = wire.server.freed_by
        return blocker

    def _fly(self, issuer: Issuer, label: Label, payload: Ref) -> Process:
        """Propagation: nothing is held, so any number of messages may be in flight."""
        env, trace, _ = self._context
        span, wire, start = trace.new_id(), self.wires[-1], int(env.now)
        price = Price(self.latency_ps, 0, (0.0, 0.0, 0, 0, 0, 0), (0.0, 0.0, 0.0))
        where = (wire.name, "flight " + wire.lane)
        record_start(trace, span, issuer.parents((payload,)), -1, where, label, start, start, price)
        yield env.timeout(self.latency_ps)
        trace.finish(span)
        issuer.last = span
        return payload.at(span)
