"""Durations of all that parts are asked for, with every constant of time at its fastest and at its
slowest end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybridsim.hardware.kinds import duration_ps
from hybridsim.hardware.requests import Drift, Propagate, Request, Settle, Transmit
from hybridsim.results.keys import Json

_FAR = 1e6
"""Beyond any range: shows which way a constant works that decides nothing near its value."""
_TRIED = 16
"""Requests that a constant's direction is found with."""

_ENDS_FIRST = (0, 2, 1)


class Asked(NamedTuple):
    """What a part is asked for."""

    part: str
    request: Request


class Sheet:
    """A datasheet's constants with their ranges; parts alike share one."""

    def __init__(self, kind: str, constants: Mapping[str, Mapping[str, Json]]) -> None:
        self.kind = kind
        self.ends = {
            name: (float(entry["low"]), float(entry["value"]), float(entry["high"]))
            for name, entry in constants.items()
        }


Constant = tuple[Sheet, str]
Moved = Mapping[Constant, float]


def sheets_of(machine: Mapping[str, Sequence[Mapping[str, Json]]]) -> dict[str, Sheet]:
    """The datasheets of a machine's parts by their names, from a run's manifest."""
    known: dict[str, Sheet] = {}
    found = {}
    for item in [*(machine.get("nodes") or ()), *(machine.get("edges") or ())]:
        given = item.get("sheet")
        if given:
            key = json.dumps(given, sort_keys=True, default=str)
            sheet = known.setdefault(key, Sheet(str(given["kind"]), given["constants"]))
            found[str(item["name"])] = sheet
    return found


def stripped(request: Request) -> Request:
    """A request without what its time does not depend on, so that equal ones are one."""
    return request._replace(dissipation=None) if isinstance(request, Settle | Drift) else request


class _View:
    """A part's sheet with some constants moved; it tells what is read of it."""

    def __init__(self, sheet: Sheet, moved: Moved, read: set[Constant]) -> None:
        self.kind = sheet.kind
        self._sheet, self._moved, self._read = sheet, moved, read

    def value(self, name: str) -> float:
        """A constant by its SI name."""
        constant = (self._sheet, name)
        self._read.add(constant)
        return self._moved.get(constant, self._sheet.ends[name][1])


class Ends(NamedTuple):
    """Picoseconds of everything asked, in its order."""

    nominal: list[int]
    fastest: list[int]
    slowest: list[int]


def ends_ps(asked: Sequence[Asked], sheets: Mapping[str, Sheet]) -> Ends:
    """Durations under the nominal sheets, and with every constant of time at its fastest and at its
    slowest end. Which end is which is found by trying.

    Raises:
        KeyError: a part has no sheet.
    """
    once = {_identity(one, sheets): one for one in asked}
    readers: dict[Constant, list[Asked]] = {}
    for one in once.values():
        read = set[Constant]()
        _duration_ps(one, sheets, {}, read)
        for constant in read:
            low, _, high = constant[0].ends[constant[1]]
            if low < high:
                readers.setdefault(constant, []).append(one)
    fastest, slowest = dict[Constant, float](), dict[Constant, float]()
    for constant, own in readers.items():
        fastest[constant], slowest[constant] = _fast_and_slow(constant, own, sheets)
    found = []
    for moved in ({}, fastest, slowest):
        times = {key: _duration_ps(one, sheets, moved, set()) for key, one in once.items()}
        found.append([times[_identity(one, sheets)] for one in asked])
    return Ends(*found)


def _identity(one: Asked, sheets: Mapping[str, Sheet]) -> tuple[object, ...]:
    """Equal for what takes equally long whatever the constants are."""
    request = one.request
    if isinstance(request, Transmit | Propagate):
        wires = tuple(sheets[wire] for wire in request.wires)
        return (type(request), wires, request._replace(wires=()))
    return (type(request), sheets[one.part], request)


def _duration_ps(one: Asked, sheets: Mapping[str, Sheet], moved: Moved, read: set[Constant]) -> int:
    wires = one.request.wires if isinstance(one.request, Transmit | Propagate) else ()
    views = {part: _View(sheets[part], moved, read) for part in (one.part, *wires)}
    return duration_ps(one.part, one.request, views)


def _fast_and_slow(
    constant: Constant, readers: Sequence[Asked], sheets: Mapping[str, Sheet]
) -> tuple[float, float]:
    """Values of a constant at which operations take shortest and longest."""
    tried = readers[:: max(len(readers) // _TRIED, 1)]
    ends = constant[0].ends[constant[1]]

    def total_ps(value: float) -> int:
        return sum(_duration_ps(one, sheets, {constant: value}, set()) for one in tried)

    times = [total_ps(value) for value in ends]
    if _differ(times, len(tried)):
        # an end where its nominal value does as well: others that move may make a difference
        fast = min(_ENDS_FIRST, key=lambda i: times[i] > min(times) + len(tried))
        slow = min(_ENDS_FIRST, key=lambda i: times[i] < max(times) - len(tried))
        return ends[fast], ends[slow]
    low, value, high = ends
    # it decides nothing alone, and may where others have moved
    far = [total_ps(value / _FAR), total_ps(value * _FAR)] if value else [0, 0]
    if not _differ(far, len(tried)):
        return value, value
    return (low, high) if far[0] < far[1] else (high, low)


def _differ(times: Sequence[int], rounded: int) -> bool:
    """By more than as many roundings to whole picoseconds."""
    return max(times) - min(times) > rounded
