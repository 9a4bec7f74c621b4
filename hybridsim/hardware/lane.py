"""FIFO servers that remember who freed them, and the spans that are recorded while they serve."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import simpy

from hybridsim.operations.backend import Backend
from hybridsim.operations.ref import Ref
from hybridsim.trace.spans import Trace

Process = Generator[simpy.Event, None, Ref]


class Context(NamedTuple):
    """What every part of a machine shares."""

    env: simpy.Environment
    trace: Trace
    backend: Backend

    def now_ps(self) -> int:
        """The clock."""
        return int(self.env.now)


class Label(NamedTuple):
    """What an operation is called in the trace."""

    kind: str
    step: int
    layer: str = ""


class Price(NamedTuple):
    """What one operation costs on one part.

    ``work`` is (flop, bytes, launches, bits, conversions, writes), ``energy_j`` (nominal, low,
    high), ``repeats`` the number of equal operations in a row.
    """

    duration_ps: int
    busy_ps: int
    work: tuple[float, float, int, int, int, int]
    energy_j: tuple[float, float, float]
    repeats: int = 1
    note: str = ""


class Issuer:
    """A thread of control: its operations follow each other, so each has the one before as a
    parent.

    A resource may be held over several operations (``Server.acquire``). The wait for it is charged
    to the next
    operation: it counts as queued since the wait began, and as blocked by whoever held the
        resource.
    """

    __slots__ = ("last", "waiting_since_ps", "blocker")

    def __init__(self, last: int = -1) -> None:
        self.last = last
        self.waiting_since_ps = -1
        self.blocker = -1

    def fork(self) -> Issuer:
        """A thread that starts where this one stands."""
        return Issuer(self.last)

    def parents(self, args: Sequence[Ref]) -> tuple[int, ...]:
        """Producers of the arguments, and the last operation of this thread."""
        found = {span for arg in args for span in arg.spans}
        if self.last >= 0:
            found.add(self.last)
        return tuple(sorted(found))

    def waited_from(self, ready_ps: int, now_ps: int) -> None:
        """What the next operation needs was ready at ``ready_ps`` only: no wait for the resource
        before that.
        """
        if 0 <= self.waiting_since_ps < ready_ps:
            self.waiting_since_ps = ready_ps
        if self.waiting_since_ps == now_ps:
            self.waiting_since_ps = self.blocker = -1

    def take_wait(self, now_ps: int) -> tuple[int, int]:
        """(queued_ps, blocker) of the operation that is issued now."""
        if self.waiting_since_ps < 0:
            return now_ps, -1
        wait = (self.waiting_since_ps, self.blocker)
        self.waiting_since_ps = self.blocker = -1
        return wait


class Server:
    """One server with a first-in, first-out queue."""

    __slots__ = ("_env", "_queue", "busy", "freed_by")

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._queue: deque[simpy.Event] = deque()
        self.busy = False
        self.freed_by = -1

    def request(self) -> simpy.Event | None:
        """Take the server now (None), or get the event that fires when it is this caller's turn."""
        if not self.busy:
            self.busy = True
            return None
        turn = self._env.event()
        self._queue.append(turn)
        return turn

    def release(self, span: int) -> None:
        """Hand the server to the next in line; ``span`` is what it was busy with last."""
        self.freed_by = span
        if self._queue:
            self._queue.popleft().succeed()
        else:
            self.busy = False

    def acquire(self, issuer: Issuer) -> Generator[simpy.Event, None, None]:
        """Take the server for several operations; release it with the last of their spans."""
        since = self._env.now
        turn = self.request()
        if turn is not None:
            yield turn
            if self._env.now > since:
                issuer.waiting_since_ps, issuer.blocker = int(since), self.freed_by


class Lane:
    """A named server of a part; serving an operation records one span."""

    __slots__ = ("_context", "name", "part", "server")

    def __init__(self, context: Context, part: str, name: str) -> None:
        self._context, self.part, self.name = context, part, name
        self.server = Server(context.env)

    def serve(
        self,
        issuer: Issuer,
        label: Label,
        args: Sequence[Ref],
        start: Callable[[], tuple[Ref, Price]],
    ) -> Process:
        """Queue, start, compute and price (``start``), let the time pass, make the result
        visible.
        """
        env, trace, _ = self._context
        parents, span = issuer.parents(args), trace.new_id()
        queued, blocker = issuer.take_wait(int(env.now))
        turn = self.server.request()
        if turn is not None:
            asked = env.now
            yield turn
            if env.now > asked:
                blocker = self.server.freed_by
        result, price = start()
        record_start(
            trace,
            span,
            parents,
            blocker,
            (self.part, self.name),
            label,
            queued,
            int(env.now),
            price,
        )
        yield env.timeout(price.duration_ps)
        trace.finish(span)
        self.server.release(span)
        issuer.last = span
        return Ref(result.value, result.key, (span,), result.facts)


def record_start(
    trace: Trace,
    span: int,
    parents: tuple[int, ...],
    blocker: int,
    where: tuple[str, str],
    label: Label,
    queued_ps: int,
    start_ps: int,
    price: Price,
) -> None:
    """Begin a span whose price is known."""
    end_ps = start_ps + price.duration_ps
    trace.begin(
        (
            span,
            parents,
            blocker,
            *where,
            *label,
            price.repeats,
            queued_ps,
            start_ps,
            end_ps,
            price.busy_ps,
        )
        + price.work
        + price.energy_j
        + (price.note,)
    )
