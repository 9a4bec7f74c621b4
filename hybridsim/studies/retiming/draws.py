"""Constants drawn from the ranges of their datasheets, and what becomes of recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hybridsim.scenario.datasheets.constant import ConstantSpec
from hybridsim.scenario.datasheets.constants import CONSTANTS, HOST_CONSTANTS
from hybridsim.scenario.datasheets.sheets import Constant, Datasheet, kind_of
from hybridsim.scenario.imperfections import READ_WITH
from hybridsim.scenario.machine import EdgeSpec, GpuSpec, MachineSpec, NodeSpec, SpuSpec
from hybridsim.scenario.own_constants import part_choices
from hybridsim.scenario.quantity import Raw, format_quantity
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.questions.base import RangedConstant
from hybridsim.studies.retiming.recording import sheets_of

Sides = Mapping[str, Scenario]


class Owned(NamedTuple):
    """A ranged constant of one side's datasheet, with the name that it has in draws."""

    name: str
    sheet: str
    spec: ConstantSpec
    entry: Constant

    def stands_in(self, sheet: Datasheet) -> bool:
        """Whether a sheet has it, and not a value of the scenario's own."""
        if self.spec.name not in sheet.constants or _owner(sheet, self.spec) != self.sheet:
            return False
        entry = sheet.constants[self.spec.name]
        return (entry.value, entry.low, entry.high) == self.form

    @property
    def form(self) -> tuple[float, float, float]:
        """Value and range."""
        return self.entry.value, self.entry.low, self.entry.high


def ranged_constants(sides: Sides) -> list[RangedConstant]:
    """The constants that datasheets give a range, of all sides.

    One that sides share (the same datasheet, value and range) has one entry and takes one value;
    where sides differ in it, each has its own.
    """
    found: dict[str, RangedConstant] = {}
    for side, names in _owned(sides).items():
        for one in names:
            numeric = is_numeric(one.spec, sides[side])
            before = found.get(one.name)
            found[one.name] = RangedConstant(
                one.name,
                one.entry.value,
                one.entry.low,
                one.entry.high,
                one.spec.unit,
                one.entry.status,
                numeric or (before is not None and before.numeric),
                (*(before.sides if before is not None else ()), side),
            )
    return list(found.values())


def is_numeric(constant: ConstantSpec, scenario: Scenario) -> bool:
    """Whether a constant changes numbers that are computed: a resolution, the size of an
    imperfection that acts, and where the program reads the clock everything that may set a time.

    Of a constant that sets energies too (a full scale, a gain-bandwidth) only these are drawn: how
    large noise and offsets are beside it stays as it is.
    """
    if constant.resolution or constant.energy:
        return constant.resolution
    sizes = not _acting(scenario).isdisjoint(constant.numeric_with)
    return sizes or (scenario.training.algorithm.reads_clock and not constant.area)


def _acting(scenario: Scenario) -> frozenset[str]:
    """Imperfections of any SPU."""
    nodes = scenario.machine.expand().nodes
    acting = (node.imperfections for node in nodes if isinstance(node, SpuSpec))
    return frozenset[str]().union(*acting)


def owned(sides: Sides, side: str) -> list[Owned]:
    """The ranged constants of a side's machine."""
    return _owned(sides)[side]


def _owned(sides: Sides) -> dict[str, list[Owned]]:
    """By side; names that stand for different ranges are told apart by their sides."""
    found = {side: _ranged(scenario) for side, scenario in sides.items()}
    ranges: dict[str, dict[tuple[float, float, float], list[str]]] = {}
    for side, names in found.items():
        for one in names:
            ranges.setdefault(one.name, {}).setdefault(one.form, []).append(side)
    return {
        side: [
            one
            if len(ranges[one.name]) == 1
            else one._replace(name=f"{one.name} ({', '.join(ranges[one.name][one.form])})")
            for one in names
        ]
        for side, names in found.items()
    }


def _ranged(scenario: Scenario) -> list[Owned]:
    """The ranged constants of a machine, each once; those of imperfections that act."""
    found: dict[tuple[str, tuple[float, float, float]], Owned] = {}
    acting = _acting(scenario)
    for sheet in sheets_of(scenario.machine.expand()).values():
        for spec in CONSTANTS[kind_of(sheet)]:
            entry = sheet.constants[spec.name]
            if spec.name in READ_WITH and acting.isdisjoint(READ_WITH[spec.name]):
                continue
            if entry.low < entry.high:
                owner = _owner(sheet, spec)
                one = Owned(f"{owner}.{spec.key}", owner, spec, entry)
                found.setdefault((one.name, one.form), one)
    return list(found.values())


def _owner(sheet: Datasheet, spec: ConstantSpec) -> str:
    """Whose constant it is: GPUs of different parts have one host."""
    return "host" if spec.name in HOST_CONSTANTS else sheet.name


def drawn_machine(
    spec: MachineSpec, names: Sequence[Owned], setting: Mapping[str, float]
) -> MachineSpec:
    """The machine with constants at other values; whole ones are rounded.

    They change what is paid: imperfections keep the sizes that they have.
    """
    asked = [one for one in names if one.name in setting]
    once: dict[int, Datasheet] = {}

    def drawn(sheet: Datasheet) -> Datasheet:
        if id(sheet) not in once:
            mine = [one for one in asked if one.stands_in(sheet)]
            values = {one.spec.name: whole(one.spec, setting[one.name]) for one in mine}
            once[id(sheet)] = _changed(sheet, values)
        return once[id(sheet)]

    def placed(node: NodeSpec) -> NodeSpec:
        if isinstance(node, SpuSpec):
            return replace(node, sheet=drawn(node.sheet), sized_by=node.sizes)
        return replace(node, sheet=drawn(node.sheet)) if isinstance(node, GpuSpec) else node

    nodes = tuple(placed(node) for node in spec.nodes)
    edges: tuple[EdgeSpec, ...] = tuple(
        replace(edge, sheet=drawn(edge.sheet)) if edge.sheet is not None else edge
        for edge in spec.edges
    )
    return MachineSpec(nodes, edges)


def _changed(sheet: Datasheet, values: Mapping[str, float]) -> Datasheet:
    changed = {
        name: replace(sheet.constants[name], value=value, low=value, high=value)
        for name, value in values.items()
    }
    return replace(sheet, constants={**sheet.constants, **changed})


def whole(constant: ConstantSpec, value: float) -> float:
    """The value, rounded where the constant is a whole number."""
    return float(round(value)) if constant.whole else value


def fields_of(
    scenario: Scenario, names: Sequence[Owned], setting: Mapping[str, float]
) -> dict[str, Raw]:
    """The same change as fields of the scenario, for constants that change its numbers."""
    asked = [one for one in names if one.name in setting]
    return {
        f"{path}.{one.spec.key}": _raw(one.spec, setting[one.name])
        for path, choice, _ in part_choices(scenario)
        for one in asked
        if one.stands_in(choice.sheet(scenario.machine.constants))
    }


def _raw(constant: ConstantSpec, value: float) -> Raw:
    """A constant as a scenario file writes it."""
    if constant.resolution:
        return round(value) or "ideal"
    if constant.unit:
        return format_quantity(value, constant.unit)
    return round(value) if constant.whole else value
