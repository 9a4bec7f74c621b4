"""Each side's settings, chosen on seeds of their own with equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from hybridsim.errors import HybridsimError
from hybridsim.results.keys import Json
from hybridsim.scenario.quantity import Raw
from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import WITH_RESULT, Outcome
from hybridsim.studies.points import Point, number, point, tuning_assignments
from hybridsim.studies.schema import Study

MEASURES = (
    "seconds", "joules", "step_seconds", "step_joules", "run_seconds", "run_joules", "step",
)  # fmt: skip
Outcomes = Callable[[Sequence[Point]], Mapping[str, Outcome]]
"""The outcome of each point, by id."""


class NothingToChoose(HybridsimError):
    """No candidate of a side has a result."""


@dataclass(frozen=True)
class Tuned:
    """What a side chose.

    Attributes:
        side: its name.
        choice: field -> value.
        measure: what was compared: among the candidates with most seeds that count the lowest
            geometric mean of this.
        which: the seeds that count: ``reached`` the target; ``trusted``: with a result that is not
            marked (there is no target, or nobody reached it); ``any``: with a result (all are
            marked).
        runs: its budget.
        candidates: a row for each: its fields, ``counted`` (seeds), ``seeds``, and the measure.
        edges: fields whose chosen value is the lowest or highest that was tried.
    """

    side: str
    choice: dict[str, Raw]
    measure: str
    which: str
    runs: int
    candidates: pd.DataFrame
    edges: tuple[str, ...]

    def row(self) -> dict[str, Json]:
        """As a table shows it."""
        chosen = ", ".join(f"{field} = {value}" for field, value in self.choice.items())
        notes = [f"{field}: at the edge of what was tried" for field in self.edges]
        notes += ["every candidate is marked"] if self.which == "any" else []
        return {
            "side": self.side,
            "candidates": len(self.candidates),
            "runs": self.runs,
            "chosen by": f"{self.measure.replace('_', ' ')} ({self.which})",
            "chosen": chosen,
            "note": "; ".join(notes),
        }

    def facts(self) -> dict[str, Json]:
        """For ``study.json``."""
        found = {"choice": self.choice, "candidates": self.candidates.to_dict("records")}
        return self.row() | found | {"edges": list(self.edges)}


def tuning_points(study: Study) -> list[Point]:
    """Every candidate of every side under every tuning seed."""
    if study.tuning is None:
        return []
    return [
        point(study, side.name, seed, candidate)
        for side in study.sides
        for candidate in tuning_assignments(study, side.name)
        for seed in study.tuning.seeds
    ]


def tune(study: Study, outcomes: Outcomes) -> tuple[Study, list[Tuned]]:
    """The study with every side's chosen settings in the place of tuning, and how they were chosen.

    Raises:
        NothingToChoose: no candidate of a side has a result.
    """
    if study.tuning is None:
        return study, []
    known = outcomes(tuning_points(study))
    measure = getattr(study.question, "measure", "")
    wanted = measure if measure in MEASURES else "seconds"
    found = [
        _choose(study, side.name, candidates, wanted, known)
        for side in study.sides
        if (candidates := tuning_assignments(study, side.name))
    ]
    return _with_choices(study, {one.side: one.choice for one in found}), found


def _choose(
    study: Study,
    side: str,
    candidates: Sequence[dict[str, Raw]],
    measure: str,
    known: Mapping[str, Outcome],
) -> Tuned:
    """The best of a side's candidates; of equal ones the first."""
    assert study.tuning is not None, "it is there"
    seeds = study.tuning.seeds
    results = [
        [known[point(study, side, seed, candidate).id] for seed in seeds]
        for candidate in candidates
    ]
    aimed = any(outcome.reached is not None for own in results for outcome in own)
    for rule in (_Rule(measure, "reached"), *_BY_LOSS) if aimed else _BY_LOSS:
        counted = [[o for o in own if rule.counts(o)] for own in results]
        if any(counted):
            break
    else:
        reasons = sorted({o.reason for own in results for o in own})
        raise NothingToChoose(
            f"tuning: expected a candidate of side '{side}' with a result, got none of "
            f"{len(candidates)}: {'; '.join(reasons[:3])}"
        )
    values = [geometric_mean([float(getattr(o, rule.measure)) for o in own]) for own in counted]
    best = min(range(len(values)), key=lambda k: (-len(counted[k]), _or_last(values[k])))
    rows = [
        candidate | {"counted": len(own), "seeds": len(seeds), rule.measure: value}
        for candidate, own, value in zip(candidates, counted, values, strict=True)
    ]
    choice = candidates[best]
    edges = tuple(f for f in choice if _is_edge([c[f] for c in candidates], choice[f]))
    runs = len(candidates) * len(seeds)
    return Tuned(side, choice, rule.measure, rule.which, runs, pd.DataFrame(rows), edges)


class _Rule(NamedTuple):
    """What is compared, and which results count."""

    measure: str
    which: str

    def counts(self, outcome: Outcome) -> bool:
        """Whether a result does."""
        if outcome.status != WITH_RESULT:
            return False
        trusted = self.which == "any" or not outcome.mark
        return trusted and (self.which != "reached" or bool(outcome.reached))


_BY_LOSS = (_Rule("final_test_loss", "trusted"), _Rule("final_test_loss", "any"))


def _or_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log)); NaN of none, and of one that is not above zero."""
    if not values or not all(value > 0 for value in values):
        return math.nan
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _is_edge(tried: Sequence[Raw], chosen: Raw) -> bool:
    """Whether a better value may lie beyond what was tried."""
    numbers = {number(chosen, value) for value in tried}
    known = sorted(value for value in numbers if value is not None)
    if len(known) < 2 or None in numbers:
        return False
    return number(chosen, chosen) in (known[0], known[-1])


def _with_choices(study: Study, choices: Mapping[str, Mapping[str, Raw]]) -> Study:
    """The study with the chosen fields set on its sides, and nothing left to choose."""
    document = study.document()
    del document["tuning"]
    for side, choice in choices.items():
        place = document["base"] if "base" in document else document["scenarios"][side]
        place["set"] = {**place.get("set", {}), **choice}
    return load_study(document)
