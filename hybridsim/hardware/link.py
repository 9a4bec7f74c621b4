"""Links: FIFO per direction, occupancy, latency that pipelines, cut-through over several hops."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, cast

import simpy

from hybridsim.hardware.lane import (
    Cause,
    Context,
    Issuer,
    Label,
    Place,
    Server,
    pass_time,
    record_start,
)
from hybridsim.hardware.part import Part
from hybridsim.hardware.price import Constants, Quote, Tariff, Time
from hybridsim.hardware.requests import Propagate, Transmit
from hybridsim.operations.ref import Carried
from hybridsim.scenario.machine import EdgeSpec
from hybridsim.units import to_ps


def transmit_time(constants: Constants, request: Transmit) -> Time:
    """Bits over bandwidth of this wire alone.

    The whole message is rounded, not every piece, so that many small pieces lose or gain no time.
    """
    rate, sent = constants.value("bandwidth_bit_per_s"), request.before + request.bits
    duration_ps = to_ps(sent / rate) - to_ps(request.before / rate)
    return Time(duration_ps, duration_ps)


def transmit_energy(constants: Constants, request: Transmit) -> float:
    """Bits times the energy of one."""
    return request.bits * constants.value("energy_j_per_bit")


def propagate_time(constants: Constants, request: Propagate) -> Time:
    """Latency of this wire alone."""
    return Time(to_ps(constants.value("latency_s")), 0)


class Wire(Part):
    """One direction of one link: a FIFO server.

    Args:
        context: environment, trace and backend.
        edge: the link and its datasheet.
        order: place in the one global order in which wires are acquired, which excludes deadlock.
        towards: the node at the receiving end.
    """

    kind = "link"
    tariffs = {
        Transmit: Tariff("transfer", transmit_time, transmit_energy),
        Propagate: Tariff("propagation", propagate_time),
    }

    def __init__(self, context: Context, edge: EdgeSpec, order: int, towards: str) -> None:
        assert edge.sheet is not None, "a free connection carries no wire"
        super().__init__(context, edge.name, edge.sheet)
        self.order, self.lane = order, f"to {towards}"
        self.place = Place(edge.name, self.lane, "server")
        self.flight = Place(edge.name, f"flight {self.lane}", "flight")
        self.server = Server(context.env)
        self.chunk_bits = edge.chunk_bits
        self.bandwidth_bit_per_s = edge.sheet.value("bandwidth_bit_per_s")
        self.latency_s = edge.sheet.value("latency_s")
        self.number_bits = int(edge.sheet.value("number_bits"))


def _held(quote: Quote, duration_ps: int) -> Quote:
    """The quote of a message that may be held by another, slower hop."""
    if quote.duration_ps == duration_ps:
        return quote
    return quote._replace(duration_ps=duration_ps, row=(duration_ps, *quote.row[1:]))


class Message(NamedTuple):
    """Bits that are sent under one label, for so many equal operations."""

    label: Label
    bits: int
    repeats: int = 1


class Route:
    """The wires from one node to another."""

    def __init__(self, context: Context, wires: Sequence[Wire]) -> None:
        self._context = context
        self.wires = tuple(wires)
        self._names = tuple(wire.name for wire in wires)
        self._ordered = tuple(sorted(wires, key=lambda wire: wire.order))
        rates = [wire.bandwidth_bit_per_s for wire in wires]
        self._pace = rates.index(min(rates)) if rates else 0
        self.latency_ps = to_ps(sum(wire.latency_s for wire in wires))
        chunks = [wire.chunk_bits for wire in wires if wire.chunk_bits]
        self._chunk_bits = min(chunks) if chunks else None
        self._known: dict[Transmit, list[Quote]] = {}
        self._flight: Quote | None = None

    def occupancy_ps(self, bits: int) -> int:
        """Time for which a message holds every wire of the route: that of the slowest."""
        if not self.wires:
            return 0
        return self.wires[self._pace].prices.duration_ps(Transmit(bits, 0, self._names))

    def transfer(
        self, issuer: Issuer, messages: Sequence[Message], payload: Carried
    ) -> Generator[simpy.Event, None, Carried]:
        """Send messages back to back; the payload is visible at the far end when all are there.

        A message takes the wires when the one before has left them, while that is still in flight:
        latency is paid once, sum of bits/bandwidth + latency in all. With chunks, other senders may
        come in between; a free route takes no time and leaves no span.
        """
        sending = [message for message in messages if message.bits] if self.wires else []
        if not sending:
            return payload
        *before, last = sending
        flights: list[simpy.Process] = []
        spans: set[int] = set()
        for message in before:
            left = yield from self._send(issuer, message, payload)
            if self.latency_ps:
                flight = self._fly(issuer.fork(), message.label, left)
                flights.append(self._context.env.process(flight))
            else:
                spans.update(left.spans)
        left = yield from self._send(issuer, last, payload)
        if self.latency_ps:
            left = yield from self._fly(issuer, last.label, left)
        if not before:
            return left
        if flights:  # they left before the last one, and are there
            yield self._context.env.all_of(flights)
            spans.update(*(cast("Carried", flight.value).spans for flight in flights))
        return payload.at(*sorted(spans.union(left.spans)))

    def _send(
        self, issuer: Issuer, message: Message, payload: Carried
    ) -> Generator[simpy.Event, None, Carried]:
        """Put one message on the wires, in chunks if they are cut."""
        sent, bits = 0, message.bits
        while sent < bits:
            size = min(bits - sent, self._chunk_bits or bits)
            piece = Transmit(size, sent, self._names, message.repeats if size == bits else 1)
            payload = yield from self._occupy(issuer, message.label, payload, piece)
            sent += size
        return payload

    def _occupy(
        self, issuer: Issuer, label: Label, payload: Carried, message: Transmit
    ) -> Generator[simpy.Event, None, Carried]:
        env, trace, _ = self._context
        parents = issuer.parents((payload,))
        queued, blocker = issuer.take_wait(int(env.now))
        blocker = yield from self._acquire(blocker)
        start, quotes = int(env.now), self._quoted(message)
        spans: list[int] = []
        for wire, held in zip(self.wires, quotes, strict=True):
            spans.append(trace.new_id())
            cause = Cause(spans[-1], parents, blocker, queued)
            record_start(trace, cause, wire.place, label, start, held)
        yield env.timeout(quotes[0].duration_ps)
        for wire, span in zip(self.wires, spans, strict=True):
            trace.finish(span)
            wire.server.release(span)
        issuer.last = spans[-1]
        return payload.at(spans[-1])

    def _quoted(self, message: Transmit) -> list[Quote]:
        """What a message costs on each wire, all of which it holds for the same time."""
        found = self._known.get(message)
        if found is None:
            quotes = [wire.prices.quote(message) for wire in self.wires]
            # of a piece a faster wire may round to 1 ps more than the one that sets the pace
            pace_ps = quotes[self._pace].duration_ps
            found = self._known[message] = [_held(quote, pace_ps) for quote in quotes]
        return found

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

    def _fly(
        self, issuer: Issuer, label: Label, payload: Carried
    ) -> Generator[simpy.Event, None, Carried]:
        """Propagation: nothing is held, so any number of messages may be in flight."""
        wire = self.wires[-1]
        if self._flight is None:  # other hops have their own latency
            quote = wire.prices.quote(Propagate(self._names))
            self._flight = quote._replace(duration_ps=self.latency_ps)
        quote = self._flight
        span = yield from pass_time(self._context, issuer, label, (payload,), wire.flight, quote)
        return payload.at(span)
