"""Constants that two machines have in common: they move the bands of both the same way."""

from __future__ import annotations

from collections.abc import Sequence

from hybridsim.results.read import Run


def share_constants(first: Sequence[Run], second: Sequence[Run]) -> bool:
    """Whether a constant with a range belongs to a datasheet of both; so it is taken to be where a
    run does not say what its machine is.
    """
    if not all(run.manifest.get("machine") for run in (*first, *second)):
        return True
    one, other = (set().union(*map(_ranged, runs)) for runs in (first, second))
    return bool(one & other)


def _ranged(run: Run) -> set[tuple[str, str]]:
    """(datasheet, constant) of all that have a range."""
    machine = run.manifest["machine"]
    sheets = [
        item["sheet"]
        for group in ("nodes", "edges")
        for item in machine.get(group, ())
        if item.get("sheet")
    ]
    return {
        (str(sheet["name"]), str(name))
        for sheet in sheets
        for name, entry in sheet["constants"].items()
        if entry["low"] < entry["high"]
    }
