"""The fact store: key -> facts, never tensors; one sqlite file that several processes may share."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from hybridsim.errors import InputError
from hybridsim.outcome import Value

_PENDING_LIMIT = 1_000


class FactStore:
    """Remembers the facts of every computation by its key.

    Floats survive exactly (shortest round-trip decimal form; ``NaN`` and ``Infinity`` included).

    Raises:
        InputError: the file exists and is not a fact store.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._pending: dict[bytes, str] = {}
        self.failure = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS facts (key BLOB PRIMARY KEY, facts TEXT) WITHOUT ROWID"
            )
            self._db.commit()
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(
                f"{self.path}: expected a fact store (sqlite), got: {error}"
            ) from error

    def get(self, key: bytes) -> dict[str, Value] | None:
        """The facts under ``key``, or None."""
        text = self._pending.get(key)
        if text is None:
            try:
                row = self._db.execute("SELECT facts FROM facts WHERE key = ?", (key,)).fetchone()
            except sqlite3.DatabaseError as error:
                raise InputError(
                    f"{self.path}: expected a whole fact store, got: {error}; remove the file"
                ) from error
            text = row[0] if row else None
        return None if text is None else json.loads(text)

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
            try:
                self._db.executemany(
                    "INSERT OR REPLACE INTO facts VALUES (?, ?)", self._pending.items()
                )
                self._db.commit()
            except sqlite3.DatabaseError as error:
                self.failure = f"{self.path}: facts could not be stored: {error}"
            self._pending.clear()

    def close(self) -> None:
        """Write what is pending and release the file."""
        self.commit()
        self._db.close()
