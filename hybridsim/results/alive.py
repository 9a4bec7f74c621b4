"""Is the process that writes a run folder still there, and is it the only one?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from hybridsim.errors import InputError
from hybridsim.files import cannot_write
from hybridsim.results.integrity import read_map
from hybridsim.results.keys import Json

_PROC = Path("/proc")


def this_process() -> dict[str, Json]:
    """What tells this process from all others: its number, when the system started it (in ticks
    since boot), and whose number that is: machine, boot, and space of process numbers.
    """
    pid = os.getpid()
    return {"pid": pid, "started": _started(pid), **_place()}


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Inside the block no other process of this machine writes a run to the folder: the system's
    lock on the folder itself, which ends with its holder. Where the file system has no locks, the
    manifest's word for it counts.

    Raises:
        InputError: another one does already, or the folder cannot be opened.
    """
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise cannot_write(folder, error, "a folder") from error
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(_busy(folder, _writer(folder))) from None
        except OSError:
            writer = _writer(folder)
            if writer and is_gone(writer) is False and writer != this_process():
                raise InputError(_busy(folder, writer)) from None
        yield
    finally:
        os.close(number)


def _busy(folder: Path, writer: Mapping[str, Json]) -> str:
    who = f"process {writer['pid']}" if "pid" in writer else "another process"
    return (
        f"{folder}: expected a folder without a run under way, got one where {who} is running one"
    )


def _writer(folder: Path) -> dict[str, Json]:
    """The process of a run that has not ended, as its manifest says."""
    try:
        found = read_map(folder / "manifest.json")
    except InputError:
        return {}
    process = found.get("process") if found.get("status") == "running" else None
    return process if isinstance(process, dict) else {}


def is_gone(process: Mapping[str, Json]) -> bool | None:
    """Whether a process has ended; None where that cannot be seen from here.

    Args:
        process: as ``this_process`` said.
    """
    place, pid = _place(), process.get("pid")
    if not isinstance(pid, int) or process.get("machine") != place["machine"]:
        return None
    if process.get("boot") != place["boot"]:
        return True  # the machine has been started anew
    if process.get("space") != place["space"]:
        return None  # a container's numbers
    if place["boot"] is None:
        return _unknown_to_the_system(pid)
    return _started(pid) != process.get("started")


def _place() -> dict[str, Json]:
    boot, space = None, None
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink(_PROC / "self/ns/pid")
    return {"machine": platform.node(), "boot": boot, "space": space}


def _started(pid: int) -> int | None:
    """Field 22 of proc(5)'s stat; None of a process that is not there, or has ended and waits for
    its parent.
    """
    try:
        after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else int(after_name[19])


def _unknown_to_the_system(pid: int) -> bool | None:
    """Where there is no /proc: True if no process has the number; another may have it by now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return None
    return None
