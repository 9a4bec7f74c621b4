"""Constants of parts that the user answers for: of the scenario, or of a datasheet of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridsim.scenario.choices import GpuChoice, LinkChoice, PartChoice, SpuChoice
from hybridsim.scenario.datasheets.constant import ConstantSpec
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.machine import EdgeSpec, GpuSpec, NodeSpec, SpuSpec
from hybridsim.scenario.schema import Scenario


class OwnConstants(NamedTuple):
    """A part's: its path in the scenario, and which nodes or edges of the machine it becomes."""

    path: str
    constants: list[ConstantSpec]
    is_mine: Callable[[NodeSpec | EdgeSpec], bool]


def own_constants(scenario: Scenario) -> list[OwnConstants]:
    """Parts with constants that the scenario sets; all constants of a datasheet of the user's."""
    found = [OwnConstants(path, _asked(part), mine) for path, part, mine in part_choices(scenario)]
    return [own for own in found if own.constants]


def _asked(choice: PartChoice) -> list[ConstantSpec]:
    """The constants that the user answers for."""
    specs = CONSTANTS[choice.part_kind]
    if choice.part.endswith((".yaml", ".yml")):
        return list(specs)
    given = choice.overrides()
    return [spec for spec in specs if spec.name in given]


def part_choices(
    scenario: Scenario,
) -> Iterator[tuple[str, PartChoice, Callable[[NodeSpec | EdgeSpec], bool]]]:
    """Every part that the scenario chooses: its path, itself, and which nodes or edges of the
    machine it becomes.
    """
    machine = scenario.machine
    if machine.gpu is not None:
        yield ("machine.gpu", machine.gpu, lambda part: isinstance(part, GpuSpec))
        if machine.gpu.interconnect is not None:
            path = "machine.gpu.interconnect"
            yield (path, machine.gpu.interconnect, _is_interconnect)
    if machine.link is not None:
        yield (
            "machine.link",
            machine.link,
            lambda part: isinstance(part, EdgeSpec) and not _is_interconnect(part),
        )
    if machine.spus is not None:
        yield ("machine.spus", machine.spus, lambda part: isinstance(part, SpuSpec))
    for name, node in (machine.nodes or {}).items():
        if isinstance(node, GpuChoice | SpuChoice):
            yield (f"machine.nodes.{name}", node, _named(name))
    for index, edge in enumerate(machine.edges or ()):
        if isinstance(edge.link, LinkChoice):
            path = f"machine.edges[{index}].link"
            yield (path, edge.link, _named("-".join(edge.between)))


def _is_interconnect(part: NodeSpec | EdgeSpec) -> bool:
    return isinstance(part, EdgeSpec) and "fabric" in (part.a, part.b)


def _named(name: str) -> Callable[[NodeSpec | EdgeSpec], bool]:
    return lambda part: part.name == name
