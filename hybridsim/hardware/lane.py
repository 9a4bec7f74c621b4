"""FIFO servers that remember who freed them, and the spans that are recorded while they serve."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import simpy

from hybridsim.hardware.order import watch_of
from hybridsim.hardware.price import Quote
from hybridsim.operations.ref import Ref, Token
from hybridsim.trace.spans import Role, SpanRow, Trace

if TYPE_CHECKING:  # it brings torch, and prices need none
    from hybridsim.operations.backend import Backend

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
    """What an operation is called in the trace; ``factor``: the Kronecker factor that it is for."""

    kind: str
    step: int
    layer: str = ""
    factor: str = ""

    @property
    def operation(self) -> str:
        """Kind and factor, as people read them."""
        return f"{self.kind} {self.factor}" if self.factor else self.kind


class Issuer:
    """A thread of control: each of its operations has the one before as a parent.

    A resource may be held over several operations (``Server.hold``). The wait for it is charged to
    the next operation: it counts as queued since the wait began, and as blocked by whoever held the
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

    def parents(self, args: Sequence[Ref | Token]) -> tuple[int, ...]:
        """Producers of the arguments, and the last operation of this thread."""
        found = {self.last} if self.last >= 0 else set()
        return tuple(sorted(found.union(*[arg.spans for arg in args])))

    def waited_from(self, ready_ps: int, now_ps: int) -> None:
        """What the next operation needs was ready at ``ready_ps``: no wait before that."""
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


class Hold:
    """A held server: ``with (yield from server.hold(issuer)): ...`` gives it back at the end.

    Whoever waits for it was held up by the issuer's last span.
    """

    __slots__ = ("_server", "_issuer")

    def __init__(self, server: Server, issuer: Issuer) -> None:
        self._server, self._issuer = server, issuer

    def __enter__(self) -> Hold:
        """Nothing more to do: it was taken before."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Hand the server to the next in line, unless the simulation stops here."""
        if kind is None:
            self._server.release(self._issuer.last)


class Server:
    """One server with a first-in, first-out queue."""

    __slots__ = ("_env", "_queue", "_watch", "busy", "freed_by")

    def __init__(self, env: simpy.Environment) -> None:
        self._env, self._watch = env, watch_of(env)
        self._queue: deque[simpy.Event] = deque()
        self.busy = False
        self.freed_by = -1

    def request(self) -> simpy.Event | None:
        """Take the server now (None), or get the event that fires when it is this caller's turn."""
        if self._watch is not None:
            self._watch.asked(self, self.busy)
        if not self.busy:
            self.busy = True
            return None
        turn = self._env.event()
        self._queue.append(turn)
        return turn

    def release(self, span: int) -> None:
        """Hand the server to the next in line; ``span`` is what it was busy with last."""
        if self._watch is not None:
            self._watch.freed(self)
        self.freed_by = span
        if self._queue:
            self._queue.popleft().succeed()
        else:
            self.busy = False

    def hold(self, issuer: Issuer) -> Generator[simpy.Event, None, Hold]:
        """Take the server for several operations of a thread."""
        since = self._env.now
        turn = self.request()
        if turn is not None:
            yield turn
            if self._env.now > since:
                issuer.waiting_since_ps, issuer.blocker = int(since), self.freed_by
        return Hold(self, issuer)


class Lane:
    """A named server of a part; serving an operation records one span."""

    __slots__ = ("_context", "place", "server")

    def __init__(self, context: Context, part: str, name: str) -> None:
        self._context, self.place = context, Place(part, name, "server")
        self.server = Server(context.env)

    def serve(
        self,
        issuer: Issuer,
        label: Label,
        args: Sequence[Ref],
        start: Callable[[], tuple[Ref, Quote]],
    ) -> Process:
        """Queue, compute and price (``start``), let the time pass, make the result visible."""
        env, trace, _ = self._context
        parents, span = issuer.parents(args), trace.new_id()
        queued, blocker = issuer.take_wait(int(env.now))
        turn = self.server.request()
        if turn is not None:
            asked = env.now
            yield turn
            if env.now > asked:
                blocker = self.server.freed_by
        result, quote = start()
        cause = Cause(span, parents, blocker, queued)
        record_start(trace, cause, self.place, label, int(env.now), quote)
        yield env.timeout(quote.duration_ps)
        trace.finish(span)
        self.server.release(span)
        issuer.last = span
        return result.at(span)


class Place(NamedTuple):
    """Where a span is drawn."""

    part: str
    lane: str
    role: Role


class Cause(NamedTuple):
    """A span before it starts: its number, what it follows, what held it up, since when."""

    span: int
    parents: tuple[int, ...]
    blocker: int
    queued_ps: int


def record_start(
    trace: Trace,
    cause: Cause,
    where: Place,
    label: Label,
    start_ps: int,
    quote: Quote,
) -> None:
    """Begin a span whose price is known."""
    end_ps = start_ps + quote.duration_ps
    times = (quote.repeats, cause.queued_ps, start_ps, end_ps)
    row = (*cause[:3], *where, quote.category, *label, *times, *quote.row, quote.note)
    trace.begin(SpanRow._make(row))


def pass_time(
    context: Context,
    issuer: Issuer,
    label: Label,
    args: Sequence[Ref | Token],
    where: Place,
    quote: Quote,
) -> Generator[simpy.Event, None, int]:
    """A span that holds nothing: propagation, or a pause. Returns its number."""
    env, trace, _ = context
    span, start = trace.new_id(), int(env.now)
    record_start(trace, Cause(span, issuer.parents(args), -1, start), where, label, start, quote)
    yield env.timeout(quote.duration_ps)
    trace.finish(span)
    issuer.last = span
    return span
