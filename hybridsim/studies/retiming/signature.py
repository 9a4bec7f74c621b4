"""What two scenarios must share so that one's recording serves the other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hybridsim.hardware.device import device_of
from hybridsim.scenario.datasheets.constants import CONSTANTS, PART_KINDS
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import GpuSpec, MachineSpec, SpuSpec
from hybridsim.scenario.schema import Scenario

STRUCTURAL = frozenset({"number_bits"})
"""Constants that change what is asked of parts."""
_AREAS = frozenset(spec.name for spec in CONSTANTS["spu"] if spec.area)
_ELSEWHERE = ("name", "machine", "thresholds")


def numeric_constants() -> frozenset[str]:
    """SI names of constants that change numbers that are computed: resolutions."""
    specs = (spec for kind in PART_KINDS for spec in CONSTANTS[kind])
    return frozenset(spec.name for spec in specs if spec.resolution)


def cost_signature(scenario: Scenario) -> str:
    """Equal for scenarios that differ in nothing but constants of cost (and in their names).

    Such scenarios compute equal numbers and ask parts for the same things, unless the program
    decides by the constants, which a recording checks. Where the program reads the clock
    (asynchronous TNGD) every constant of the machine counts but those of area.
    """
    document = {k: v for k, v in scenario.document().items() if k not in _ELSEWHERE}
    every = scenario.training.algorithm.reads_clock
    kept = None if every else numeric_constants() | STRUCTURAL
    parts = [document, _machine(scenario.machine.expand(), kept)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _machine(spec: MachineSpec, kept: frozenset[str] | None) -> list[Any]:  # Any: goes to JSON
    """The machine's form; of its constants those that are ``kept`` (None: all but areas)."""
    nodes = []
    for node in spec.nodes:
        sheet = node.sheet if isinstance(node, GpuSpec | SpuSpec) else None
        spu = [node.buffering, node.area_limit_m2] if isinstance(node, SpuSpec) else []
        timed = [node.graphs] if kept is None and isinstance(node, GpuSpec) else []
        row: list[object] = [node.name, node.kind, *spu, _constants(sheet, kept), *timed]
        if isinstance(node, SpuSpec) and node.imperfections:
            row += [sorted(node.imperfections), repr(device_of(node))]
        nodes.append(row)
    edges = [[e.name, e.a, e.b, e.chunk_bits, _constants(e.sheet, kept)] for e in spec.edges]
    return [nodes, edges]


def _constants(sheet: Datasheet | None, kept: frozenset[str] | None) -> dict[str, float] | None:
    if sheet is None:
        return None
    return {
        name: constant.value
        for name, constant in sheet.constants.items()
        if (name not in _AREAS if kept is None else name in kept)
    }
