"""Commands in processes of their own that need not import anything: forked from a warm one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path

from faults import Fault

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["warmed", "warm"])


def start(log: Path, *words: object, fault: Fault | None = None) -> BaseProcess:
    """A command that has been started; what it prints goes to a file."""
    process = _CONTEXT.Process(target=_command, args=(log, [*map(str, words)], fault))
    process.start()
    return process


def ended(process: BaseProcess, log: Path) -> tuple[int, str]:
    """Exit code (negative: by which signal), and what was printed."""
    process.join(300)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, log.read_text()


def _command(log: Path, words: list[str], fault: Fault | None) -> None:
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a shell's background job ignores some
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.argv = ["hybridsim", *words]
    with nullcontext() if fault is None else fault.armed():
        _main()


def _main() -> None:
    from hybridsim.__main__ import main

    main()
