"""What every moment of a simulation follows from: a graph that gives the schedule again when
operations take other times.

While a program runs under :class:`CausalEnvironment`, every process carries its *moment*, a node of
a graph: time zero, the end of an operation (``start + duration``), or the later of two moments
(``max``). A process that waits for an event goes on at the later of its own moment and that of the
event. A first-in, first-out server serves at the later of the request and of the release before it.
So the graph is complete, whatever a program waits for, *as long as* shared resources are asked for
in the recorded order: that order is kept too, for whoever evaluates the graph to check. (Max-plus
algebra of timed event graphs: Baccelli, Cohen, Olsder & Quadrat, Synchronization and Linearity,
1992.)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import simpy
from simpy.events import AllOf, Event, Timeout

from hybridsim.hardware.order import WatchedEnvironment

ZERO = 0
"""The node of time zero."""

Process = Generator[Event, Any, Any]  # Any: what SimPy sends and processes return


class Graph:
    """Moments and what they follow from.

    ``first[n]``, ``second[n]``: the later of two moments; where ``second`` is below zero, the end
    of an operation that started at ``first``, whose first span has the number ``-1 - second``.
    """

    def __init__(self) -> None:
        self.first, self.second = [ZERO], [ZERO]
        self._known: dict[tuple[int, int], int] = {}

    def later(self, one: int, other: int) -> int:
        """The later of two moments."""
        if one == other or other == ZERO:
            return one
        if one == ZERO:
            return other
        pair = (one, other) if one < other else (other, one)
        found = self._known.get(pair)
        if found is None:
            if self._follows(pair[1], pair[0]):
                found = pair[1]
            else:
                found = self._node(*pair)
            self._known[pair] = found
        return found

    def end(self, start: int, span: int) -> int:
        """The end of an operation that starts at a moment."""
        return self._node(start, -1 - span)

    def _node(self, first: int, second: int) -> int:
        self.first.append(first)
        self.second.append(second)
        return len(self.first) - 1

    def _follows(self, node: int, other: int) -> bool:
        """Whether a moment is never before another; looks a few steps back only."""
        for _ in range(4):
            if node == other:
                return True
            if node <= other:
                return False
            if other in (self.first[node], self.second[node]):
                return True
            node = self.first[node]
        return False


class _Occurrence(Event):
    """An event that remembers the moment at which it was triggered."""

    moment = ZERO

    def succeed(self, value: Any = None) -> Event:  # Any: as SimPy's
        """Trigger it now."""
        # SimPy types `env` as its own; here it is always a CausalEnvironment, which has a moment
        self.moment = self.env.moment  # type: ignore[attr-defined]
        return super().succeed(value)


class CausalEnvironment(WatchedEnvironment):
    """Runs programs as SimPy does and records the graph.

    Attributes:
        graph: the moments.
        moment: that of the process that is running.
        orders: for each first-in, first-out server the moments of its requests, in order; for each
            device's sets of resistors those of requests and releases.
        starts: of each operation, by the number of its span.
        ends: likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch = self
        self.graph, self.moment = Graph(), ZERO
        self.orders: dict[int, list[int]] = {}
        self.starts: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self._resources: list[object] = []  # kept, so that their identities stay taken
        self._freed: dict[int, int] = {}
        self._begun: list[int] = []
        self._of: dict[Event, tuple[Event, ...]] = {}

    # ---------------------------------------------------------------- what is watched

    def begun(self, span: int) -> None:
        """An operation starts at the present moment; it ends when the process waits no longer."""
        self.starts[span] = self.moment
        self._begun.append(span)

    def passed(self, span: int) -> None:
        """An operation of the background ends as it begins: nobody waits for it."""
        if span in self._begun:
            self._begun.remove(span)

    def asked(self, server: object, busy: bool) -> None:
        """Requests are served in turn: at once means after the one before."""
        self.turned(server)
        if not busy:
            self.moment = self.graph.later(self.moment, self._freed.get(id(server), ZERO))

    def freed(self, server: object) -> None:
        """The next in line is served from now on."""
        self._freed[id(server)] = self.moment

    def turned(self, sets: object) -> None:
        """Note the order."""
        order = self.orders.get(id(sets))
        if order is None:
            order = self.orders[id(sets)] = []
            self._resources.append(sets)
        order.append(self.moment)

    # ---------------------------------------------------------------- SimPy's ways to wait

    def event(self) -> Event:
        """An event that remembers when it was triggered."""
        return _Occurrence(self)

    def all_of(self, events: Iterable[Event]) -> AllOf:
        """All of several events."""
        events = tuple(events)
        found = super().all_of(events)
        self._of[found] = events
        return found

    def process(self, generator: Process) -> simpy.Process:
        """A process that starts now."""
        tracked = _Tracked(self, generator, self.moment)
        process = super().process(tracked.run())
        # SimPy makes the process; what is to be known of it later is hung on it
        process.tracked = tracked  # type: ignore[attr-defined]
        return process

    def moment_of(self, event: Event) -> int:
        """When an event that has happened was triggered."""
        if isinstance(event, _Occurrence):
            return event.moment
        if isinstance(event, simpy.Process):
            moment: int = event.tracked.moment  # type: ignore[attr-defined]  # set by `process`
            return moment
        if isinstance(event, AllOf):
            moment = ZERO
            for one in self._of.pop(event):
                moment = self.graph.later(moment, self.moment_of(one))
            return moment
        raise TypeError(f"expected an event whose moment is known, got {event!r}")

    def wait(self, event: Event) -> int | None:
        """The end of the operation that a process waits for; None: it waits for something else."""
        if not isinstance(event, Timeout):
            return None
        begun, self._begun = self._begun, []
        assert begun, "time passes in operations only"
        end = self.graph.end(self.moment, begun[0])
        self.ends.update(dict.fromkeys(begun, end))
        return end


class _Tracked:
    """A process with its moment."""

    __slots__ = ("env", "generator", "moment")

    def __init__(self, env: CausalEnvironment, generator: Process, moment: int) -> None:
        self.env, self.generator, self.moment = env, generator, moment

    def run(self) -> Process:
        """The generator's events; between them the environment knows whose moment it is."""
        env, value = self.env, None
        while True:
            env.moment = self.moment
            try:
                event = self.generator.send(value)
            except StopIteration as stop:
                self.moment = env.moment
                return stop.value
            end = env.wait(event)
            self.moment = env.moment if end is None else end
            value = yield event
            if end is None:
                self.moment = env.graph.later(self.moment, env.moment_of(event))
