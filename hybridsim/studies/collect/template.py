"""A process that has imported everything, from which workers are forked.

It runs no code of the user's own script, which multiprocessing would import again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle

_START = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import json, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "from hybridsim.studies.collect.template import serve; serve(int(sys.argv[2]))"
)
"""Ctrl-C, which a terminal sends to all processes, is the business of the one that has the pool."""


class Template:
    """The process, as its owner sees it."""

    def __init__(self) -> None:
        self._control, theirs = Pipe()
        paths = json.dumps([str(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, paths, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def fork(self) -> tuple[int, Connection]:
        """A new worker: its process id, and the connection to it.

        Raises:
            EOFError, OSError: the template is gone.
        """
        ours, theirs = Pipe()
        with theirs:
            self._control.send(None)
            send_handle(self._control, theirs.fileno(), self._process.pid)
            return self._control.recv(), ours

    def how_it_ended(self, worker: int) -> str:
        """What became of a worker that has closed its connection, or was killed."""
        try:
            self._control.send(worker)
            code = os.waitstatus_to_exitcode(self._control.recv())
        except (EOFError, OSError):
            return "worker died"
        return f"worker died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.kill()
        self._process.wait()


def serve(handle: int) -> None:
    """Fork workers, and tell how they ended, until the owner is gone."""
    from hybridsim.studies.collect import worker

    control = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked = control.recv()
            if asked is not None:
                control.send(os.waitpid(asked, 0)[1])
                continue
            theirs, parent = recv_handle(control), os.getpid()
            pid = os.fork()
            if pid == 0:
                control.close()
                worker.main(theirs, parent)
            os.close(theirs)
            control.send(pid)
