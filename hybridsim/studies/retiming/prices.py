"""What a machine takes for everything that a recording asks of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hybridsim.hardware.kinds import PARTS, duration_ps
from hybridsim.hardware.price import Constants
from hybridsim.hardware.requests import Pause, Request
from hybridsim.scenario.datasheets.sheets import Datasheet

if TYPE_CHECKING:
    from hybridsim.studies.retiming.recording import Asked


class Flat:
    """A sheet's nominal values, quick to read."""

    __slots__ = ("kind", "value")

    def __init__(self, sheet: Datasheet) -> None:
        self.kind = sheet.kind
        self.value = {name: entry.value for name, entry in sheet.constants.items()}.__getitem__


class Prices(NamedTuple):
    """Of one unit of everything asked: ``durations_ps`` (asked,), ``joules`` (asked,)."""

    durations_ps: np.ndarray
    joules: np.ndarray


def prices(asked: Sequence[Asked], sheets: Mapping[str, Datasheet]) -> Prices:
    """Time and energy of everything asked, on these sheets."""
    once: dict[int, Flat] = {}
    flat = {name: once.setdefault(id(sheet), Flat(sheet)) for name, sheet in sheets.items()}
    known: dict[tuple[int, int], tuple[int, float]] = {}
    found = []
    for part, request in asked:
        # requests of work are long; equal ones of parts alike are one object
        key = (id(flat.get(part)), id(request))
        if key not in known:
            known[key] = (duration_ps(part, request, flat), _joules(part, request, flat))
        found.append(known[key])
    times, joules = zip(*found, strict=True) if found else ((), ())
    return Prices(np.array(times, dtype=np.int64), np.array(joules, dtype=float))


def _joules(part: str, request: Request, sheets: Mapping[str, Flat]) -> float:
    if isinstance(request, Pause):
        return 0.0
    sheet = sheets[part]
    constants: Constants = sheet
    return float(PARTS[sheet.kind].tariffs[type(request)].energy(constants, request))
