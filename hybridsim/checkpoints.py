"""Checkpoints of a run: what was alive after a step, so that a run that died can go on.

In a run folder: ``facts.sqlite`` (facts of all computations so far), ``checkpoint/`` with the
values of the last two checkpoints, and ``checkpoint/last.json``, which names the one that counts.
Facts are written first, then values, then that file takes its name.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hybridsim.errors import HybridsimError, InputError
from hybridsim.files import cannot_write, write_whole
from hybridsim.operations.facts import FactStore
from hybridsim.operations.resumed import Resumable
from hybridsim.operations.values import Unkeepable, Values, write_values
from hybridsim.results.integrity import read_map
from hybridsim.results.write import CHECKPOINT

_VALUES = "*.safetensors"
_SECONDS = {"s": 1, "min": 60, "h": 3_600}


@dataclass(frozen=True)
class Every:
    """How often: after so many steps, or so many seconds of the host's time, ``text`` as asked."""

    text: str
    steps: int = 0
    seconds: float = 0.0


def every_of(text: str) -> Every:
    """From words: ``50 steps``, ``30 s``, ``5 min``.

    Raises:
        InputError: it is neither.
    """
    number, _, unit = text.strip().partition(" ")
    if unit in ("step", "steps") and number.isdigit() and int(number) > 0:
        return Every(text, steps=int(number))
    with contextlib.suppress(ValueError):
        seconds = float(number) * _SECONDS.get(unit, 0)
        if 0 < seconds < math.inf:
            return Every(text, seconds=seconds)
    raise InputError(
        f"--checkpoint: expected steps or a time ('50 steps', '30 s', '5 min'), got {text!r}"
    )


@dataclass(frozen=True)
class Checkpoint:
    """Where a run can go on: after ``step``, so many evaluations; its values' file and checksum.

    ``numerics``: what another run must share to have the same numbers.
    """

    step: int
    evaluations: int
    values: str
    sha256: str
    numerics: str
    every: str


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The one that counts; None: there is none.

    Raises:
        InputError: the file that names it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    found = read_map(path, "a checkpoint")
    kinds = {one.name: int if one.type == "int" else str for one in fields(Checkpoint)}
    for name, kind in kinds.items():
        if type(found.get(name)) is not kind:
            expected = "a whole number" if kind is int else "a text"
            raise InputError(f"{path}: {name}: expected {expected}, got {found.get(name)!r:.40}")
    return Checkpoint(**{name: found[name] for name in kinds})


def values_of(folder: Path, checkpoint: Checkpoint) -> Values:
    """The values that a checkpoint kept.

    Raises:
        InputError: they are damaged.
    """
    return Values((folder / CHECKPOINT).with_name(checkpoint.values), checkpoint.sha256)


def forget(folder: Path) -> None:
    """A run that begins anew has no checkpoint.

    Raises:
        InputError, DiskFailed: it cannot be removed.
    """
    last = folder / CHECKPOINT
    try:
        last.unlink(missing_ok=True)
        for values in last.parent.glob(_VALUES):
            values.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(last, error) from error


@dataclass
class Checkpoints:
    """Writes them when they are due; ``told`` is what the summary says of them."""

    folder: Path
    every: Every
    numerics: str
    told: dict[str, Any] = field(  # Any: JSON
        default_factory=lambda: {"number": 0, "bytes": 0, "seconds": 0.0, "failure": ""}
    )
    _at_s: float = field(default_factory=time.monotonic)

    def after(self, step: int, backend: Resumable, store: FactStore) -> None:
        """A step has ended: is a checkpoint due? One that cannot be written is told, and the run
        goes on.
        """
        if self.every.steps and step % self.every.steps:
            return
        if self.every.seconds and time.monotonic() - self._at_s < self.every.seconds:
            return
        began = time.monotonic()
        try:
            self._write(step, backend, store)
        except (HybridsimError, OSError, MemoryError, Unkeepable) as error:
            self.told["failure"] = f"step {step}: {error}"
        self._at_s = time.monotonic()
        self.told["seconds"] += self._at_s - began

    def _write(self, step: int, backend: Resumable, store: FactStore) -> None:
        last = self.folder / CHECKPOINT
        folder = last.parent
        folder.mkdir(exist_ok=True)
        store.sync()
        if store.failure:
            raise InputError(store.failure)
        before = last_checkpoint(self.folder)
        name = f"{step:09d}.safetensors"
        sha256 = write_values(folder / name, backend.alive())
        found = Checkpoint(step, backend.evaluations, name, sha256, self.numerics, self.every.text)
        write_whole(last, json.dumps(asdict(found), indent=1) + "\n")
        self.told["number"] += 1
        self.told["bytes"] = (folder / name).stat().st_size
        kept = {name, before.values if before is not None else name}
        for old in folder.glob(_VALUES):
            if old.name not in kept:
                old.unlink(missing_ok=True)
