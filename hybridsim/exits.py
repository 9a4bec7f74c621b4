"""How the command line ends: one message on standard error and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from typing import NoReturn

from hybridsim.errors import HybridsimError
from hybridsim.interrupt import EXIT_CODE

_PIPE_CODE = 128 + signal.SIGPIPE


def check_streams() -> None:
    """Every text can be printed, and a command whose output nobody can get does not begin."""
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    if sys.stdout is None:
        stop("standard output: expected an open file, got a closed one", 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def message_and_code(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code.

    One that nobody foresaw is a bug; ``python -X dev -m hybridsim`` shows where it was raised.
    """
    if isinstance(error, HybridsimError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_CODE
    if hasattr(error, "format_message"):  # typer's: a wrong word
        return error.format_message(), 2
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # typer's answer to a broken pipe
    if isinstance(error, BrokenPipeError):  # whoever reads the output has read enough
        return "", _PIPE_CODE
    if isinstance(error, OSError):
        return f"{error.filename or 'standard output'}: {error.strerror or error}", 1
    if isinstance(error, MemoryError):
        return "out of memory", 1
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "torch: expected to be installed for what computes, got none", 1
    if sys.flags.dev_mode:
        raise error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    found = " ".join(f"{type(error).__name__}: {error}".split())
    shown = f"{frame.filename}:{frame.lineno}; python -X dev -m hybridsim shows the way there"
    return f"an error that nobody foresaw, please report it: {found} ({shown})", 1


def stop(message: str, code: int) -> NoReturn:
    """End with a message; what standard output holds is dropped where it takes no more."""
    if message:
        with contextlib.suppress(OSError):
            print(f"hybridsim: {message}" if "\n" not in message else message, file=sys.stderr)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
