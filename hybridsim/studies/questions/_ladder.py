"""Shipped parts from worst to best, and the next one up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridsim.scenario.datasheets.constants import CONSTANTS, PartKind
from hybridsim.scenario.datasheets.sheets import Datasheet, load_part, part_names
from hybridsim.scenario.own_constants import part_choices
from hybridsim.scenario.quantity import Raw
from hybridsim.scenario.schema import Scenario

_SAME = 1e-12
"""Relative differences below this are rounding."""
_RANKS: dict[PartKind, tuple[Callable[[Datasheet], float], ...]] = {
    "gpu": (
        lambda sheet: sheet.value("peak_fp32_flop_per_s"),
        lambda sheet: sheet.value("memory_bandwidth_byte_per_s"),
    ),
    "link": (
        lambda sheet: sheet.value("bandwidth_bit_per_s"),
        lambda sheet: -sheet.value("latency_s"),
    ),
    "spu": (lambda sheet: -sheet.value("resistance_ohm") * sheet.value("capacitance_f"),),
}
"""What makes a part better: the first number that differs."""
_HOLDS: dict[PartKind, tuple[str, ...]] = {"spu": ("cells", "resistors")}
"""Of what a better part has no less."""
BY = {
    "gpu": "FP32 peak, then memory bandwidth",
    "link": "bandwidth, then latency",
    "spu": "time constant RC, of those that hold as much",
}


class Rung(NamedTuple):
    """A part of a machine and the next better one that is shipped.

    Attributes:
        path: where it stands in the scenario, the first of several alike.
        kind: gpu, link or spu.
        part: what stands there.
        better: the next one up; None: there is none.
        change: fields of the scenario that put it there.
        stays: constants that the scenario sets itself, which stay.
    """

    path: str
    kind: PartKind
    part: str
    better: str | None
    change: dict[str, Raw]
    stays: tuple[str, ...]


def rungs(scenario: Scenario) -> list[Rung]:
    """Every part of a scenario's machine; nodes and edges that are alike are one."""
    found: dict[tuple[PartKind, str, str], Rung] = {}
    constant_set = scenario.machine.constants
    for path, choice, _ in part_choices(scenario):
        kind, own = choice.part_kind, choice.overrides()
        given = tuple(spec.key for spec in CONSTANTS[kind] if spec.name in own)
        general = path.startswith(("machine.nodes", "machine.edges"))
        key = (kind, choice.part, str(sorted(own.items())) if general else path)
        before = found.get(key)
        if before is None:
            better = next_up(kind, choice.part, choice.sheet(constant_set), constant_set)
            before = Rung(path, kind, choice.part, better, {}, given)
        if before.better is not None:
            before.change[f"{path}.part"] = before.better
        found[key] = before
    return list(found.values())


def next_up(kind: PartKind, own: str, sheet: Datasheet, constant_set: str) -> str | None:
    """The least good of the shipped parts that are better than a datasheet."""
    better = [
        (rank, name)
        for name in part_names(kind)
        if name != own
        and _holds(kind, other := load_part(kind, name).with_set(constant_set), sheet)
        and _above(rank := _rank(kind, other), _rank(kind, sheet))
    ]
    return min(better)[1] if better else None


def _holds(kind: PartKind, one: Datasheet, other: Datasheet) -> bool:
    return all(one.value(name) >= other.value(name) for name in _HOLDS.get(kind, ()))


def _rank(kind: PartKind, sheet: Datasheet) -> tuple[float, ...]:
    return tuple(number(sheet) for number in _RANKS[kind])


def _above(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return next(_differences(one, other), 0.0) > 0


def _differences(one: tuple[float, ...], other: tuple[float, ...]) -> Iterator[float]:
    for a, b in zip(one, other, strict=True):
        if abs(a - b) > _SAME * max(abs(a), abs(b)):
            yield a - b
