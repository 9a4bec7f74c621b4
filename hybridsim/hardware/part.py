"""What every part of a machine answers: its prices, the power it draws, its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from hybridsim.hardware.lane import Context
from hybridsim.hardware.price import Constants, Pricer, Reading, Tariffs
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.trace.ledger import STRENGTH


class Standing(NamedTuple):
    """A component that draws ``number`` times a power: ``power_w`` of one, on a sheet."""

    component: str
    power_w: Callable[[Constants], float]
    number: int

    def powers_w(self, sheet: Datasheet) -> tuple[float, float, float]:
        """Nominal, and with every constant of energy at the low and at the high end."""
        corners = (sheet, sheet.corner("low"), sheet.corner("high"))
        nominal, low, high = (self.power_w(corner) * self.number for corner in corners)
        return nominal, low, high


class StaticPower(NamedTuple):
    """Power that a part draws whatever it does: nominal, under the low and the high sheet."""

    part: str
    component: str
    power_w: float
    power_low_w: float
    power_high_w: float
    status: str
    source: str


class Basis(NamedTuple):
    """What prices of one category rest on: constants that were read, with their status."""

    part: str
    category: str
    time: dict[str, str]
    energy: dict[str, str]


class Limit(NamedTuple):
    """The most that a run needed of something that a part has so much of."""

    part: str
    name: str
    needed: float
    available: float

    @property
    def share(self) -> float:
        """How much of it was needed."""
        return self.needed / self.available if self.available else 0.0


class Part:
    """A part with a datasheet.

    A kind of part is a subclass: ``kind`` is the datasheet's (``scenario.datasheets.constants``),
    ``tariffs`` prices the requests that its operations make (``hardware.requests``). See
    ``hardware.kinds`` for how a machine finds it.
    """

    kind: ClassVar[str]
    tariffs: ClassVar[Tariffs]

    def __init__(self, context: Context, name: str, sheet: Datasheet) -> None:
        self.name, self.sheet = name, sheet
        self.context = context
        self.prices = Pricer(context.trace, sheet, self.tariffs)
        self._powers: dict[Standing, StaticPower] = {}

    def standing(self) -> list[Standing]:
        """What draws power whatever happens."""
        return []

    def static_power(self) -> list[StaticPower]:
        """The power that it draws, with its band, status and source."""
        return [self._power(row) for row in self.standing()]

    def limits(self) -> list[Limit]:
        """How much of what it has a run needed."""
        return []

    def basis(self) -> list[Basis]:
        """Which constants set the time and the energy of what it did."""
        constants = self.sheet.constants
        return [
            Basis(
                self.name,
                category,
                *({name: constants[name].status for name in sorted(names)} for names in read),
            )
            for category, read in self.prices.read.items()
        ]

    def _power(self, row: Standing) -> StaticPower:
        """What a component draws; its status is that of the weakest constant that it rests on."""
        if row in self._powers:  # asked for at every step
            return self._powers[row]
        reading = Reading(self.sheet)
        row.power_w(reading)
        entries = {name: self.sheet.constants[name] for name in sorted(reading.names)}
        status = min((entry.status for entry in entries.values()), key=STRENGTH.index)
        sources = [entry.source for entry in entries.values()]
        if len(entries) > 1:
            sources = [f"{name}: {entry.source}" for name, entry in entries.items()]
        powers_w = row.powers_w(self.sheet)
        found = StaticPower(self.name, row.component, *powers_w, status, "; ".join(sources))
        self._powers[row] = found
        return found
