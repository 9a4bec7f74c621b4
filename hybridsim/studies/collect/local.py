"""Points are evaluated by worker processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from hybridsim.studies.collect.base import Died, Done, Event, Job
from hybridsim.studies.collect.worker import START, Setup

_ENDING_S = 5.0
"""How long a process that has closed its connection may take to end."""


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
        self._started = 0
        self._workers = [self._start() for _ in range(number)]

    @property
    def size(self) -> int:
        """Jobs at once: one for each worker."""
        return len(self._workers)

    @property
    def processes(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

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
        """End all workers."""
        for worker in self._workers:
            worker.kill()
        self._scratch.cleanup()

    def _start(self) -> _Worker:
        self._started += 1
        scratch = Path(self._scratch.name) / str(self._started)
        scratch.mkdir()
        worker = _Worker()
        worker.send(Setup(scratch, self._facts, self._data))
        return worker

    def _replace(self, worker: _Worker) -> Event:
        """Another worker in the place of one that is gone."""
        reason = worker.how_it_ended()
        worker.kill()
        assert worker.job is not None, "only those at work are listened to"
        self._workers[self._workers.index(worker)] = self._start()
        return Event(worker.job, Died(reason))


class _Worker:
    """One process and the connection to it."""

    def __init__(self) -> None:
        self.job: str | None = None
        self.connection, theirs = Pipe()
        command = [sys.executable, "-c", START, json.dumps([str(path) for path in sys.path])]
        command += [str(theirs.fileno()), str(os.getpid())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def send(self, what: Setup | Job) -> None:
        """Hand something over; that it has died is seen when it is listened to."""
        with contextlib.suppress(OSError):
            self.connection.send(what)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def how_it_ended(self) -> str:
        """What became of a process that has closed its connection."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(_ENDING_S)
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            return f"worker died ({how})"
        return "worker died"
