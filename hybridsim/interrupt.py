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


class Hold:
    """What waits inside a block. Where it is ``open``, the first signal does what it did before the
    block, and those after it wait again.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._before: dict[signal.Signals, Any] = _set(self._handle)  # Any: as signal's
        self._open = False

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """This part takes long, and can be left at any instant; the first is now, for one that
        waits.
        """
        try:
            self._open = True
            if self.asked:
                signal.raise_signal(self.asked.pop())
            yield
        finally:
            self._open = False

    def release(self) -> None:
        """Signals do again what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self.asked.append(number)
            return
        self._open = False
        usual = self._before[signal.Signals(number)]
        if callable(usual):
            usual(number, frame)
        else:  # the system's: the process ends
            signal.signal(number, usual)
            signal.raise_signal(number)
        self._open = True


@contextlib.contextmanager
def held_back_when_interrupted() -> Iterator[Hold]:
    """Inside the block, which ends soon by itself, a signal waits: none of it is left half done."""
    hold = Hold()
    try:
        yield hold
    except KeyboardInterrupt:  # raised where it was open; those after it asked for the same
        hold.asked.clear()
        raise
    finally:
        hold.release()
        if hold.asked:
            signal.raise_signal(hold.asked[0])


def _set(handler: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, Any]:
    """Handle the signals; one that is ignored (a job in the background) stays so. Any: as
    signal's.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    found = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in found:
        signal.signal(number, handler)
    return found


def _end(number: int, frame: FrameType | None) -> None:
    for clean_up in before_end:
        clean_up()
    with contextlib.suppress(OSError):
        os.write(2, b"hybridsim: interrupted\n")
    os._exit(EXIT_CODE)
