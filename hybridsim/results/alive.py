"""Is the process that writes a run folder still there?"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from hybridsim.results.keys import Json

_PROC = Path("/proc")


def this_process() -> dict[str, Json]:
    """What tells this process from all others: its number, when the system started it (in ticks
    since boot), and whose number that is: machine, boot, and space of process numbers.
    """
    pid = os.getpid()
    return {"pid": pid, "started": _started(pid), **_place()}


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
