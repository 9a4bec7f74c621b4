"""Is a run folder still what was written: checksums of its files, types of its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridsim.errors import InputError
from hybridsim.results.digest import canonical_json
from hybridsim.results.keys import Json

FORMAT = "hybridsim run folder 2"
SCHEMA_VERSION = 2
OWN = "manifest_sha256"
"""In the manifest: over all of its other entries."""
FILES = "files_sha256"
"""In the manifest of a run that has ended: of every file that belongs to it."""
_STATUSES = ("running", "complete", "interrupted", "failed")
_TEXTS = ("status", "name", "backend", "reason", "digest")
_WHOLE = ("seed", "schema_version")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_sha256(manifest: Mapping[str, Json]) -> str:
    """Hex digest of the manifest's contents."""
    covered = {key: value for key, value in manifest.items() if key != OWN}
    return hashlib.sha256(canonical_json(covered).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Json]:
    """The manifest of a run folder.

    Raises:
        InputError: there is none, it was written by another version, or it has been changed.
    """
    path = folder / "manifest.json"
    found = read_map(path, "a manifest")
    if found.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a manifest of the format {FORMAT!r}, got something else"
        )
    if _is(found.get("schema_version"), int) and found["schema_version"] > SCHEMA_VERSION:
        version = found["schema_version"]
        raise InputError(f"{path}: expected schema_version {SCHEMA_VERSION}, got {version}: newer")
    kinds: dict[str, Any] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_WHOLE, int)
    for name, kind in kinds.items():
        if name in found and not _is(found[name], kind):
            expected = "a text" if kind is str else "a whole number"
            raise InputError(f"{path}: {name}: expected {expected}, got {found[name]!r:.40}")
    if found.get("status", "running") not in _STATUSES:
        raise InputError(
            f"{path}: status: expected one of {', '.join(_STATUSES)}, got {found['status']!r:.40}"
        )
    if OWN in found and found[OWN] != manifest_sha256(found):
        raise InputError(f"{path}: expected the manifest as the run wrote it, got another")
    return found


def _is(value: Json, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def read_map(path: Path, what: str = "a summary") -> dict[str, Json]:
    """A JSON file that holds a map.

    Raises:
        InputError: it does not.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected {what} (JSON), got: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected {what}, got a {type(found).__name__}")
    return found


def check_file(folder: Path, manifest: Mapping[str, Json], name: str) -> None:
    """Is a file of a run that has ended still what the run wrote? Unfinished ones are not known.

    Raises:
        InputError: it is not, or is not there.
    """
    known = manifest.get(FILES, {}).get(name)
    if known is None:
        return
    path = folder / name
    try:
        found = file_sha256(path)
    except OSError as error:
        raise InputError(
            f"{path}: expected the file that the run wrote, got: {error.strerror}"
        ) from error
    if found != known:
        raise InputError(f"{path}: expected the file that the run wrote, got a changed one")
