"""A process that evaluates points for the one that started it."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from hybridsim.studies.collect.base import Died, Done, Event, Found, Job
from hybridsim.studies.evaluate import Desk, perform

_LOOK_S = 0.5


class Setup(NamedTuple):
    """What a worker is told first."""

    scratch: Path
    facts: Path | None
    data: str | None


def main(handle: int, parent: int) -> NoReturn:
    """Do jobs until the connection closes, or the parent is gone."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(handle)
    code = 1
    try:
        setup: Setup = connection.recv()
        torch.set_num_threads(1)  # a run sets its own number
        desk = Desk(setup.scratch, setup.facts, setup.data)
        while True:
            _do(connection, connection.recv(), desk)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _do(connection: Connection, job: Job, desk: Desk) -> None:
    """A job from its beginning to its end, each result as it is found."""
    results = perform(job, desk)
    while True:
        what = _next(results)
        connection.send(Event(job.name, what))
        if isinstance(what, Done | Died):
            return


def _next(results: Iterator[Found]) -> Found | Done | Died:
    try:
        return next(results, Done())
    except Exception as error:
        return Died(f"{type(error).__name__}: {error}")


def _end_with(parent: int) -> NoReturn:
    """A worker does not outlive who started it."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
