"""The sets of programmable resistors of an SPU: who may write, and what still stands in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from types import TracebackType

import simpy

from hybridsim.hardware.lane import Issuer
from hybridsim.hardware.order import watch_of
from hybridsim.operations.ref import Ref


class ResistorSet:
    """One set of programmable resistors: what it was last written with, and since when it is
    unused.
    """

    __slots__ = ("key", "system", "taken", "freed_by", "last_use")

    def __init__(self) -> None:
        self.key = b""
        self.system: Ref | None = None
        self.taken, self.freed_by, self.last_use = False, -1, 0


class HeldSet:
    """A set that is in use: ``with (yield from sets.hold(issuer, key)) as given: ...``."""

    __slots__ = ("_sets", "_given", "_issuer")

    def __init__(self, sets: ResistorSets, given: ResistorSet, issuer: Issuer) -> None:
        self._sets, self._given, self._issuer = sets, given, issuer

    def __enter__(self) -> ResistorSet:
        """The set."""
        return self._given

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Give it back, unless the simulation stops here."""
        if kind is None:
            self._sets.release(self._given, self._issuer.last)


class ResistorSets:
    """The sets of a device: one, or two where it is double-buffered. Whoever asks first is served
    first.

    A set keeps what was written until it is written again, so that a factor that is still there is
    not sent twice.
    """

    def __init__(self, env: simpy.Environment, count: int) -> None:
        self._env, self._watch = env, watch_of(env)
        self._sets = [ResistorSet() for _ in range(count)]
        self._queue: deque[tuple[bytes, simpy.Event]] = deque()
        self._uses = 0

    def hold(self, issuer: Issuer, key: bytes) -> Generator[simpy.Event, ResistorSet, HeldSet]:
        """A set for the system ``key``: the one that holds it already, else the longest unused."""
        if self._watch is not None:
            self._watch.turned(self)
        free = self._free(key)
        if free is not None:
            return HeldSet(self, self._take(free), issuer)
        since, turn = int(self._env.now), self._env.event()
        self._queue.append((key, turn))
        taken = yield turn
        if self._env.now > since:
            issuer.waiting_since_ps, issuer.blocker = since, taken.freed_by
        return HeldSet(self, taken, issuer)

    def release(self, given: ResistorSet, span: int) -> None:
        """Give a set back; ``span`` is what it was used for last."""
        if self._watch is not None:
            self._watch.turned(self)
        given.taken, given.freed_by = False, span
        if self._queue:
            key, turn = self._queue.popleft()
            free = self._free(key)
            assert free is not None, "one was freed just now"
            turn.succeed(self._take(free))

    def _free(self, key: bytes) -> ResistorSet | None:
        free = [s for s in self._sets if not s.taken]
        return min(free, key=lambda s: (s.key != key, s.last_use), default=None)

    def _take(self, free: ResistorSet) -> ResistorSet:
        self._uses += 1
        free.taken, free.last_use = True, self._uses
        return free
