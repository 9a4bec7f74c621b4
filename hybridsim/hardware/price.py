"""One price formula: what a request costs on a datasheet, within which band, resting on what.

Every form of request has a :class:`Tariff`: pure functions of constants and request, for the time
and for the energy it takes. The band is the same formula under the low and the high sheet (all
constants of energy at that end, the schedule as it is); what it rests on is recorded as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hybridsim.hardware.requests import Request, amounts, encode, note, repeats
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.trace.spans import Trace


class Constants(Protocol):
    """What a formula reads."""

    def value(self, name: str) -> float:
        """A constant by its SI name."""


class Time(NamedTuple):
    """``busy_ps``: the share in which the part does the work it is for."""

    duration_ps: int
    busy_ps: int


def nothing(constants: Constants, request: Request) -> float:
    """The energy of what takes none."""
    return 0.0


@dataclass(frozen=True)
class Tariff:
    """How requests of one form are priced.

    Attributes:
        category: what their spans are called in reports' groups.
        time: (constants, request) -> Time.
        energy: (constants, request) -> joules.
        falls_with: constants with which the energy falls: at their high end in the low sheet.
    """

    category: str
    # Any: each function takes the form of request that it is filed under
    time: Callable[[Constants, Any], Time]
    energy: Callable[[Constants, Any], float] = nothing
    falls_with: frozenset[str] = frozenset()


Tariffs = Mapping[type, Tariff]


class Price(NamedTuple):
    """Time, and joules under the nominal, the low and the high sheet."""

    duration_ps: int
    busy_ps: int
    energy_j: float
    energy_low_j: float
    energy_high_j: float


def price_of(sheet: Datasheet, tariff: Tariff, request: Request) -> Price:
    """A request under one tariff: nominal, and the energy under the low and the high sheet."""
    low, high = (sheet.corner(end, tariff.falls_with) for end in ("low", "high"))
    energies = (tariff.energy(constants, request) for constants in (sheet, low, high))
    return Price(*tariff.time(sheet, request), *energies)


class Reading:
    """A sheet that remembers what was read of it."""

    def __init__(self, sheet: Datasheet) -> None:
        self._sheet = sheet
        self.names: set[str] = set()

    def value(self, name: str) -> float:
        """A constant by its SI name."""
        self.names.add(name)
        return self._sheet.value(name)


class Quote(NamedTuple):
    """A price that is ready to be recorded.

    ``row``: the cells of a span from ``busy_ps`` to ``request``; ``repeats``: equal operations.
    """

    duration_ps: int
    category: str
    row: tuple[int, float, float, int, int, int, int, float, float, float, int]
    repeats: int = 1
    note: str = ""


class Pricer:
    """Prices the requests of one part and keeps the table of them.

    ``read``: by category, the constants that times and those that energies rest on.
    """

    def __init__(self, trace: Trace, sheet: Datasheet, tariffs: Tariffs) -> None:
        self.sheet = sheet
        self._trace, self._tariffs = trace, tariffs
        corners = {tariff.falls_with for tariff in tariffs.values()}
        self._ends = {
            falls: (sheet.corner("low", falls), sheet.corner("high", falls)) for falls in corners
        }
        self._known: dict[tuple[type, Request], Quote] = {}
        self.read: dict[str, tuple[set[str], set[str]]] = {}

    def quote(self, request: Request) -> Quote:
        """The price of a request, remembered; for requests that come again."""
        # tuples of different types may be equal, as a Convert and a Measure are
        key = (type(request), request)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.quote_once(request, again=True)
        return found

    def quote_once(self, request: Request, *, again: bool = False) -> Quote:
        """As ``quote``, not remembered: for a request that is one of its kind."""
        duration_ps, busy_ps, nominal, low, high = self.price(request)
        row = self._trace.request(*encode(request), again=again)
        category = self._tariffs[type(request)].category
        cells = (busy_ps, *amounts(request), nominal, low, high, row)
        return Quote(duration_ps, category, cells, repeats(request), note(request))

    def price(self, request: Request) -> Price:
        """Time and energy of a request with its band."""
        tariff = self._tariffs[type(request)]
        low, high = self._ends[tariff.falls_with]
        timing, energies = Reading(self.sheet), Reading(self.sheet)
        time, energy_j = tariff.time(timing, request), tariff.energy(energies, request)
        times, joules = self.read.setdefault(tariff.category, (set(), set()))
        times |= timing.names
        joules |= energies.names
        return Price(*time, energy_j, tariff.energy(low, request), tariff.energy(high, request))

    def duration_ps(self, request: Request) -> int:
        """Time of a request that is not made, for predictions."""
        return self._tariffs[type(request)].time(self.sheet, request).duration_ps
