"""Array jobs without a daemon: each takes its share of the groups, one collects what they found."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybridsim.errors import InputError
from hybridsim.scenario.quantity import describe
from hybridsim.studies.evaluate import Group
from hybridsim.studies.folder import Folder, about_of
from hybridsim.studies.records import Record

MOST_SHARDS = 100_000


class Shard(NamedTuple):
    """Share ``number`` of ``of``, from 1."""

    number: int
    of: int

    def has(self, group: Group) -> bool:
        """Whether a group is this shard's: by the hash of its name, so that all agree."""
        return int(hashlib.sha256(group.name.encode()).hexdigest(), 16) % self.of + 1 == self.number

    def __str__(self) -> str:
        """As it is asked for."""
        return f"{self.number}/{self.of}"


def shard_of(text: str) -> Shard:
    """``3/20``.

    Raises:
        InputError: it is no share.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text) if isinstance(text, str) else None
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.of <= MOST_SHARDS:
        raise InputError(
            f"--shard: expected k/n with k from 1 to n, e.g. 3/20, got {describe(text)}"
        )
    return shard


def merge(folder: Folder, others: Sequence[Path], study: str, gate: float) -> int:
    """Take over the points that other folders have; how many were new.

    Args:
        folder: what is merged into.
        others: folders that shards have written.
        study: digest of the study that all must be of.
        gate: median relative error above which an analog answer is no solution.

    Raises:
        InputError: one is no study's folder, or another study's.
    """
    found = 0
    for path in others:
        about = about_of(path)
        if about is None:
            raise InputError(f"{path}: expected a study's folder, got no study.json there")
        if about.get("study") != study:
            raise InputError(f"{path}: expected a shard of this study, got one of another study")
    for path in others:
        if path.resolve() != folder.path.resolve():
            found += _merge_one(folder, Folder(path), gate)
    return found


def _merge_one(folder: Folder, other: Folder, gate: float) -> int:
    found = 0
    for point in other.points():
        record = other.record(point, gate)
        if record is None or _is_better(folder.record(point, gate), record):
            continue
        folder.adopt(other, point)
        facts = record.found.facts
        if facts and not (folder.facts / facts).exists() and (other.facts / facts).is_file():
            unfinished = folder.facts / f"{facts}.{folder.writer}.tmp"
            shutil.copyfile(other.facts / facts, unfinished)
            unfinished.replace(folder.facts / facts)
        found += 1
    return found


def _is_better(mine: Record | None, theirs: Record) -> bool:
    """Whether what is there already stays: a result is not replaced."""
    return mine is not None and (mine.found.final or not theirs.found.final)
