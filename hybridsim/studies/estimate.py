"""What a study is going to cost, before it runs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from hybridsim.dry import first_steps, last_key
from hybridsim.errors import HybridsimError
from hybridsim.results.digest import canonical_json
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.evaluate import Desk, Group
from hybridsim.studies.retiming import cost_signature

_PROBED_STEPS = 3
_MOST_PROBES = 8
"""Kinds of run that are tried; the others are taken for their mean."""


class Plan(NamedTuple):
    """What is going to be done.

    Attributes:
        points: rows of the table.
        distinct: different runs among them, those of tuning too.
        known: of these, in the folder already.
        live: runs with tensors that are expected.
        minutes: an estimate of what is left, from the first steps of a few runs.
    """

    points: int
    distinct: int
    known: int
    live: int
    minutes: float

    def __str__(self) -> str:
        """A line for a terminal."""
        left = self.distinct - self.known
        text = f"{self.points} points, {self.distinct} distinct runs"
        text += f" ({self.known} in the folder)" if self.known else ""
        if not left:
            return f"{text}; nothing is left to run"
        about = "less than a minute" if self.minutes < 1 else f"about {self.minutes:.0f} min"
        return f"{text}; {self.live} live runs expected; {about} (an estimate from first steps)"


class _Costs(NamedTuple):
    """Host seconds of a run of one kind, with tensors and without."""

    live_s: float
    dry_s: float


def minutes(groups: Sequence[Group], desk: Desk, at_once: int) -> float:
    """Host minutes for these groups, from the first steps of one run of each kind.

    What adaptive questions ask for is not known yet; a kind that cannot run costs nothing.
    """
    if not groups:  # a shard may have none
        return 0.0
    known: dict[str, _Costs | None] = {}
    total_s, unknown = 0.0, 0
    for group in groups:
        first = group.points[0].scenario
        kind = _kind(first)
        if kind not in known and len(known) < _MOST_PROBES:
            known[kind] = _probe(first, desk, live=group.backend == "live")
        found = known.get(kind)
        if found is None:
            unknown += kind not in known
            continue
        families = len({cost_signature(point.scenario) for point in group.points})
        total_s += found.live_s + 2 * found.dry_s * families
    probed = len(groups) - unknown
    scale = len(groups) / probed if probed else math.nan
    return total_s * scale / max(1, min(at_once, len(groups))) / 60


def _kind(scenario: Scenario) -> str:
    """Equal for runs that take about as long."""
    document = scenario.document()
    return canonical_json({key: document[key] for key in ("workload", "host", "training")})


def _probe(scenario: Scenario, desk: Desk, live: bool) -> _Costs | None:
    with contextlib.suppress(HybridsimError):
        task, training = desk.task(scenario), scenario.training
        started = time.perf_counter()
        last_key(scenario, task)
        dry_s = time.perf_counter() - started
        if not live:
            return _Costs(0.0, dry_s)
        steps = min(_PROBED_STEPS, training.steps)
        seconds = first_steps(scenario, task, steps)
        plain_s, last_s = seconds[max(0, steps - 2)], seconds[-1]
        evaluations = math.ceil(training.steps / training.evaluate_every)
        extra_s = max(0.0, last_s - plain_s) * evaluations
        return _Costs(seconds[0] + plain_s * (training.steps - 1) + extra_s, dry_s)
    return None
