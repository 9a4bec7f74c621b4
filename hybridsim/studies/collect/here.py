"""Points are evaluated in this process."""

from __future__ import annotations

from collections.abc import Iterator

from hybridsim.studies.collect.base import Done, Event, Found, Job
from hybridsim.studies.evaluate import Desk, perform


class Here:
    """One job at a time, one point at a time.

    Args:
        desk: where this process evaluates.
    """

    size = 1

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._job: tuple[str, Iterator[Found]] | None = None

    def submit(self, job: Job) -> None:
        """Begin a job."""
        assert self._job is None, "one at a time"
        self._job = (job.name, perform(job, self._desk))

    def events(self, timeout_s: float) -> Iterator[Event]:
        """The next point."""
        if self._job is None:
            return
        name, results = self._job
        what = next(results, Done())
        if isinstance(what, Done):
            self._job = None
        yield Event(name, what)

    def close(self) -> None:
        """Leave what is not done."""
        self._job = None
