"""Points are evaluated by the workers of a cluster that somebody runs (``dask.distributed``).

Workers need no file of the study: what they find travels back, and the collector writes it. Their
facts stay in a temporary folder of their own, so that jobs that share numerics with an earlier one
are offered to the worker that did it first.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridsim.errors import InputError
from hybridsim.operations.keys import own_code
from hybridsim.studies.collect.base import Died, Done, Event, Found, Job
from hybridsim.studies.evaluate import Desk, Evaluated, Keys, perform

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_S = 20
_AHEAD = 2
"""Jobs for each worker: one that it does, one that it finds when it has done that."""


class Cluster:
    """Tasks of a cluster, one for each job.

    Args:
        client: a client of ``dask.distributed``, or the address of a scheduler.
        data: folder of external data sets, as the workers see it.

    Raises:
        InputError: ``distributed`` is not installed, or nobody answers.
    """

    def __init__(self, client: Client | str, data: str | None) -> None:
        self._own = isinstance(client, str)
        self._client = _connected(client) if isinstance(client, str) else client
        self._data = data
        self._heard: queue.Queue[tuple[str, Future[Any]]] = queue.Queue()
        self._futures: dict[str, Future[Any]] = {}
        self._facts_at: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Jobs at once."""
        return _AHEAD * max(1, len(self._client.nthreads()))

    def submit(self, job: Job) -> None:
        """Begin a job."""
        code = own_code().hex()
        numerics = "" if isinstance(job, Keys) else job.numerics
        knows = [self._facts_at[numerics]] if numerics in self._facts_at else None
        future = self._client.submit(
            on_worker,
            job,
            code,
            self._data,
            pure=False,
            workers=knows,
            allow_other_workers=knows is not None,
        )
        self._futures[job.name] = future
        future.add_done_callback(lambda done: self._heard.put((job.name, done)))

    def events(self, timeout_s: float) -> Iterator[Event]:
        """The results of tasks that have ended.

        Raises:
            InputError: a worker runs another version of this package.
        """
        try:
            name, future = self._heard.get(timeout=timeout_s)
        except queue.Empty:
            return
        if self._futures.get(name) is not future:
            return
        del self._futures[name]
        try:
            address, found = future.result()
        except InputError:
            raise
        except Exception as error:  # e.g. KilledWorker: several workers did not survive it
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Event(name, Died(f"worker died ({text:.200})"))
            return
        for one in found:
            if isinstance(one, Evaluated) and one.last_key:
                self._facts_at[one.last_key] = address
            yield Event(name, one)
        yield Event(name, Done())

    def close(self) -> None:
        """Cancel what is not done; a client that was given stays open."""
        self._client.cancel(list(self._futures.values()))
        self._futures.clear()
        if self._own:
            self._client.close()


def _connected(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--scheduler: expected the package 'distributed' (pip install hybridsim[cluster]), got "
            "none"
        ) from error
    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError, ImportError) as error:
        got = f"{address!r}: {error}"
        raise InputError(f"--scheduler: expected a scheduler's address, got {got}") from error
    return client


_desks: dict[str | None, tuple[Desk, Any]] = {}  # Any: the folder, which lives as long
_alone = threading.Lock()


def on_worker(job: Job, code: str, data: str | None) -> tuple[str, list[Found]]:
    """What a worker of the cluster does: the whole job; says where it was done.

    A process does one at a time, however many threads it has: torch's number of threads, and the
    code of workloads, are the process's.

    Raises:
        InputError: this process runs another version of hybridsim.
    """
    from distributed import get_worker

    if own_code().hex() != code:
        raise InputError(
            "the cluster's worker: expected the same sources of hybridsim as here, got others"
        )
    with _alone:
        if data not in _desks:
            scratch = tempfile.TemporaryDirectory(prefix="hybridsim-study-")
            _desks[data] = (Desk(Path(scratch.name), None, data), scratch)
        return str(get_worker().address), list(perform(job, _desks[data][0]))
