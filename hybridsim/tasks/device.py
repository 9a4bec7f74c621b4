"""Where tensors live on the computer that runs the simulation, and by how many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from hybridsim.errors import InputError


@contextlib.contextmanager
def on_host(device: str, threads: int) -> Iterator[None]:
    """Fix the number of threads for the run, and refuse a device that is not there.

    Raises:
        InputError: no CUDA device is available.
    """
    check_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_device(device: str) -> None:
    """Raise an InputError for a device that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "host.device: expected a device that is present, got 'cuda' and no CUDA device is "
            "available"
        )
