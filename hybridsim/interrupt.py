"""Ctrl-C, a scheduler's SIGTERM, a terminal's SIGHUP: one line and exit code 130, whatever goes on.

During a simulation they raise KeyboardInterrupt, and what was found is kept. Anywhere else there is
nothing to keep, and the process ends there: an exception would not do, since imports and
destructors swallow it, or print it and go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

EXIT_CODE = 130
before_end: list[Callable[[], None]] = []
"""What is done first when a signal ends the process. (This module imports nothing slow.)"""
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def end_when_interrupted() -> None:
    """From now on a signal ends this process; for the entry point alone."""
    _set(_end)


@contextlib.contextmanager
def raised_when_interrupted() -> Iterator[None]:
    """Inside the block a signal raises KeyboardInterrupt."""
    before = _set(signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back_when_interrupted() -> Iterator[None]:
    """Inside the block, which ends soon by itself, a signal waits: none of it is left half done."""
    asked: list[int] = []
    before = _set(lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        signal.raise_signal(asked[0])


def _set(handler: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, Any]:
    """Handle the signals; one that is ignored (a job in the background) stays so. Any: as
    signal's.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    found = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in found:
        signal.signal(number, handler)
    return found


def _end(number: int, frame: FrameType | None) -> None:
    for clean_up in before_end:
        clean_up()
    with contextlib.suppress(OSError):
        os.write(2, b"hybridsim: interrupted\n")
    os._exit(EXIT_CODE)
