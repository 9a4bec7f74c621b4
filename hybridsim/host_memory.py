"""Does the computer that simulates have the memory that a live run needs?"""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from hybridsim.errors import CapacityError
from hybridsim.operations.backend import Timing
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Value
from hybridsim.units import engineering
from hybridsim.work import Work

_GROUP = Path("/sys/fs/cgroup")


class Weighed(Timing):
    """Timing alone, which remembers the computation that needs most memory at once.

    Attributes:
        most_bytes: of its arguments and whatever is alive while it runs.
        heaviest: what it is called.
    """

    most_bytes, heaviest = 0, ""

    def work(self, computation: Computation, args: tuple[Ref, ...]) -> tuple[Work, Value]:
        """See ``Backend``."""
        found = super().work(computation, args)
        if found[0].peak_bytes > self.most_bytes:
            self.most_bytes, self.heaviest = found[0].peak_bytes, computation.function.__name__
        return found


def check_host_memory(weighed: Weighed, device: str) -> None:
    """Refuse a live run of which a single computation needs more memory than the host has free.

    It is a lower bound: what else is alive meanwhile is not counted.

    Raises:
        CapacityError: it does not fit.
    """
    free_bytes = free_memory_bytes(device)
    if weighed.most_bytes <= free_bytes:
        return
    raise CapacityError(
        f"host: '{weighed.heaviest}' alone needs at least {engineering(weighed.most_bytes, 'B')} "
        f"of this computer's memory ({device}), of which {engineering(free_bytes, 'B')} are free. "
        "Lower training.batch_size, choose a smaller workload, or run it without numbers "
        "(--backend timing)"
    )


def free_memory_bytes(device: str) -> int:
    """What a process can still allocate: on a CUDA device, or in main memory, of which a container
    may have a part.
    """
    if device == "cuda":
        free: int = torch.cuda.mem_get_info()[0]
        return free
    free = psutil.virtual_memory().available
    allowed = _number(_GROUP / "memory.max")
    used = _number(_GROUP / "memory.current")
    if allowed is None or used is None:
        return free
    return min(free, max(allowed - used + _reclaimable_bytes(), 0))


def _number(path: Path) -> int | None:
    """What a file of one number says; None: there is none, or it says ``max``."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable_bytes() -> int:
    """Of files that lie in memory, and go when it is needed."""
    try:
        lines = (_GROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
