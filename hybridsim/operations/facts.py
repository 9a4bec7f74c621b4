"""The fact store: key -> facts, never tensors; one sqlite file that several processes may share."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from hybridsim.errors import InputError
from hybridsim.files import DiskFailed
from hybridsim.operations.ref import digest
from hybridsim.outcome import Value

FORMAT = 3
"""Kept as sqlite's ``user_version``. Format 1 had no checksums, format 2 no order of arrival."""
_PENDING_LIMIT = 1_000
_SMALL_BYTES = 8 << 20
"""A file up to this size is read at once, which takes a seventh of the time that its rows take one
by one: worth it where a run needs more than a small share of them.
"""
_TABLE = "CREATE TABLE facts (id INTEGER PRIMARY KEY, key BLOB UNIQUE, facts TEXT, checksum BLOB)"
_INSERT = "INSERT OR REPLACE INTO facts (key, facts, checksum) VALUES (?, ?, ?)"
_OLDEST = "DELETE FROM facts WHERE id <= (SELECT min(id) + (max(id) - min(id)) / 4 FROM facts)"
"""A quarter of them: those whose pages are then free."""
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC)
_ROW_BYTES = 80
"""Of key, checksum and what sqlite adds, beside the facts' text."""
_BUSY_S = 5.0
_Row = tuple[object, object]
"""Facts as JSON and their checksum, as far as nobody has meddled with them."""


