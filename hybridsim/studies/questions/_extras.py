"""Packages that only some questions need."""

from __future__ import annotations

import importlib.util


def missing(
    module: str, extra: str, path: tuple[str | int, ...], got: str
) -> list[tuple[tuple[str | int, ...], str, str]]:
    """A problem of a study where a package is not installed: it names what installs it."""
    if importlib.util.find_spec(module) is not None:
        return []
    return [(path, f"{module} installed (pip install 'hybridsim[{extra}]')", f"{got} without it")]
