"""What every part of a machine answers: its prices, the power it draws, its limits."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from hybridsim.hardware.lane import Context
from hybridsim.hardware.price import Pricer, Tariffs
from hybridsim.scenario.datasheets.sheets import Datasheet


class Standing(NamedTuple):
    """A component that draws ``number`` times a constant of power."""

    component: str
    constant: str
    number: int


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

    def standing(self) -> list[Standing]:
        """What draws power whatever happens."""
        return []

    def static_power(self) -> list[StaticPower]:
        """The power that it draws, with its band, status and source."""
        return [self._power(*row) for row in self.standing()]

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

    def _power(self, component: str, constant: str, number: int) -> StaticPower:
        """``number`` times a constant."""
        entry = self.sheet.constants[constant]
        power_w = (entry.value * number, entry.low * number, entry.high * number)
        return StaticPower(self.name, component, *power_w, entry.status, entry.source)
