"""The table of measurements: filled round by round until the time is up, taken up again where it
was left.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hybridsim.calibration.clock import Clock, Timing, clock_of
from hybridsim.calibration.families import Case, check_case, operands
from hybridsim.calibration.networks import STEP, scenario_of, task_of
from hybridsim.calibration.plan import Asked, Device, rounds
from hybridsim.calibration.steps import timed_steps
from hybridsim.errors import InputError, Problem
from hybridsim.files import cannot_write
from hybridsim.tasks.device import on_host

TABLE = "measurements.csv"
STEPS = 4
"""Steps of training that are measured together, behind one that warms up."""
_COLUMNS = (*Case._fields, "round", "seconds", "low_s", "high_s", "bursts", "spent_s")


class Visit(NamedTuple):
    """One row of the table: a case in one round. Seconds are nan where it raised."""

    case: Case
    round: int
    timing: Timing
    spent_s: float


class Measured(NamedTuple):
    """A case over all rounds: the median of its visits, and the fastest and slowest of them."""

    case: Case
    seconds: float
    low_s: float
    high_s: float


class State(NamedTuple):
    """How far it is."""

    round: int
    case: Case
    done: int
    spent_s: float
    budget_s: float


def measure(
    folder: Path, asked: Asked, device: Device, progress: Callable[[State], None]
) -> list[Visit]:
    """Measure until ``asked.minutes`` are spent, all launches with this folder taken together.

    Every visit is a row of ``measurements.csv``, written when it is complete. In each round all
    cases come in an order of its own, so that drift of the device spreads over them.

    Raises:
        InputError: the table is none, or cannot be written.
        KeyboardInterrupt: it was interrupted; what was measured is kept.
    """
    path = folder / TABLE
    visits = read_visits(path) if path.exists() else []
    known = {(visit.round, visit.case) for visit in visits}
    spent_s, budget_s = sum(visit.spent_s for visit in visits), 60.0 * asked.minutes
    with on_host(asked.device, asked.threads), _without_tf32():
        torch.manual_seed(asked.seed)
        clock = clock_of(asked.device)
        for number, case in rounds(asked, device):
            if spent_s >= budget_s:
                break
            if (number, case) in known:
                continue
            progress(State(number, case, len(visits), spent_s, budget_s))
            started = time.monotonic()
            timing = visit(case, clock, asked.threads)
            found = Visit(case, number, timing, time.monotonic() - started)
            _append(path, found)
            visits.append(found)
            spent_s += found.spent_s
    return visits


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Float32 is what it says: torch's default for convolutions on a GPU is not."""
    switches: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]  # Any: of torch
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def visit(case: Case, clock: Clock, threads: int) -> Timing:
    """Time one case; nan where the device or its library refuses it."""
    try:
        if case.family == STEP:
            return _visit_steps(case, clock.device, threads)
        function, arguments = operands(case, clock.device)
        return clock.time(lambda: function(*arguments))
    except (RuntimeError, MemoryError):
        return Timing(math.nan, math.nan, math.nan, 0)


def _visit_steps(case: Case, device: str, threads: int) -> Timing:
    """``STEPS`` steps together: they may differ (an inverse every so many steps)."""
    found = timed_steps(scenario_of(case, device, threads), task_of(case, device), STEPS)
    seconds = [step.seconds for step in found]
    whole, ends = sum(seconds), (STEPS * min(seconds), STEPS * max(seconds))
    return Timing(whole, *ends, len(seconds))


def _append(path: Path, found: Visit) -> None:
    """One more row, in one write; the head before the first."""
    cells = (*found.case, found.round, *found.timing, found.spent_s)
    text = ",".join(map(str, cells)) + "\n"
    try:
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write((",".join(_COLUMNS) + "\n" if new else "") + text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def read_visits(path: Path) -> list[Visit]:
    """The rows of a table; one that was cut short at its end is taken off the file.

    Raises:
        InputError: the table cannot be read, or a row is none.
    """
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        rows = list(csv.reader(whole.decode("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a table of measurements, got: {error}") from None
    if rows and tuple(rows[0]) != _COLUMNS:
        head = ", ".join(_COLUMNS)
        raise InputError([Problem(str(path), 1, "", f"the columns {head}", ", ".join(rows[0]))])
    return [_visit(path, line, row) for line, row in enumerate(rows[1:], start=2)]


def _visit(path: Path, line: int, row: list[str]) -> Visit:
    try:
        family, operator, shape, dtype, number, seconds, low, high, bursts, spent = row
        case = Case(family, operator, shape, dtype)
        timing = Timing(float(seconds), float(low), float(high), int(bursts))
        _check(case)
        if timing.bursts and not 0 < timing.seconds < math.inf:
            raise ValueError(f"{seconds} seconds")
        return Visit(case, int(number), timing, float(spent))
    except (ValueError, KeyError, InputError) as error:
        text = str(error).splitlines()[0] if str(error) else "nothing"
        raise InputError([Problem(str(path), line, "", "a measurement", text)]) from None


@cache
def _check(case: Case) -> None:
    """Raise what is wrong with a case."""
    if case.family == STEP:
        scenario_of(case, "cpu", 1)
    else:
        check_case(case)


def over_rounds(visits: list[Visit]) -> list[Measured]:
    """Each case once, in the order of first visits; without those that raised."""
    found: dict[Case, list[float]] = {}
    for one in visits:
        if one.timing.bursts:
            found.setdefault(one.case, []).append(one.timing.seconds)
    return [
        Measured(case, statistics.median(times), min(times), max(times))
        for case, times in found.items()
    ]


def refused(visits: list[Visit]) -> list[Case]:
    """Cases that raised and were never measured."""
    measured = {one.case for one in visits if one.timing.bursts}
    return list(dict.fromkeys(one.case for one in visits if one.case not in measured))
