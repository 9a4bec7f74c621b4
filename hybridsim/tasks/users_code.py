"""Errors of the user's own code: whatever it raises becomes one line with its file and line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hybridsim.errors import InputError, Problem

_LONGEST = 300


@contextlib.contextmanager
def users_code(file: str, path: str, expected: str) -> Iterator[None]:
    """Whatever the block raises, ``sys.exit`` included, is a mistake in the user's file.

    Raises:
        InputError: ``file:line: path: expected ..., got <the error>``. An InputError and an
            interrupt pass.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise InputError([problem_of(error, file, path, expected)]) from error


def problem_of(error: BaseException, file: str, path: str, expected: str) -> Problem:
    """One line for an error in the user's file, with the line of the file where it was raised."""
    return Problem(file, line_of(error, file), path, expected, text_of(error))


def line_of(error: BaseException, file: str) -> int | None:
    """The line of the file that an error came through, the innermost; None if through none."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def text_of(error: BaseException) -> str:
    """Type and text of an error on one line, whatever its text is."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the user's class may be unable to say what happened
        text = ""
    text = text if text.isprintable() else ascii(text)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
