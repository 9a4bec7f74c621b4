"""Whether a recorded program would have done the same things under other constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hybridsim.dry import DryRun
from hybridsim.hardware.size import too_large
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.datasheets.sheets import Datasheet, kind_of
from hybridsim.scenario.machine import MachineSpec, SpuSpec
from hybridsim.studies.retiming.recording import Recording, sheets_of

_CAPACITIES = {
    "memory_byte": "memory_capacity_byte",
    "cells": "cells",
    "resistors": "resistors",
}
"""Limits that a run may not pass, and the constants that set them."""
_MOST_LEAVES = 64
"""Moments that are the later of more ends than these are not looked into."""


class Order:
    """What must hold of the moments of a draw.

    Requests of a shared resource come in the recorded order. Two at the same instant keep it where
    both follow from the end of the same single operation: then the program itself, not the clock,
    says who comes first. Other ties fail.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        graph = recording.graph
        pairs = {
            (int(one), int(next_one))
            for order in recording.orders
            for one, next_one in zip(order, order[1:], strict=False)
            if one != next_one
        }
        # where one follows from the other by construction it is never before it
        self._pairs = np.array(sorted(pairs), dtype=int).reshape(-1, 2)
        self._first, self._second = graph.first, graph.second
        self._leaves: dict[int, frozenset[int] | None] = {}
        last = recording.steps[-1].moment if recording.steps else 0
        self._last = last
        first_open = len(recording.spans) - recording.open
        self._open = recording.ends[first_open:]
        self._plan = recording.plan
        self._dry_run = DryRun(recording.scenario, recording.task)

    def kept(self, moments: np.ndarray) -> np.ndarray:
        """(draws,): no request overtakes another, and ties are the program's own."""
        gaps = moments[self._pairs[:, 1]] - moments[self._pairs[:, 0]]
        valid: np.ndarray = (gaps >= 0).all(axis=0)
        tied = gaps == 0
        for pair in np.flatnonzero(tied[:, valid].any(axis=1)):
            draws = np.flatnonzero(tied[pair] & valid)
            one, other = self._pairs[pair].tolist()
            valid[draws] = self._same_cause(one, other, moments, draws)
        return valid

    def _same_cause(
        self, one: int, other: int, moments: np.ndarray, draws: np.ndarray
    ) -> np.ndarray:
        """For each of these draws: both moments are the end of one and the same operation, and of
        no other.
        """
        leaves, others = self._ends(one), self._ends(other)
        if leaves is None or others is None:
            return np.zeros(len(draws), dtype=bool)
        now = moments[one, draws]
        common, every = (np.array(sorted(nodes)) for nodes in (leaves & others, leaves | others))
        at_now = moments[every[:, None], draws] == now
        shared = np.isin(every, common)
        result: np.ndarray = (at_now.sum(axis=0) == 1) & at_now[shared].any(axis=0)
        return result

    def _ends(self, node: int) -> frozenset[int] | None:
        """The ends of operations of which a moment is the latest; None: too many."""
        if node not in self._leaves:
            found, stack = set[int](), [node]
            while stack and len(found) <= _MOST_LEAVES:
                here = stack.pop()
                if self._second[here] < 0 or here == 0:
                    found.add(here)
                elif here not in found:
                    stack += [self._first[here], self._second[here]]
            self._leaves[node] = frozenset(found) if len(found) <= _MOST_LEAVES else None
        return self._leaves[node]

    def ended(self, moments: np.ndarray) -> np.ndarray:
        """(draws,): what was in flight at the end still is; else more would have followed."""
        result: np.ndarray = (moments[self._open] > moments[self._last]).all(axis=0)
        return result

    def decided(self, machine: MachineSpec) -> bool:
        """Everything fits as it did, messages fly where they did, and the program decides alike."""
        sheets = sheets_of(machine)
        if not (self._fits(sheets) and self._flies(sheets)) or self._too_large(machine):
            return False
        if self._recording.fixed_ps is not None:
            return self._times(sheets) == self._times(self._recording.sheets)
        return self._plan is None or self._dry_run.plan(machine) == self._plan

    @staticmethod
    def _times(sheets: Mapping[str, Datasheet]) -> list[tuple[str, str, float]]:
        """All constants but those of energy and of area."""
        return [
            (name, spec.name, sheet.value(spec.name))
            for name, sheet in sorted(sheets.items())
            for spec in CONSTANTS[kind_of(sheet)]
            if not (spec.energy or spec.area)
        ]

    def _fits(self, sheets: Mapping[str, Datasheet]) -> bool:
        return all(
            limit.needed <= sheets[limit.part].value(_CAPACITIES[limit.name])
            for limit in self._recording.limits
            if limit.name in _CAPACITIES
        )

    def _too_large(self, machine: MachineSpec) -> bool:
        loads = self._recording.loads
        spus = (node for node in machine.nodes if isinstance(node, SpuSpec))
        return any(too_large(node, loads[node.name]) for node in spus if node.name in loads)

    def _flies(self, sheets: Mapping[str, Datasheet]) -> bool:
        return all(
            (sheet.value("latency_s") > 0) == (sheets[name].value("latency_s") > 0)
            for name, sheet in self._recording.sheets.items()
            if sheet.kind == "link"
        )
