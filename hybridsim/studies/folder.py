"""The folder of a study: points by content, facts, the table, and what the study says of itself.

    study.yaml              the study, every default written out
    study.json              name, status, question, answer, counts, versions
    points.parquet          the table of points
    points/<id>/            scenario.yaml, outcome.json; claim.json while somebody works on it
    draws/                  what became of points under drawn constants
    facts/                  fact stores, whole and never changed again
    log/                    what each launch computed, a line each

A point's id says what it computes, so that points of several studies may lie in one folder.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from pandas.api.types import is_object_dtype

from hybridsim.errors import InputError
from hybridsim.files import cannot_write, whole_file, write_whole
from hybridsim.results.digest import plain
from hybridsim.results.integrity import read_map
from hybridsim.results.keys import Json
from hybridsim.scenario.emit import emit
from hybridsim.studies.asked import Asked
from hybridsim.studies.drawing import Drawn, Draws
from hybridsim.studies.evaluate import Evaluated
from hybridsim.studies.records import (
    Record,
    read_drawn,
    read_record,
    write_drawn,
    write_record,
)

FORMAT = "hybridsim study folder 1"
OWN = ("study.", "points", "facts", "draws", "log", "report.html")
"""What the names of a study's files begin with."""
_SCENARIO, _OUTCOME, _KEY = "scenario.yaml", "outcome.json", "last_key"


class Folder:
    """A study's folder, written by one launch.

    Args:
        path: where; made with its parents.

    Raises:
        InputError: nothing can be written there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.writer = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        try:
            for name in ("points", "facts", "draws", "log"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path}: expected a folder that can be written, got: {error.strerror}"
            ) from error

    def points(self) -> list[str]:
        """The ids of all points that have a folder."""
        return sorted(entry.name for entry in (self.path / "points").iterdir() if entry.is_dir())

    @property
    def facts(self) -> Path:
        """Where fact stores are published."""
        return self.path / "facts"

    def point(self, point: str) -> Path:
        """The folder of a point."""
        return self.path / "points" / point

    def claim(self, point: str) -> Path:
        """Who works on a point says so here."""
        return self.point(point) / "claim.json"

    def record(self, point: str, gate: float) -> Record | None:
        """A point's outcome under a gate, if it is there and whole.

        Raises:
            InputError: another version of hybridsim wrote it.
        """
        return read_record(self.point(point) / _OUTCOME, point, gate)

    def damaged(self, point: str) -> bool:
        """Whether there is a file where a point's outcome should be."""
        return (self.point(point) / _OUTCOME).exists()

    def keep(self, found: Evaluated, point: Asked, signature: str) -> Record:
        """Store a point and its outcome, and note that it was computed.

        Raises:
            InputError, DiskFailed: a file cannot be written.
        """
        folder = self.point(point.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _SCENARIO, point.scenario.to_yaml())
        record = write_record(folder / _OUTCOME, found, signature, self.writer)
        outcome = found.outcome
        self._log({"point": point.id, "status": outcome.status, "how": outcome.how})
        return record

    def last_key(self, point: str) -> str:
        """The key that a timing-only pass found for a point (hex); empty where there was none."""
        try:
            found = (self.point(point) / _KEY).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""
        return found if re.fullmatch(r"[0-9a-f]{32}", found) else ""

    def keep_key(self, point: str, key: str) -> None:
        """Store what a timing-only pass found; nothing where it found nothing.

        Raises:
            InputError, DiskFailed: the file cannot be written.
        """
        if key:
            self.point(point).mkdir(parents=True, exist_ok=True)
            write_whole(self.point(point) / _KEY, f"{key}\n")

    def drawn(self, job: Draws) -> Drawn | None:
        """What became of the draws of a job, if that is there and whole."""
        return read_drawn(self.path / "draws" / f"{job.name}.json", job)

    def claim_on_draws(self, job: str) -> Path:
        """Who works on draws says so here."""
        return self.path / "draws" / f"{job}.claim.json"

    def keep_drawn(self, found: Drawn) -> None:
        """Store what became of draws.

        Raises:
            InputError, DiskFailed: the file cannot be written.
        """
        write_drawn(self.path / "draws" / f"{found.job}.json", found)
        self._log({"draws": found.job})

    def adopt(self, other: Folder, point: str) -> None:
        """Take a point that another folder has: files are copied as they are."""
        folder = self.point(point)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_SCENARIO, _OUTCOME):
            with whole_file(folder / name) as file:
                file.write((other.point(point) / name).read_bytes())

    def _log(self, entry: Mapping[str, Json]) -> None:
        path = self.path / "log" / f"{self.writer}.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def study(self, document: Mapping[str, Json]) -> None:
        """Store the resolved study."""
        write_whole(self.path / "study.yaml", emit(dict(document)))

    def say(self, content: Mapping[str, Json]) -> None:
        """Write study.json."""
        known = {"format": FORMAT, "written": datetime.now(UTC).isoformat(timespec="seconds")}
        text = json.dumps(plain(known | dict(content)), indent=2, allow_nan=False) + "\n"
        write_whole(self.path / "study.json", text)

    def table(self, points: pd.DataFrame) -> None:
        """Write points.parquet."""
        with whole_file(self.path / "points.parquet") as file:
            uniform(points).to_parquet(file, index=False)


def about_of(folder: Path) -> dict[str, Json] | None:
    """What a folder's study.json says; None where there is none.

    Raises:
        InputError: it is damaged, or no study's.
    """
    path = folder / "study.json"
    if not path.exists():
        return None
    found = read_map(path, "what a study says of itself")
    if found.get("format") != FORMAT:
        raise InputError(f"{path}: expected the format {FORMAT!r}, got another")
    return found


def uniform(points: pd.DataFrame) -> pd.DataFrame:
    """The table with one type for each column: texts where a field is sometimes a text."""
    found = points.copy()
    for name in filter(lambda name: is_object_dtype(found[name]), found.columns):
        kinds = {type(value) for value in found[name] if not _absent(value)}
        if len(kinds - {int, float}) and len(kinds) > 1:
            found[name] = [None if _absent(v) else str(v) for v in found[name]]
    return found


def _absent(value: Json) -> bool:
    return value is None or (isinstance(value, float) and value != value)
