"""A recording under other constants: moments of all draws at once, checked for the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import MachineSpec
from hybridsim.studies.retiming.order import Order
from hybridsim.studies.retiming.prices import Prices, prices
from hybridsim.studies.retiming.recording import Recording, sheets_of

_AT_ONCE = 256
"""Draws whose moments are held in memory together."""


@dataclass(frozen=True)
class Retimed:
    """What a recording becomes under other machines.

    Attributes:
        valid: (draws,) whether shared resources are asked for in the recorded order; where not,
            the other numbers mean nothing.
        end_ps: (draws, steps) end of every step.
        joules: (draws, steps) energy up to there, as the learning curve has it.
        run_joules: (draws,) of the whole run.
    """

    valid: np.ndarray
    end_ps: np.ndarray
    joules: np.ndarray
    run_joules: np.ndarray


def retime(recording: Recording, machines: Sequence[MachineSpec]) -> Retimed:
    """The steps' ends and energies on machines that differ from the recorded one in costs alone.

    A moment is ``max(its two)`` or ``start + duration``; a first-in, first-out server's order is
    part of the moments, so that a draw counts only where every shared resource is asked for in the
    recorded order (``order``), where everything fits, and where nothing that was in flight at the
    end would have ended.
    """
    order = Order(recording)
    found = [
        _some(recording, order, machines[first : first + _AT_ONCE])
        for first in range(0, len(machines), _AT_ONCE)
    ]
    steps = len(recording.steps)
    if not found:
        nothing = np.zeros((0, steps))
        return Retimed(np.zeros(0, bool), nothing.astype(np.int64), nothing, np.zeros(0))
    fields = ("valid", "end_ps", "joules", "run_joules")
    return Retimed(*(np.concatenate([getattr(part, name) for part in found]) for name in fields))


def moments_of(recording: Recording, priced: Sequence[Prices]) -> np.ndarray:
    """(nodes, draws): when every moment is, in picoseconds."""
    if recording.fixed_ps is not None:
        return np.repeat(recording.fixed_ps[:, None], len(priced), axis=1)
    durations = np.stack([one.durations_ps for one in priced], axis=1)
    asked = {row.id: kind for row, kind in zip(recording.spans, recording.asked_of, strict=True)}
    graph = recording.graph
    moments = np.zeros((len(graph.first), len(priced)), dtype=np.int64)
    rows, lengths = list(moments), list(durations)
    for node in range(1, len(rows)):
        second = graph.second[node]
        if second >= 0:
            np.maximum(rows[graph.first[node]], rows[second], out=rows[node])
        else:
            np.add(rows[graph.first[node]], lengths[asked[-1 - second]], out=rows[node])
    return moments


def _some(recording: Recording, order: Order, machines: Sequence[MachineSpec]) -> Retimed:
    sheets = [sheets_of(machine) for machine in machines]
    priced = [prices(recording.asked, own) for own in sheets]
    moments = moments_of(recording, priced)
    valid = order.kept(moments) & order.ended(moments)
    valid &= np.array([ok and order.decided(own) for ok, own in zip(valid, machines, strict=True)])
    end_ps = moments[[step.moment for step in recording.steps]].T
    joules, run_joules = np.full(end_ps.shape, np.nan), np.full(len(machines), np.nan)
    for draw in range(len(machines)):
        if valid[draw]:
            powers_w = _powers_w(recording, sheets[draw])
            joules[draw], run_joules[draw] = _energies(
                recording, priced[draw], moments[:, draw], powers_w
            )
    return Retimed(valid, end_ps, joules, run_joules)


def _powers_w(recording: Recording, sheets: dict[str, Datasheet]) -> list[float]:
    """Static power by the end of each step."""
    return [
        sum(
            row.power_w(sheets[part]) * row.number
            for part, rows in step.standing.items()
            for row in rows
        )
        for step in recording.steps
    ]


def _energies(
    recording: Recording, priced: Prices, moments: np.ndarray, powers_w: list[float]
) -> tuple[np.ndarray, float]:
    """Energy up to every step's end, and of the run.

    Spans are added up in the order in which they end, as the run adds them up.
    """
    ends = moments[recording.ends]
    joules = priced.joules[recording.asked_of] * recording.amounts
    turn = np.argsort(ends, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(joules[turn])))
    marks_ps = moments[[step.moment for step in recording.steps]]
    ended = np.searchsorted(ends[turn], marks_ps, side="right")
    powers = np.array(powers_w)
    steps_j = sums[ended] + powers * marks_ps * 1e-12
    run_j = (joules * shares_of(recording, moments)).sum() + powers[-1] * marks_ps[-1] * 1e-12
    return steps_j, float(run_j)


def shares_of(recording: Recording, moments: np.ndarray) -> np.ndarray:
    """(spans,): how much of each operation was done when the run ended."""
    ends, starts = moments[recording.ends], moments[recording.starts]
    end_ps = moments[recording.steps[-1].moment]
    shares = np.clip((end_ps - starts) / np.maximum(ends - starts, 1), 0.0, 1.0)
    shares[ends <= end_ps] = 1.0
    found: np.ndarray = shares
    return found
