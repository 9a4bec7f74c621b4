"""Something happens at the n-th operation on files of a place: a signal, or the disk fails."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

_ON_PATHS = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir")


@dataclass
class Fault:
    """What happens, and when.

    Args:
        below: the folder whose files count, and those of folders below it.
        number: at which operation; 0: never.
        what: the name of a signal, or of an error number.
        late: a signal comes after the operation, not before it.
        lasting: an error stays.
        count: a file that is told what operations there were.
        seen: how many.
    """

    below: Path
    number: int = 0
    what: str = "ENOSPC"
    late: bool = False
    lasting: bool = False
    count: Path | None = None
    seen: int = 0

    @contextmanager
    def armed(self) -> Iterator[Fault]:
        """In this process, inside the block."""
        with ExitStack() as stack:

            def patch(place: Any, name: str, found: Any) -> None:
                stack.enter_context(mock.patch.object(place, name, found))

            for name in _ON_PATHS:
                patch(os, name, self._on_path(name, getattr(os, name)))
            patch(os, "fsync", self._on_file(os.fsync))
            opened = self._open(io.open)
            patch(io, "open", opened)
            patch(builtins, "open", opened)
            patch(sqlite3, "connect", self._connect(sqlite3.connect))
            yield self

    @contextmanager
    def operation(self, name: str, counts: bool = True) -> Iterator[None]:
        """One of them; a full disk can be read."""
        hits = counts and self._hits(name)
        if hits and not self.what.startswith("SIG"):
            if self.what == "ENOSPC" and name.startswith("read"):
                yield
                return
            number = getattr(errno, self.what)
            raise OSError(number, os.strerror(number), str(self.below))
        if hits and not self.late:
            os.kill(os.getpid(), getattr(signal, self.what))
        try:
            yield
        finally:
            if hits and self.late:
                os.kill(os.getpid(), getattr(signal, self.what))

    def _hits(self, name: str) -> bool:
        self.seen += 1
        if self.count is not None:
            line = os.open(self.count, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(line, f"{name}\n".encode())
            os.close(line)
        return self.seen == self.number or (self.lasting and 0 < self.number < self.seen)

    def _covers(self, path: Any) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        return Path(os.path.abspath(path)).is_relative_to(self.below)

    def _on_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *args: Any, **kwargs: Any) -> Any:
            with self.operation(f"{name} {path}", self._covers(path)):
                return real(path, *args, **kwargs)

        return called

    def _on_file(self, real: Callable[[int], Any]) -> Callable[[int], Any]:
        def called(number: int) -> Any:
            path = os.readlink(f"/proc/self/fd/{number}")
            with self.operation(f"fsync {path}", self._covers(path)):
                return real(number)

        return called

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        fault = self

        class Raw(io.FileIO):
            def write(self, content: Any) -> int:
                with fault.operation(f"write {self.name}"):
                    return super().write(content)

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not self._covers(path):
                return real(path, mode, *args, **kwargs)
            with self.operation(f"{'read' if mode in ('r', 'rb') else 'open'} {path}"):
                if mode != "wb":
                    return real(path, mode, *args, **kwargs)
                return io.BufferedWriter(Raw(path, "w"))

        return opened

    def _connect(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def operation(name: str) -> Iterator[None]:
            try:
                with self.operation(name):
                    yield
            except OSError as error:
                raise _as_sqlite_says_it(error) from None

        class Connection(sqlite3.Connection):
            def executemany(self, *args: Any) -> Any:
                with operation("insert"):
                    return super().executemany(*args)

            def __exit__(self, *args: Any) -> Any:
                with operation("commit"):
                    return super().__exit__(*args)

        def connected(path: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
            if not self._covers(path):
                return real(path, *args, **kwargs)
            with operation("connect"):
                return real(path, *args, factory=Connection, **kwargs)

        return connected


def _as_sqlite_says_it(error: OSError) -> sqlite3.OperationalError:
    full = error.errno == errno.ENOSPC
    found = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    found.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR_WRITE
    return found