class FactStore:
    """Remembers the facts of every computation by its key.

    Floats survive exactly (shortest round-trip decimal form; ``NaN`` and ``Infinity`` included).
    Beside the facts stands a checksum over key and facts: what was not stored by a run is refused.

    Args:
        path: the file.
        read_only: nothing is written, the file itself included.
        limit_bytes: what the file may hold; the oldest facts give way.

    Raises:
        InputError: the file is there and is no fact store, is one of another format, or is locked;
            or it is not there and may not be made.
        DiskFailed: the disk is full or broken.
    """

    def __init__(
        self, path: Path | str, *, read_only: bool = False, limit_bytes: float = math.inf
    ) -> None:
        self.path, self._limit_bytes = Path(path), limit_bytes
        self._pending: dict[bytes, str] = {}
        self._read: dict[bytes, _Row] | None = None
        self.failure = ""
        try:
            if read_only:
                uri = f"{self.path.absolute().as_uri()}?mode=ro"
                self._db = sqlite3.connect(uri, timeout=_BUSY_S, uri=True)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self.path, timeout=_BUSY_S)
            self._prepare()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._refuse("a fact store (sqlite)", error)

    def _prepare(self) -> None:
        """A new file gets its table; one that cannot be written can still be read."""
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        tables = [name for (name,) in self._db.execute("SELECT name FROM sqlite_master")]
        if tables and (found, "facts" in tables) != (FORMAT, True):
            self._refuse(
                f"a fact store of format {FORMAT}",
                f"one of format {found or 1}" if "facts" in tables else "other tables",
            )
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if not tables:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                if not self._db.execute("SELECT name FROM sqlite_master").fetchone():
                    self._db.execute(_TABLE)
                    self._db.execute(f"PRAGMA user_version={FORMAT}")

    def get(self, key: bytes) -> dict[str, Value] | None:
        """The facts under ``key``, or None.

        Raises:
            InputError: they are not what a run has stored.
        """
        text = self._pending.get(key)
        if text is None:
            text = self._stored(key)
        if text is None:
            return None
        if text == "{}":  # as most computations have
            return {}
        found = _decode(text)
        if not isinstance(found, dict) or not all(map(_is_fact, found.values())):
            self._refuse("facts that are numbers by name", f"others under key {key.hex()}")
        return found

    def _stored(self, key: bytes) -> str | None:
        """What the file has under a key; a small file is read whole the first time."""
        if self._read is None:
            self._read = self._all_rows()
        row = self._read.get(key)
        if row is None:
            try:
                row = self._db.execute(
                    "SELECT facts, checksum FROM facts WHERE key = ?", (key,)
                ).fetchone()
            except sqlite3.Error as error:
                self._refuse("a whole fact store", error)
        if row is None:
            return None
        text, checksum = row
        if not isinstance(text, str) or checksum != _checksum(key, text):
            self._refuse("facts as a run stored them", f"others under key {key.hex()}")
        return text

    def _all_rows(self) -> dict[bytes, _Row]:
        """All rows of a small file, none of a large one or of one that is damaged somewhere."""
        try:
            if self._used_bytes() > _SMALL_BYTES:
                return {}
            rows = self._db.execute("SELECT key, facts, checksum FROM facts")
            return {key: (facts, checksum) for key, facts, checksum in rows}
        except sqlite3.Error:
            return {}

    def check(self) -> int:
        """How many computations the file has facts of, once each is known to be whole.

        Raises:
            InputError: some are not what a run has stored.
        """
        number = 0
        try:
            for key, text, checksum in self._db.execute("SELECT key, facts, checksum FROM facts"):
                if not isinstance(text, str) or checksum != _checksum(key, text):
                    self._refuse("facts as a run stored them", f"others under key {key.hex()}")
                number += 1
        except (sqlite3.Error, TypeError) as error:
            self._refuse("a whole fact store", error)
        return number

    def put(self, key: bytes, facts: Mapping[str, Value]) -> None:
        """Remember facts; written to disk in batches and on ``commit``."""
        self._pending[key] = json.dumps(dict(facts))
        if len(self._pending) >= _PENDING_LIMIT:
            self.commit()

    def commit(self) -> None:
        """Write what is pending. A store that fails loses facts, not the run: ``failure`` says
        so.
        """
        if self._pending:
            rows = [(key, text, _checksum(key, text)) for key, text in self._pending.items()]
            try:
                with self._db:
                    if self._limit_bytes < math.inf:
                        self._make_room(sum(len(text) + _ROW_BYTES for _, text, _ in rows))
                    self._db.executemany(_INSERT, rows)
            except sqlite3.Error as error:
                self.failure = f"{self.path}: facts could not be stored: {error}"
            self._pending.clear()

    def _make_room(self, new_bytes: int) -> None:
        """Forget the oldest facts until these fit, or none are left."""
        self._db.execute("BEGIN IMMEDIATE")
        while self._used_bytes() + new_bytes > self._limit_bytes:
            if not self._db.execute(_OLDEST).rowcount:
                return

    def _used_bytes(self) -> int:
        """What the file's contents take; it keeps the room of what was forgotten."""
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return int((pages - free) * size)

    def sync(self) -> None:
        """Write what is pending, and wait until the disk has it."""
        self.commit()
        with contextlib.suppress(sqlite3.Error):  # a reader holds it back; it is in the log
            self._db.execute("PRAGMA wal_checkpoint(FULL)")

    def close(self) -> None:
        """Write what is pending and release the file."""
        self.commit()
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _refuse(self, expected: str, got: object) -> NoReturn:
        """Raise an InputError; a store that is broken is worth nothing, live runs fill another. Or
        a DiskFailed, where it is the disk.
        """
        if isinstance(got, sqlite3.Error) and getattr(got, "sqlite_errorcode", 0) in _NO_ROOM:
            raise DiskFailed(f"{self.path}: could not be written: {got}") from got
        text = f"{self.path}: expected {expected}, got: {got}; remove the file, or name another"
        raise InputError(text) from (got if isinstance(got, BaseException) else None)


_decode = json.JSONDecoder().decode


def _checksum(key: bytes, text: str) -> bytes:
    return digest(key, text.encode())


def _is_fact(value: object) -> bool:
    """A number, or a list of such."""
    if isinstance(value, list):
        return all(map(_is_fact, value))
    return isinstance(value, int | float)
