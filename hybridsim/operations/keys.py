"""The salt of all keys: code, library versions, processor capability, device and threads."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy
import torch

from hybridsim.operations.ref import digest

_DRAWS = frozenset({"reports", "studies/questions", "cli.py", "progress.py", "__main__.py"})
"""What only shows results, or asks of them; all other sources can change a number, whatever folder
they move to.
"""


def sources(package: Traversable) -> Iterator[tuple[str, Traversable]]:
    """The sources below a package that can change a number, as (path within it, file), in order of
    the path.
    """
    yield from sorted(_walk(package, ""), key=lambda found: found[0])


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if f"{prefix}{entry.name}" in _DRAWS or entry.name.startswith((".", "__pycache__")):
            continue
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry


def code_digest(package: Traversable) -> bytes:
    """Hash of the sources below a package by path and text, so that a changed formula never meets
    an old fact.
    """
    return digest(
        *(part for path, file in sources(package) for part in (path.encode(), file.read_bytes()))
    )


@functools.cache
def own_code() -> bytes:
    """Hash of this package's sources."""
    return code_digest(files("hybridsim"))


def salt(device: str, threads: int) -> bytes:
    """What two runs must share, besides the scenario, to have the same numbers."""
    hardware = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    texts = (
        torch.__version__,
        numpy.__version__,
        platform.machine(),
        hardware,
        device,
        str(threads),
    )
    return digest(own_code(), *(text.encode() for text in texts))
