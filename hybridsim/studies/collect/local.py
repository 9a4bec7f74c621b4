"""Points are evaluated by worker processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hybridsim.errors import HybridsimError
from hybridsim.studies.collect.base import Died, Done, Event, Job
from hybridsim.studies.collect.template import Template
from hybridsim.studies.collect.worker import Setup

_TRIES = 2


class WorkersFailed(HybridsimError):
    """No worker process can be started."""


@dataclass
class _Worker:
    """A process, the connection to it, and its job."""

    pid: int
    connection: Connection
    job: str | None = None

    def send(self, what: Setup | Job) -> None:
        """Hand something over; that it has died is seen when it is listened to."""
        with contextlib.suppress(OSError):
            self.connection.send(what)


class LocalWorkers:
    """Worker processes; one that dies loses its job and is replaced.

    Args:
        number: of processes.
        facts: where fact stores are published.
        data: folder of external data sets.
    """

    def __init__(self, number: int, facts: Path | None, data: str | None) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="hybridsim-study-")
        self._facts, self._data = facts, data
        self._template, self._started = Template(), 0
        self._workers = [self._start() for _ in range(number)]

    @property
    def size(self) -> int:
        """Jobs at once: one for each worker."""
        return len(self._workers)

    @property
    def processes(self) -> list[int]:
        """The workers' process ids."""
        return [worker.pid for worker in self._workers]

    def submit(self, job: Job) -> None:
        """Give a job to a worker that has none."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job.name
        worker.send(job)

    def events(self, timeout_s: float) -> Iterator[Event]:
        """What workers have sent, and who has died."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        for connection in wait(list(busy), timeout_s):
            assert isinstance(connection, Connection)
            worker = busy[connection]
            try:
                event: Event = connection.recv()
            except (EOFError, OSError):
                yield self._replace(worker)
                continue
            if isinstance(event.what, Done | Died):
                worker.job = None
            yield event

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            self._end(worker)
        self._template.close()
        self._scratch.cleanup()

    def _start(self) -> _Worker:
        self._started += 1
        scratch = Path(self._scratch.name) / str(self._started)
        scratch.mkdir()
        worker = _Worker(*self._forked())
        worker.send(Setup(scratch, self._facts, self._data))
        return worker

    def _forked(self) -> tuple[int, Connection]:
        """A new process; its template may have been killed, like any other."""
        for _ in range(_TRIES):
            with contextlib.suppress(EOFError, OSError):
                return self._template.fork()
            self._template.close()
            self._template = Template()
        raise WorkersFailed("worker processes cannot be started here")

    def _replace(self, worker: _Worker) -> Event:
        """Another worker in the place of one that is gone."""
        reason = self._end(worker)
        assert worker.job is not None, "only those at work are listened to"
        self._workers[self._workers.index(worker)] = self._start()
        return Event(worker.job, Died(reason))

    def _end(self, worker: _Worker) -> str:
        """Kill a worker unless it has ended; says how it did."""
        worker.connection.close()
        with contextlib.suppress(OSError):
            os.kill(worker.pid, signal.SIGKILL)
        return self._template.how_it_ended(worker.pid)
