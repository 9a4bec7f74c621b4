"""Where tensors live on the computer that runs the simulation, and by how many threads."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from hybridsim.errors import InputError


@contextlib.contextmanager
def on_host(device: str, threads: int) -> Iterator[None]:
    """Fix the number of threads for the run, keep cuDNN from TF32, and refuse a device that is not
    there.

    Raises:
        InputError: no CUDA device is available.
    """
    check_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # what is rounded on the simulated GPU is the scenario's to say
    cudnn, tf32 = torch.backends.cudnn, torch.backends.cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cudnn.allow_tf32 = tf32


def check_device(device: str) -> None:
    """Raise an InputError for a device that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "host.device: expected a device that is present, got 'cuda' and no CUDA device is "
            "available"
        )


def device_name(device: str) -> str:
    """What the maker calls this computer's processor (``cpu``) or GPU (``cuda``)."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        found = re.search(r"^model name\s*: *(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
