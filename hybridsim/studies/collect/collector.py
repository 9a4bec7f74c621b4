"""Getting outcomes: what the folder has is read, what nobody works on is claimed and evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from hybridsim.errors import HybridsimError
from hybridsim.studies.asked import Asked
from hybridsim.studies.claims import Claims
from hybridsim.studies.collect.base import Died, Done, Event, Pool, Progress, Settings
from hybridsim.studies.drawing import Drawn, Draws
from hybridsim.studies.evaluate import Evaluated, Group, Keyed, Keys
from hybridsim.studies.folder import Folder
from hybridsim.studies.groups import Numerics, distinct
from hybridsim.studies.outcome import Outcome, without_result
from hybridsim.studies.points import Point
from hybridsim.studies.records import Record

MOST_TRIES = 3
"""A job that its worker does not survive is given to so many."""
_WAIT_S = 0.5
"""Between looks at what other launches have done."""


class DrawsFailed(HybridsimError):
    """What becomes of draws cannot be found."""


class Collector:
    """Outcomes of points, from a folder that several launches may share.

    Args:
        folder: the study's.
        pool: where points are evaluated.
        settings: what all points share.
        progress: told how far it is.
        current: whether a stored outcome is still that of its point.
    """

    def __init__(
        self,
        folder: Folder,
        pool: Pool,
        settings: Settings,
        progress: Callable[[Progress], None] | None = None,
        current: Callable[[Asked, Record], bool] = lambda point, record: True,
    ) -> None:
        self.folder, self.settings = folder, settings
        self.notes: list[str] = []
        self.known: dict[str, Record] = {}
        self.asked: dict[str, Asked] = {}
        self._pool, self._progress, self._current = pool, progress, current
        self._numerics, self._claims = Numerics(), Claims()
        self._stale: dict[str, str] = {}
        self._groups: dict[str, Group] = {}
        self._tries: dict[str, int] = {}

    def outcomes(
        self, points: Iterable[Point], wanted: Callable[[Group], bool] = lambda group: True
    ) -> dict[str, Outcome]:
        """The outcome of each point by id; what is not known yet is evaluated, or waited for where
        another launch is at it; of groups that are not wanted what is known.

        Raises:
            InputError, DiskFailed: the folder cannot be read or written.
            KeyboardInterrupt: what was found is in the folder.
        """
        asked = distinct(points)
        for point in asked:
            self._look(point)
        waiting = {group.name: group for group in self._missing(asked) if wanted(group)}
        while waiting:
            self._begin(waiting)
            if waiting:
                for event in self._heard(bool(self._groups)):
                    self._take(event, waiting)
        return {p.id: self.known[p.id].found.outcome for p in asked if p.id in self.known}

    def perform(self, jobs: Sequence[Draws]) -> dict[str, Drawn]:
        """What becomes of draws, by the name of their job; known ones are read.

        Raises:
            DrawsFailed: a job cannot be done, or no worker survives it.
            InputError, DiskFailed: the folder cannot be written.
        """
        left = {job.name: job for job in jobs}
        found: dict[str, Drawn] = {}
        working: set[str] = set()
        while left:
            self._begin_draws(left, working, found)
            if left:
                for event in self._heard(bool(working)):
                    self._take_drawn(event, left, working, found)
        return found

    def _begin_draws(
        self, left: dict[str, Draws], working: set[str], found: dict[str, Drawn]
    ) -> None:
        """Claim and submit what there is room for; what others have done meanwhile is read."""
        for name, job in tuple(left.items()):
            if len(working) >= self._pool.size:
                return
            if name in working:
                continue
            known = self.folder.drawn(job)
            if known is None and self._claims.take(self.folder.claim_on_draws(name)):
                known = self.folder.drawn(job)  # its last owner may have finished meanwhile
                if known is None:
                    working.add(name)
                    self._pool.submit(job)
                    continue
                self._claims.release(self.folder.claim_on_draws(name))
            if known is not None:
                found[name] = known
                del left[name]

    def _take_drawn(
        self, event: Event, left: dict[str, Draws], working: set[str], found: dict[str, Drawn]
    ) -> None:
        if isinstance(event.what, Drawn):
            self.folder.keep_drawn(event.what)
            found[event.job] = event.what
            return
        working.discard(event.job)
        self._claims.release(self.folder.claim_on_draws(event.job))
        if isinstance(event.what, Died):
            self._tries[event.job] = self._tries.get(event.job, 0) + 1
            if self._tries[event.job] >= MOST_TRIES:
                raise DrawsFailed(f"draws of constants: {event.what.reason}")
        else:
            del left[event.job]
            self._tell(f"drawing constants, {len(left)} parts left")

    def plan(self, points: Iterable[Point]) -> list[Group]:
        """What would be evaluated: groups of points that share numerics, without the points that
        are known.
        """
        asked = distinct(points)
        for point in asked:
            self._look(point)
        return self._missing(asked)

    @property
    def at_once(self) -> int:
        """How many groups are evaluated at once."""
        return self._pool.size

    def close(self) -> None:
        """Stop whatever is going on and give back what was claimed."""
        self._pool.close()
        self._claims.close()

    def _look(self, point: Asked) -> bool:
        """Whether a point's outcome is known; one that may come out otherwise is tried again once
        by every launch.
        """
        first = point.id not in self.asked
        self.asked[point.id] = point
        if point.id in self.known:
            return True
        record = self.folder.record(point.id, self.settings.gate)
        if record is None:
            if first and self.folder.damaged(point.id):
                self.notes.append(f"point {point.id}: its outcome was damaged; evaluated again")
            return False
        if first and not (record.found.final and self._current(point, record)):
            self._stale[point.id] = record.sha256
        if self._stale.get(point.id) == record.sha256:
            return False
        self._know(record)
        return True

    def _know(self, record: Record) -> None:
        found = record.found
        self.known[found.point] = record
        if found.last_key:
            self._numerics.keys.setdefault(record.signature, found.last_key)
            if found.facts:
                self._numerics.facts[found.last_key] = found.facts

    def _missing(self, asked: Sequence[Asked]) -> list[Group]:
        if all(point.id in self.known for point in asked):
            return []
        backend, gate = self.settings.backend, self.settings.gate
        if backend == "live":
            self._find_keys(self._numerics.unknown(asked))

        def wanted(point: Asked) -> bool:
            return point.id not in self.known

        return self._numerics.groups(asked, backend, gate, wanted)

    def _find_keys(self, points: Sequence[Asked]) -> None:
        """The last keys of points, each a job of its own; one that cannot be told is empty."""
        keys, todo = self._numerics.keys, []
        for point in points:
            keys[self._numerics.signature(point)] = found = self.folder.last_key(point.id)
            todo += [] if found else [point]
        working, done = 0, 0
        while done < len(todo):
            while working < min(self._pool.size, len(todo) - done):
                point = todo[done + working]
                self._pool.submit(Keys(f"key {point.id}", (point,)))
                working += 1
            for event in self._pool.events(_WAIT_S):
                if isinstance(event.what, Keyed):
                    point = self.asked[event.what.point]
                    keys[self._numerics.signature(point)] = event.what.last_key
                    self.folder.keep_key(point.id, event.what.last_key)
                elif isinstance(event.what, Done | Died):
                    working, done = working - 1, done + 1
                    self._tell(f"looking for shared numerics, {done} of {len(todo)}")

    def _begin(self, waiting: dict[str, Group]) -> None:
        """Claim and submit what there is room for; what others have done meanwhile is read."""
        for name, group in tuple(waiting.items()):
            if len(self._groups) >= self._pool.size:
                return
            if name in self._groups:
                continue
            left = self._left(group)
            if left and self._claims.take(self.folder.claim(name)):
                left = self._left(group)  # its last owner may have finished before it let go
                if left:
                    self._groups[name] = group._replace(points=left)
                    self._pool.submit(self._groups[name])
                    continue
                self._claims.release(self.folder.claim(name))
            if not left:
                del waiting[name]
                self._tell("")

    def _left(self, group: Group) -> tuple[Asked, ...]:
        return tuple(point for point in group.points if not self._look(point))

    def _heard(self, working: bool) -> Iterator[Event]:
        """What has happened at the places of work; where nothing is done, others are waited for."""
        if working:
            yield from self._pool.events(_WAIT_S)
        else:
            time.sleep(_WAIT_S)

    def _take(self, event: Event, waiting: dict[str, Group]) -> None:
        group = self._groups[event.job]
        if isinstance(event.what, Evaluated):
            self._keep(event.what)
            self._tries.pop(event.job, None)
        elif isinstance(event.what, Died):
            self._tries[event.job] = tries = self._tries.get(event.job, 0) + 1
            if tries == MOST_TRIES:
                self._give_up(group, event.what.reason)
            self._end(event.job)
        elif isinstance(event.what, Done):
            self._end(event.job)
            waiting.pop(event.job, None)

    def _end(self, name: str) -> None:
        del self._groups[name]
        self._claims.release(self.folder.claim(name))

    def _give_up(self, group: Group, reason: str) -> None:
        """The first point without an outcome is what its workers did not survive; the others are
        tried without it.
        """
        left = self._left(group)
        if left:
            outcome = without_result("failed", f"{reason}, {MOST_TRIES} times")
            self._keep(Evaluated(left[0].id, outcome, group.backend, final=False))

    def _keep(self, found: Evaluated) -> None:
        point = self.asked[found.point]
        self._know(self.folder.keep(found, point, self._numerics.signature(point)))
        self._tell("")

    def _tell(self, what: str) -> None:
        if self._progress is not None:
            failed = sum(r.found.outcome.status != "ok" for r in self.known.values())
            done = sum(point in self.known for point in self.asked)
            self._progress(Progress(what, done, len(self.asked), failed))
