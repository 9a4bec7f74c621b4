"""The run folder, written while the run goes on: tables in parts, a manifest that is always
whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hybridsim.errors import HybridsimError, InputError
from hybridsim.files import cannot_write, write_whole
from hybridsim.results.alive import this_process
from hybridsim.results.columns import EVENTS, REQUESTS, SPANS, table_of_steps, table_of_tuples
from hybridsim.results.digest import plain, run_digest
from hybridsim.results.integrity import (
    FILES,
    FORMAT,
    OWN,
    file_sha256,
    manifest_sha256,
    read_map,
)
from hybridsim.results.keys import Json, Summary
from hybridsim.results.parts import BASE_SCHEMAS, merge_parts, remove_parts, write_part
from hybridsim.results.summary import summarise
from hybridsim.trace.spans import Rows

FACTS = "facts.sqlite"
"""Facts of a run that keeps checkpoints; they come before the run, and outlast it."""
CHECKPOINT = "checkpoint/last.json"
"""Where such a run can go on."""
_SCENARIO = "scenario.yaml"
_FILES = ("summary.json", "report.html", *(f"{name}.parquet" for name in BASE_SCHEMAS))
"""What a run leaves besides its parts, and its scenario and its manifest, which are replaced and
not removed: whoever goes on with a run needs them.
"""


_ROOM, _ROOM_BYTES = "manifest.json.room.tmp", 128 << 10
"""A file that gives its room to the last manifest."""
_UNBORN = re.compile(r"manifest\.json\.\w+\.tmp")
"""What a run leaves that is killed before it has a manifest."""


class Superseded(HybridsimError):
    """The run folder belongs to another run by now."""


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run: it has a manifest that says so.

    Raises:
        InputError: it has one that cannot be read.
    """
    path = folder / "manifest.json"
    try:
        return bool(read_map(path).get("format") == FORMAT)
    except InputError as error:
        if isinstance(error.__cause__, OSError) and path.exists():
            raise
        return False


