"""A process that evaluates points for the one that started it."""

from __future__ import annotations

import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, NoReturn

from hybridsim.studies.collect.base import Died, Done, Event, Job
from hybridsim.studies.evaluate import Desk, perform

START = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "from hybridsim.studies.collect.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
"""Python code of such a process: paths, the connection's handle, and the parent's id follow it.

It runs no code of the user's own script, which multiprocessing would import again. Ctrl-C, which a
terminal sends to all processes, is the parent's business.
"""
_LOOK_S = 0.5


class Setup(NamedTuple):
    """What a worker is told first."""

    scratch: Path
    facts: Path | None
    data: str | None


def main(handle: int, parent: int) -> None:
    """Do jobs until the connection closes."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(handle)
    try:
        setup: Setup = connection.recv()
        import torch

        torch.set_num_threads(1)  # a run sets its own number
        desk = Desk(setup.scratch, setup.facts, setup.data)
        while True:
            _do(connection, connection.recv(), desk)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _do(connection: Connection, job: Job, desk: Desk) -> None:
    try:
        for found in perform(job, desk):
            connection.send(Event(job.name, found))
    except OSError:
        raise
    except Exception as error:
        connection.send(Event(job.name, Died(f"{type(error).__name__}: {error}")))
        return
    connection.send(Event(job.name, Done()))


def _end_with(parent: int) -> NoReturn:
    """A worker does not outlive who started it."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
