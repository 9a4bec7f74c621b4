"""Constants of parts that change no number of a run: found by changing each and trying.

A constant may be read and still decide nothing (a peak where memory is always slower), and what is
read depends on the network. So nothing is derived here: two steps are run without tensors, again
with the constant changed, and what was recorded is compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from hybridsim.dry import DryRun, Recorded
from hybridsim.errors import HybridsimError
from hybridsim.hardware.extent import Size
from hybridsim.scenario.datasheets.constant import MOST_BITS, ConstantSpec
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import GpuSpec, MachineSpec, SpuSpec
from hybridsim.scenario.own_constants import OwnConstants, own_constants
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.workload_options import check_options
from hybridsim.tasks import task as tasks
from hybridsim.tasks.task import Task

_STEPS = (2.0, 0.5)
"""What a constant is multiplied with; one that is zero becomes one. Costs rise or fall with every
constant, so that what changes nothing at both ends changes nothing between them."""

Change = Callable[[Datasheet], Datasheet]


def unread_constants(scenario: Scenario, task: Task) -> list[str]:
    """Paths of the user's own constants that change no number of the run.

    Each is tried within a factor of two of its value.

    Args:
        scenario: the scenario.
        task: its workload, loaded.

    Raises:
        InputError: something does not fit.
    """
    asked = own_constants(scenario)
    if not asked:
        return []
    dry_run, spec = DryRun(scenario, task), scenario.machine.expand()
    before = dry_run.recorded(spec)
    return [
        f"{own.path}.{constant.key} (no operation of this run depends on it within a factor of 2)"
        for own in asked
        for constant in own.constants
        if not _matters(dry_run, before, spec, own, constant)
    ]


def sizes_of(scenario: Scenario, task: Task) -> list[Size]:
    """How large the scenario's SPUs are, once everything is known to fit.

    Args:
        scenario: the scenario.
        task: its workload, loaded.

    Raises:
        InputError: something does not fit.
    """
    sizes = DryRun(scenario, task).recorded(scenario.machine.expand()).sizes
    return sizes if scenario.training.algorithm.needs_spu else []


def load_shapes(scenario: Scenario) -> Task:
    """The scenario's workload without numbers, which is all that is needed here.

    Raises:
        InputError: the workload cannot be loaded.
    """
    check_options(scenario)
    workload, folder = scenario.workload, os.environ.get("HYBRIDSIM_DATA")
    task = tasks.load_shapes(workload.source, dict(workload.options), folder)
    return task.to("meta", getattr(torch, scenario.training.precision))


def _matters(
    dry_run: DryRun,
    before: Recorded,
    spec: MachineSpec,
    own: OwnConstants,
    constant: ConstantSpec,
) -> bool:
    mine = [node for node in spec.nodes if isinstance(node, SpuSpec) and own.is_mine(node)]
    if any(not node.imperfections.isdisjoint(constant.numeric_with) for node in mine):
        return True  # it changes tensors, which are not computed here
    for change in _changes(constant):
        try:
            after = dry_run.recorded(_changed(spec, own, change))
        except HybridsimError:  # it no longer fits: so it matters
            return True
        if after != before:
            return True
    return False


def _changes(constant: ConstantSpec) -> Iterator[Change]:
    """Datasheets with the constant, its range included, at other values that are allowed."""
    for factor in _STEPS:

        def change(sheet: Datasheet, factor: float = factor) -> Datasheet:
            old = sheet.constants[constant.name]
            new = old.value * factor if old.value else 1.0
            if constant.whole:
                new = max(round(new), 1) if round(new) != old.value else old.value + 1
            if constant.resolution and not old.value:
                new = MOST_BITS * factor / _STEPS[0]
            if constant.at_most is not None:
                new = min(new, constant.at_most)
            if not constant.contains(new):
                new = old.value
            changed = replace(old, value=new, low=new, high=new)
            return replace(sheet, constants={**sheet.constants, constant.name: changed})

        yield change


def _changed(spec: MachineSpec, own: OwnConstants, change: Change) -> MachineSpec:
    nodes = tuple(
        replace(node, sheet=change(node.sheet))
        if isinstance(node, GpuSpec | SpuSpec) and own.is_mine(node)
        else node
        for node in spec.nodes
    )
    edges = tuple(
        replace(edge, sheet=change(edge.sheet))
        if edge.sheet is not None and own.is_mine(edge)
        else edge
        for edge in spec.edges
    )
    return MachineSpec(nodes, edges)
