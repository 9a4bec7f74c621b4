"""Is a run folder what a run wrote, and does what it says follow from its tables?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hybridsim.errors import InputError
from hybridsim.operations.facts import FactStore
from hybridsim.results.digest import canonical_json, run_digest
from hybridsim.results.integrity import FILES, check_file, file_sha256, read_map
from hybridsim.results.keys import Json
from hybridsim.results.read import Run
from hybridsim.results.summary import summarise
from hybridsim.results.write import CHECKPOINT, FACTS

_FOLLOWS = (
    "simulated_s", "makespan_ps", "steps", "spans", "energy", "throughput", "step_latency",
    "lanes", "times", "final", "events", "target", "thresholds",
)  # fmt: skip
"""Keys of a summary that its tables tell; the critical path is a check of its own."""


class Verdict(NamedTuple):
    """One check: ``what`` was checked, ``wrong`` says what is amiss, ``note`` what was seen."""

    what: str
    wrong: str = ""
    note: str = ""


def verify(folder: Path | str) -> list[Verdict]:
    """Check a run folder: manifest, checksums of its files, digest, books, critical path.

    Of a run that has not ended, what was stored so far is read; it has no digest.

    Raises:
        InputError: there is no run folder, or its manifest has been changed.
    """
    run = Run.open(folder)
    found = [Verdict("manifest", note=run.status)]
    names = sorted(run.manifest.get(FILES, {}))
    found += [_checked(name, partial(check_file, run.folder, run.manifest, name)) for name in names]
    if any(verdict.wrong for verdict in found):
        return found  # what is made of a damaged file tells nothing more
    found += _kept_to_go_on(run.folder)
    if not run.manifest.get("digest"):
        return [*found, _checked("tables so far", lambda: _read(run)), _path(run)]
    return [
        *found,
        _checked("digest", lambda: _digest(run)),
        _checked("books", lambda: _books(run)),
        _path(run),
    ]


def _kept_to_go_on(folder: Path) -> list[Verdict]:
    """Facts and values of a run that keeps checkpoints."""
    found = []
    if (folder / FACTS).is_file():
        found.append(_checked(FACTS, lambda: _facts(folder / FACTS)))
    if (folder / CHECKPOINT).is_file():
        found.append(_checked("checkpoint", lambda: _values(folder / CHECKPOINT)))
    return found


def _facts(path: Path) -> str:
    with closing(FactStore(path, read_only=True)) as store:
        return f"{store.check():,} computations"


def _values(last: Path) -> str:
    said = read_map(last, "a checkpoint")
    values = last.with_name(str(said.get("values")))
    if not values.is_file() or file_sha256(values) != said.get("sha256"):
        raise InputError(f"{values}: expected the values as the run wrote them, got others")
    return f"step {said.get('step')}"


def _checked(what: str, check: Callable[[], str | None]) -> Verdict:
    try:
        return Verdict(what, note=check() or "")
    except InputError as error:
        return Verdict(what, str(error))


def _read(run: Run) -> str:
    return f"{len(run.steps):,} steps, {len(run.spans):,} spans"


def _digest(run: Run) -> str:
    known, found = str(run.manifest["digest"]), run_digest(run.folder, run.summary)
    if found != known:
        raise InputError(f"expected {known[:10]} (manifest.json), got {found[:10]} from the tables")
    return found[:10]


def _books(run: Run) -> None:
    """The summary once more, from the tables alone."""
    stored: dict[str, Json] = dict(run.summary)
    static = run.manifest.get("static_power", [])
    again = summarise(run.folder, static, stored | {"basis": run.manifest.get("basis", ())})
    differ = [
        key
        for key in _FOLLOWS
        if canonical_json(stored.get(key)) != canonical_json(dict(again).get(key))
    ]
    if differ:
        raise InputError(f"summary.json: {', '.join(differ)}: expected what the tables say")


def _path(run: Run) -> Verdict:
    """From the first start to the last end without a gap: see ``critical_path``."""
    error = run.summary["critical_path"].get("error")
    return Verdict("critical path", wrong=str(error) if error else "")
