"""Files of outcomes, of points and of draws: written whole, with a checksum; a damaged one is told
apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from hybridsim.errors import InputError
from hybridsim.files import write_whole
from hybridsim.results.digest import canonical_json
from hybridsim.results.keys import Json
from hybridsim.studies.drawing import Drawn, Draws
from hybridsim.studies.evaluate import Evaluated
from hybridsim.studies.outcome import from_json, regated, to_json

FORMAT = "hybridsim study point 1"
DRAWN_FORMAT = "hybridsim study draws 1"
_OWN = "sha256"
"""Over all other entries."""
_TEXTS = ("point", "backend", "last_key", "workload", "facts", "signature", "computed_by")


class Record(NamedTuple):
    """A point's outcome as it is kept.

    Attributes:
        found: the outcome and what it rests on.
        signature: of what its numbers depend on besides cost constants.
        computed_by: the launch that computed it.
        sha256: of the file's content.
    """

    found: Evaluated
    signature: str
    computed_by: str
    sha256: str


def write_record(path: Path, found: Evaluated, signature: str, computed_by: str) -> Record:
    """Write a point's outcome; returns what reading it would give.

    Raises:
        InputError, DiskFailed: the file cannot be written.
    """
    content = found._asdict() | {"outcome": to_json(found.outcome)}
    content |= {"format": FORMAT, "signature": signature, "computed_by": computed_by}
    content[_OWN] = _sha256(content)
    write_whole(path, json.dumps(content, indent=1) + "\n")
    return Record(found, signature, computed_by, content[_OWN])


def read_record(path: Path, point: str, gate: float) -> Record | None:
    """A point's outcome, marked by a gate; None where there is none, or a damaged one, or another
    point's.

    Raises:
        InputError: the file was written by another version of hybridsim.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    written = content.get("format") if isinstance(content, dict) else None
    if isinstance(written, str) and written != FORMAT:
        raise InputError(
            f"{path}: expected the format {FORMAT!r}, got {written!r:.60}: another version wrote it"
        )
    return _record(content, point, gate) if written == FORMAT else None


def _record(content: dict[str, Json], point: str, gate: float) -> Record | None:
    sha256 = content.pop(_OWN, None)
    texts = [content.get(name) for name in _TEXTS]
    well_formed = all(isinstance(text, str) for text in texts) and content["point"] == point
    if sha256 != _sha256(content) or not well_formed:
        return None
    known: dict[str, Any] = {name: content.get(name) for name in Evaluated._fields}  # Any: JSON
    try:
        outcome = regated(from_json(content["outcome"]), gate)
    except (KeyError, TypeError, ValueError):
        return None
    found = Evaluated(**known | {"outcome": outcome, "final": content.get("final") is True})
    return Record(found, content["signature"], content["computed_by"], sha256)


def _sha256(content: dict[str, Json]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def write_drawn(path: Path, found: Drawn) -> None:
    """Write what became of draws.

    Raises:
        InputError, DiskFailed: the file cannot be written.
    """
    content: dict[str, Json] = {"format": DRAWN_FORMAT, "job": found.job, "how": found.how}
    content["numbers"] = [[None if x != x else x for x in row] for row in found.numbers]
    content[_OWN] = _sha256(content)
    write_whole(path, json.dumps(content) + "\n")


def read_drawn(path: Path, job: Draws) -> Drawn | None:
    """What became of the draws of a job; None where that is not known, or the file is damaged."""
    try:
        content = json.loads(path.read_bytes())
        sha256 = content.pop(_OWN)
        whole = (content["format"], content["job"], sha256) == (
            DRAWN_FORMAT,
            job.name,
            _sha256(content),
        )
        how, numbers = tuple(content["how"]), content["numbers"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not whole or len(how) != len(job.settings) or len(numbers) != len(how):
        return None
    rows = (tuple(math.nan if x is None else float(x) for x in row) for row in numbers)
    return Drawn(job.name, how, tuple(rows))
