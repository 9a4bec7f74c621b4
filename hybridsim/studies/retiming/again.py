"""A recorded run on another machine, simulated: what retiming must equal, and what replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simpy

from hybridsim.algorithms.session import Session
from hybridsim.dry import run_watched
from hybridsim.errors import CapacityError, MissingFacts
from hybridsim.execute import Watched
from hybridsim.scenario.machine import MachineSpec
from hybridsim.studies.retiming.recording import Recording
from hybridsim.trace.spans import Rows, Trace


class Simulated(NamedTuple):
    """``end_ps`` (steps,), ``joules`` (steps,) up to there, ``run_joules`` of the whole run."""

    end_ps: np.ndarray
    joules: np.ndarray
    run_joules: float


def simulated(recording: Recording, facts: Path | None, machine: MachineSpec) -> Simulated | None:
    """The recorded program on another machine; None: it would compute other numbers there, or does
    not fit.

    Args:
        recording: what was recorded.
        facts: the fact store that it was recorded from; None for a timing-only recording.
        machine: differs in constants of cost alone.
    """
    trace = _Lines(simpy.Environment())
    watched = Watched(trace.env, trace)
    try:
        run_watched(
            recording.scenario,
            recording.task,
            recording.mode,
            facts,
            watched,
            trace.attend,
            machine,
        )
    except (MissingFacts, CapacityError):
        return None
    end_ps = np.array([int(row["end_ps"]) for row in trace.lines], dtype=np.int64)
    joules = np.array([float(row["energy_j"]) for row in trace.lines])
    return Simulated(end_ps, joules, trace.total_j())


class _Lines(Trace):
    """A trace that keeps the learning curve and forgets the spans."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(self, lambda: int(env.now), chunk_s=float("inf"))
        self.env = env
        self.lines: list[Mapping[str, Any]] = []  # Any: facts of the algorithm's own
        self.session: Session[Any] | None = None  # Any: whatever the algorithm's settings

    def attend(self, session: Session[Any]) -> None:  # Any: likewise
        """The run that is going to be traced."""
        self.session = session

    def write(self, rows: Rows) -> None:
        """Keep the lines."""
        self.lines += rows.steps

    def total_j(self) -> float:
        """Energy of all spans, cut ones in part, and static power over the makespan."""
        assert self.session is not None, "it has run"
        static_w = sum(row.power_w for row in self.session.machine.static_power())
        return float(self.energy_j + static_w * self.end_ps * 1e-12)
