"""What every place where points are evaluated answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hybridsim.studies.drawing import Drawn, Draws
from hybridsim.studies.evaluate import Backend, Evaluated, Group, Keyed, Keys

Job = Group | Keys | Draws
Found = Evaluated | Keyed | Drawn
"""What a job finds, one after the other."""


class Done(NamedTuple):
    """A job has ended."""


class Died(NamedTuple):
    """Whoever did a job has died, or could not do it; what it had found is reported already."""

    reason: str


class Event(NamedTuple):
    """What was heard of a job."""

    job: str
    what: Found | Done | Died


class Pool(Protocol):
    """Where jobs are done."""

    @property
    def size(self) -> int:
        """How many jobs it works on at once."""

    def submit(self, job: Job) -> None:
        """Begin a job; at most ``size`` of them at once."""

    def events(self, timeout_s: float) -> Iterator[Event]:
        """What has happened, waiting for at most so long until something does."""

    def close(self) -> None:
        """Stop whatever is going on."""


class Progress(NamedTuple):
    """How far a study is.

    Attributes:
        what: what is going on.
        done: points that have an outcome.
        points: of so many that were asked for so far.
        failed: of them without a result.
    """

    what: str
    done: int
    points: int
    failed: int


class Settings(NamedTuple):
    """What all points of a study share.

    Attributes:
        backend: ``live``, or ``timing``: nothing is trained.
        gate: median relative error above which an analog answer is no solution.
    """

    backend: Backend
    gate: float
