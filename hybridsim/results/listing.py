"""Run folders below a folder, with their status."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hybridsim.errors import InputError
from hybridsim.results.integrity import FORMAT, read_map
from hybridsim.results.read import Run

_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def listed(folder: Path) -> list[dict[str, str]]:
    """A line for each run folder, in the order of their paths; one that is damaged says so."""
    found = []
    for place, names, files in os.walk(folder):
        names.sort()
        if "manifest.json" in files and _is_run(Path(place)):
            names.clear()  # what lies in a run folder is its own
            found.append(_line(Path(place)))
    return found


def _is_run(folder: Path) -> bool:
    try:
        return bool(read_map(folder / "manifest.json").get("format") == FORMAT)
    except InputError:
        return False


def _line(folder: Path) -> dict[str, str]:
    written_s = (folder / "manifest.json").stat().st_mtime
    try:
        run = Run.open(folder)
        training: Any = run.scenario.get("training")  # Any: of a scenario's maps
        asked = training.get("steps") if isinstance(training, dict) else None
        steps = f"{len(run.steps):,} of {asked:,}" if isinstance(asked, int) else "-"
        status, reason = run.status, str(run.manifest.get("reason") or "")
        written_s = float(run.manifest.get("heard_s", written_s))
    except (InputError, TypeError, ValueError) as error:
        status, steps, reason = "damaged", "-", str(error)
    age = _age(time.time() - written_s)
    return {"run": str(folder), "status": status, "steps": steps, "written": age, "why": reason}


def _age(seconds: float) -> str:
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now"