def check_folder(folder: Path, force: bool) -> None:
    """May a run be written here? Facts may be there before it.

    Args:
        folder: where to.
        force: a run that is there may be replaced.

    Raises:
        InputError: it may not.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder to write the run to, got a file")
    found = folder.iterdir() if folder.is_dir() else ()
    if all(path.name.startswith(FACTS) or _UNBORN.fullmatch(path.name) for path in found):
        return
    if not is_run_folder(folder):
        raise InputError(
            f"{folder}: expected an empty folder or a run folder, got other files in it"
        )
    if not force:
        goes_on = (folder / CHECKPOINT).is_file()
        hint = f"hybridsim resume {folder} goes on with one that was left; " if goes_on else ""
        raise InputError(
            f"{folder}: expected an empty folder, got a run ({hint}--force, or force=True, "
            "replaces it; --out names another folder)"
        )


class RunWriter:
    """Creates a run folder and fills it; the sink of a trace.

    Args:
        folder: where to write; parents are created.
        force: replace the run that the folder holds; files that are not part of it are never
            touched.
        scenario: the resolved one, as a text.

    While running, ``static_power`` may be set to what tells the power drawn so far; it is kept in
    the manifest, so that a killed run's energy is not short of it.

    Raises:
        InputError: the folder cannot be written or is not empty, and is no run folder or may not be
            replaced.
    """

    def __init__(self, folder: Path, force: bool = False, scenario: str = "") -> None:
        self.folder = Path(folder)
        self.static_power: Callable[[], Sequence[Mapping[str, Json]]] = list
        self._parts = 0
        self._run_id, self._process = uuid.uuid4().hex, this_process()
        self._manifest: dict[str, Json] = {}
        try:
            self._prepare(force, scenario)
            self.manifest({"status": "running"})
        except (OSError, HybridsimError) as error:
            failed = (
                cannot_write(self.folder, error, "a folder")
                if isinstance(error, OSError)
                else error
            )
            if self._manifest:  # of the run before nothing can be said any more
                with contextlib.suppress(OSError, HybridsimError):
                    self.end({"status": "failed", "reason": str(failed)})
            raise failed from (None if failed is error else error)

    def _prepare(self, force: bool, scenario: str) -> None:
        check_folder(self.folder, force)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manifest({"status": "failed", "reason": "another run was about to take its place"})
        for name in _FILES:
            (self.folder / name).unlink(missing_ok=True)
        for name in (*_FILES, _SCENARIO, "manifest.json"):
            for unfinished in self.folder.glob(f"{name}.*.tmp"):
                unfinished.unlink(missing_ok=True)
        for name in BASE_SCHEMAS:
            remove_parts(self.folder / name)
        (self.folder / _ROOM).write_bytes(os.urandom(_ROOM_BYTES))
        if scenario:
            write_whole(self.folder / _SCENARIO, scenario)
        else:
            (self.folder / _SCENARIO).unlink(missing_ok=True)

    def write(self, rows: Rows) -> None:
        """Store one chunk: a closed part file per table that has rows. One that failed may be
        written again, with more rows behind its own.

        Raises:
            Superseded: another run has taken the folder over.
        """
        self._check_owner()
        tuples = (("spans", rows.spans, SPANS), ("events", rows.events, EVENTS))
        for name, found, schema in (*tuples, ("requests", rows.requests, REQUESTS)):
            if found:
                write_part(table_of_tuples(found, schema), self.folder / name, self._parts)
        if rows.steps:
            write_part(table_of_steps(rows.steps), self.folder / "steps", self._parts)
        self.manifest(self._manifest | {"static_power": list(self.static_power())})
        self._parts += 1

    def end(self, ending: Mapping[str, Json]) -> None:
        """Nothing more comes: say how it ended, beside what the manifest says already."""
        self._last_manifest({**self._manifest, **ending})

    def _last_manifest(self, content: Mapping[str, Json]) -> None:
        """There is room for it on a disk that is full."""
        self._give_room()
        self.manifest(content)

    def _give_room(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / _ROOM).unlink(missing_ok=True)

    def manifest(self, content: Mapping[str, Json]) -> None:
        """Write manifest.json; a reader sees the old one or the new one, never half of it."""
        written = {"process": self._process, "heard_s": round(time.time(), 3)}
        whole = {"format": FORMAT, "run_id": self._run_id, **written, **plain(content)}
        whole[OWN] = manifest_sha256(whole)
        # an entry is one line: indenting all of a machine would take longer than its chunk of spans
        lines = (
            f"{json.dumps(name)}: {json.dumps(entry, allow_nan=False)}"
            for name, entry in whole.items()
        )
        write_whole(self.folder / "manifest.json", "{\n  " + ",\n  ".join(lines) + "\n}\n")
        self._manifest = dict(content)

    def finish(
        self,
        manifest: Mapping[str, Json],
        static_power: Sequence[Mapping[str, Json]],
        extra_summary: Mapping[str, Json],
    ) -> Summary:
        """Merge the parts, write summary.json and the final manifest with the digest; returns the
        summary.

        Args:
            manifest: its ``status`` becomes the summary's.
            static_power: rows with ``part``, ``component``, ``power_w``, ``power_low_w``,
                ``power_high_w``, ``status`` and ``source``.
            extra_summary: see ``summarise``.
        """
        self._check_owner()
        for name in BASE_SCHEMAS:
            merge_parts(self.folder, name)
        extras = {"status": manifest.get("status", "complete"), **extra_summary}
        summary: Summary = plain(summarise(self.folder, static_power, extras))
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        write_whole(self.folder / "summary.json", text)
        digest = run_digest(self.folder, summary)
        files = {name: file_sha256(self.folder / name) for name in self._files()}
        found = {"static_power": list(static_power), "digest": digest, FILES: files}
        self._last_manifest({**manifest, **found})
        return summary

    def _files(self) -> list[str]:
        """What the run has written and will not write again."""
        names = (_SCENARIO, "summary.json", *(f"{name}.parquet" for name in BASE_SCHEMAS))
        return [name for name in names if (self.folder / name).is_file()]

    def _check_owner(self) -> None:
        path = self.folder / "manifest.json"
        try:
            owner = read_map(path).get("run_id")
        except InputError as error:
            if isinstance(error.__cause__, OSError) and path.exists():
                raise
            owner = None
        if owner != self._run_id:
            raise Superseded(
                f"{self.folder}: another run has taken this folder over; this one stops"
            )
