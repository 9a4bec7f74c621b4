"""Who works on what: a file that its owner touches as long as it works, so that several launches
share one folder.

Clocks of machines differ. So no time is compared with a clock: a claim is dead when the file's time
of change has not moved while a reader watched it for ``patience_s``, or when it was made on this
machine by a process that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from hybridsim.results.keys import Json

BEAT_S = 2.0
PATIENCE_S = 30.0


class _Seen(NamedTuple):
    """A claim as a reader saw it."""

    content: str
    changed_ns: int
    since_s: float


class Claims:
    """The claims of one launch; a thread of its own keeps them alive.

    Args:
        beat_s: seconds between touches.
        patience_s: seconds without a touch after which another's claim is dead.
    """

    def __init__(self, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S) -> None:
        self.token = uuid.uuid4().hex
        self._beat_s, self._patience_s = beat_s, patience_s
        self._seen: dict[Path, _Seen] = {}
        self._mine: set[Path] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="claims")
        self._thread.start()

    def take(self, path: Path) -> bool:
        """Make a file that says that this launch is at work, unless somebody alive has.

        A dead claim is replaced by whoever holds the claim to do so, which has its content in its
        name: so each claim is replaced once, and the file is never missing in between.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._create(path):
            return True
        dead = self._dead(path)
        if dead is None:
            return False
        heir = path.with_name(f"{path.name}.{hashlib.sha256(dead.encode()).hexdigest()[:16]}")
        if not self.take(heir):
            return False
        try:
            return _read(path) == dead and self._replace(path)
        finally:
            self.release(heir)

    def release(self, path: Path) -> None:
        """Give a claim back."""
        self._mine.discard(path)
        if _token(_read(path)) == self.token:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give all claims back."""
        self._stop.set()
        self._thread.join()
        for path in tuple(self._mine):
            self.release(path)

    def _create(self, path: Path) -> bool:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._content())
        except FileExistsError:
            return False
        self._own(path)
        return True

    def _replace(self, path: Path) -> bool:
        written = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        written.write_text(self._content(), encoding="utf-8")
        written.replace(path)
        self._own(path)
        return True

    def _content(self) -> str:
        return json.dumps(identity() | {"token": self.token}) + "\n"

    def _own(self, path: Path) -> None:
        self._mine.add(path)
        self._seen.pop(path, None)

    def _dead(self, path: Path) -> str | None:
        """A claim on which nobody works any more, as far as was seen; None where somebody may."""
        try:  # read first: network file systems look again at what is opened
            content, changed_ns = _read(path), path.stat().st_mtime_ns
        except OSError:
            return None  # given back by now
        if _is_gone(content):
            return content
        seen = self._seen.get(path)
        if seen is None or (seen.content, seen.changed_ns) != (content, changed_ns):
            self._seen[path] = _Seen(content, changed_ns, time.monotonic())
            return None
        return content if time.monotonic() - seen.since_s > self._patience_s else None

    def _beat(self) -> None:
        """A claim that another has taken over is not touched again."""
        while not self._stop.wait(self._beat_s):
            for path in tuple(self._mine):
                with contextlib.suppress(OSError):
                    if _token(_read(path)) == self.token:
                        os.utime(path)
                    else:
                        self._mine.discard(path)


def identity() -> dict[str, Json]:
    """Which process this is, so that another one of this machine can tell whether it is gone."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "started": _started(pid)}


def _is_gone(content: str) -> bool:
    """Whether a claim was made by a process of this machine that has ended."""
    try:
        found = json.loads(content)
        host, pid, started = found["host"], found["pid"], found["started"]
    except (ValueError, TypeError, KeyError):
        return False
    if host != _host() or type(pid) is not int or started is None:
        return False
    return bool(_started(pid) != started)


def _host() -> str:
    """This machine since it was started, and this container of it."""
    names = [socket.gethostname()]
    with contextlib.suppress(OSError):
        names.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        names.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(names)


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where there is none, or where the system
    does not tell.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]  # a zombie has ended


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _token(content: str) -> str:
    try:
        return str(json.loads(content)["token"])
    except (ValueError, TypeError, KeyError):
        return ""
