"""The salt of all keys: code, library versions, processor capability, device and threads."""

from __future__ import annotations

import functools
import importlib.resources
import platform

import numpy
import torch

from hybridsim.operations.ref import digest

_NUMERIC_PACKAGES = ("physics", "learning", "programs")


@functools.cache
def code_digest() -> bytes:
    """Hash of the sources that compute numbers, so that a changed formula never meets an old fact."""
    root = importlib.resources.files("hybridsim")
    sources = []
    for package in _NUMERIC_PACKAGES:
        files = [f for f in (root / package).iterdir() if f.name.endswith(".py")]
        sources += [f.name.encode() + f.read_bytes() for f in sorted(files, key=lambda f: f.name)]
    return digest(*sources, (root / "rng.py").read_bytes())


def salt(device: str, threads: int) -> bytes:
    """What two runs must share, besides the scenario, to have the same numbers."""
    hardware = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    texts = (torch.__version__, numpy.__version__, platform.machine(), hardware, device, str(threads))
    return digest(code_digest(), *(text.encode() for text in texts))
