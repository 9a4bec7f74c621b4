"""Points under drawn constants: retimed where a recording holds, else simulated, up to a budget."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hybridsim.hardware.size import area_mm2, sizes_on
from hybridsim.results.digest import canonical_json
from hybridsim.simulate import run
from hybridsim.studies.asked import Asked
from hybridsim.studies.outcome import Outcome
from hybridsim.studies.retiming import Retimed, record, retime
from hybridsim.studies.retiming.again import Simulated, simulated
from hybridsim.studies.retiming.draws import (
    Owned,
    drawn_machine,
    fields_of,
    is_numeric,
    owned,
    whole,
)
from hybridsim.units import to_s

if TYPE_CHECKING:
    from hybridsim.scenario.quantity import Raw
    from hybridsim.studies.collect.collector import Collector
    from hybridsim.studies.evaluate import Desk
    from hybridsim.studies.points import Point

Setting = Mapping[str, float]
SIMULATED = 60
"""Draws for which no recording holds that are simulated, for each point."""
NOT_EVALUATED = "not evaluated"
_AT_ONCE = 500
_NUMBERS = (
    "seconds",
    "joules",
    "run_seconds",
    "run_joules",
    "step_seconds",
    "step_joules",
    "area",
)


class Draws(NamedTuple):
    """A job: one point under other constants of cost.

    Attributes:
        name: of the job, equal for equal content.
        point: whose numbers are known.
        outcome: these.
        names: the ranged constants of its machine.
        settings: values of some of them, for each draw.
        simulate: how many draws may be simulated.
        numerics: last key of the point; empty: nothing is trained.
        facts: name of the published facts that it came from.
    """

    name: str
    point: Asked
    outcome: Outcome
    names: tuple[Owned, ...]
    settings: tuple[Setting, ...]
    simulate: int
    numerics: str
    facts: str


class Drawn(NamedTuple):
    """What became of the draws of a job.

    ``how``: ``retimed``, ``simulated`` or ``not evaluated``; ``numbers``: (draws, 7), as
    ``seconds joules run_seconds run_joules step_seconds step_joules area``, NaN where there are
    none.
    """

    job: str
    how: tuple[str, ...]
    numbers: tuple[tuple[float, ...], ...]


def draw(job: Draws, desk: Desk) -> Drawn:
    """Evaluate a job.

    Raises:
        HybridsimError: the point cannot be run again.
    """
    scenario, task = job.point.scenario, desk.task(job.point.scenario)
    store = desk.store(job.numerics, job.facts) if job.numerics else None
    if store is not None and not store.is_file():  # facts of another machine stay there
        run(scenario, facts=store, task=task)
    recording = record(scenario, task, store)
    machines = [drawn_machine(recording.spec, job.names, one) for one in job.settings]
    found = retime(recording, machines)
    numbers = {k: _figures(found, k) for k in np.flatnonzero(found.valid).tolist()}
    how = dict.fromkeys(numbers, "retimed")
    others = [k for k in range(len(machines)) if k not in numbers][: job.simulate]
    again = {k: simulated(recording, store, machines[k]) for k in others}
    numbers |= {k: one for k, one in again.items() if one is not None}
    steps = [int(step.row["step"]) for step in recording.steps]
    nothing = (math.nan,) * len(_NUMBERS)
    return Drawn(
        job.name,
        tuple(
            how.get(k, "simulated" if k in numbers else NOT_EVALUATED) for k in range(len(machines))
        ),
        tuple(
            (*_numbers(job, steps, *numbers[k]), area_mm2(sizes_on(machine, recording.loads)))
            if k in numbers
            else nothing
            for k, machine in enumerate(machines)
        ),
    )


def _figures(found: Retimed, draw: int) -> Simulated:
    return Simulated(found.end_ps[draw], found.joules[draw], float(found.run_joules[draw]))


def _numbers(
    job: Draws, steps: Sequence[int], end_ps: np.ndarray, joules: np.ndarray, run_j: float
) -> tuple[float, ...]:
    run_s = to_s(int(end_ps[-1]))
    seconds, energy = run_s, run_j
    if job.point.scenario.training.target is not None:
        seconds = energy = math.nan
        if job.outcome.step is not None:
            mark = steps.index(job.outcome.step)
            seconds, energy = to_s(int(end_ps[mark])), float(joules[mark])
    return seconds, energy, run_s, run_j, run_s / len(steps), run_j / len(steps)


# ---------------------------------------------------------------- in the collector's process


class _Part(NamedTuple):
    """Draws of one point with the same numbers."""

    point: Point
    draws: list[int]


def outcomes_under(
    points: Sequence[Point],
    settings: Sequence[Setting],
    collector: Collector,
    at: Callable[[str, int, Mapping[str, Raw]], Point],
    simulate: int = SIMULATED,
) -> pd.DataFrame:
    """The outcome of each point under each setting: rows as ``questions.base.Lab`` says.

    Constants that change numbers are set in the scenario, and run live; with every such setting all
    others are retimed.

    Args:
        points: one for each side and seed.
        settings: values of ranged constants by name; others stay nominal.
        collector: where points and draws are evaluated.
        at: makes a further point of a side, a seed and fields.
        simulate: draws of a point for which no recording holds that are simulated.
    """
    sides = {point.side: point.scenario for point in points}
    parts: list[tuple[Point, _Part]] = []
    for point in points:
        names = owned(sides, point.side)
        parts += [(point, part) for part in _parts(point, names, settings, at)]
    known = collector.outcomes([part.point for _, part in parts])
    jobs: list[Draws] = []
    rows: list[tuple[list[Draws], Point, _Part]] = []
    for point, part in parts:
        outcome = known[part.point.id]
        mine = tuple(one for one in owned(sides, point.side) if not _numeric(one, point))
        budget = math.ceil(simulate * len(part.draws) / max(len(settings), 1))
        own = _jobs(part, outcome, mine, settings, budget, collector)
        jobs += own
        rows.append((own, point, part))
    drawn = collector.perform(jobs)
    frames = [_frame(own, point, part, known[part.point.id], drawn) for own, point, part in rows]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return found.sort_values(["draw", "side", "seed"], kind="stable", ignore_index=True)


def _numeric(one: Owned, point: Point) -> bool:
    return is_numeric(one.spec, point.scenario)


def _parts(
    point: Point,
    names: Sequence[Owned],
    settings: Sequence[Setting],
    at: Callable[[str, int, Mapping[str, Raw]], Point],
) -> list[_Part]:
    """Draws by the values of constants that change numbers."""
    numeric = [one for one in names if _numeric(one, point)]
    found: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for number, setting in enumerate(settings):
        values = tuple(
            (one.name, whole(one.spec, setting[one.name]))
            for one in numeric
            if one.name in setting and whole(one.spec, setting[one.name]) != one.entry.value
        )
        found.setdefault(values, []).append(number)
    return [
        _Part(
            point
            if not values
            else at(
                point.side,
                point.seed,
                {**point.values, **fields_of(point.scenario, numeric, dict(values))},
            ),
            draws,
        )
        for values, draws in found.items()
    ]


def _jobs(
    part: _Part,
    outcome: Outcome,
    names: tuple[Owned, ...],
    settings: Sequence[Setting],
    budget: int,
    collector: Collector,
) -> list[Draws]:
    if outcome.status != "ok":
        return []
    mine = {one.name for one in names}
    source = collector.known[part.point.id].found
    numerics = source.last_key if collector.settings.backend == "live" else ""
    found = []
    for first in range(0, len(part.draws), _AT_ONCE):
        some = part.draws[first : first + _AT_ONCE]
        own = tuple({k: v for k, v in settings[n].items() if k in mine} for n in some)
        share = math.ceil(budget * len(some) / len(part.draws))
        text = canonical_json([part.point.id, list(own), share])
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        asked = Asked(part.point.id, part.point.scenario)
        job = Draws(name, asked, outcome, names, own, share, numerics, source.facts)
        found.append(job)
    return found


def _frame(
    jobs: Sequence[Draws],
    point: Point,
    part: _Part,
    outcome: Outcome,
    drawn: Mapping[str, Drawn],
) -> pd.DataFrame:
    frame = pd.DataFrame({"draw": part.draws, "side": point.side, "seed": point.seed})
    for name in ("status", "reason", "reached", "step", "mark", "solver_error"):
        frame[name] = pd.Series([getattr(outcome, name)] * len(frame), dtype=object)
    how = [word for job in jobs for word in drawn[job.name].how] or [NOT_EVALUATED] * len(frame)
    numbers = [row for job in jobs for row in drawn[job.name].numbers]
    table = np.array(numbers or [(math.nan,) * len(_NUMBERS)] * len(frame), dtype=float)
    frame["how"] = how
    for index, name in enumerate(_NUMBERS):
        frame[name] = table[:, index]
    return frame
