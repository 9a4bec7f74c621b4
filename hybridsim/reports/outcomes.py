"""What came out of groups of runs: one line for each group, as numbers and as text."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hybridsim.errors import InputError
from hybridsim.reports.differences import ABSENT, short_names
from hybridsim.reports.groups import (
    NOT_TESTED,
    Group,
    Measure,
    compared,
    energy_to_target,
    evaluated,
    groups_of,
    interval_to_target,
    over_seeds,
    step_costs,
    to_target,
)
from hybridsim.reports.statistics import FEWEST_FOR_INTERVAL, Interval, mean_interval
from hybridsim.reports.units_text import band, quantity
from hybridsim.reports.verdict import goal_text
from hybridsim.results.keys import ENERGY_NAMES
from hybridsim.results.read import Run
from hybridsim.results.solves import best_value, solves

Line = dict[str, str | int | float]
Cells = Mapping[Hashable, Any]  # a row of the table, as pandas gives it
_MEASURES: dict[str, tuple[Measure, str]] = {
    "steps_to_target": ("step", "steps"),
    "time_to_target_s": ("seconds", "s"),
    "energy_to_target_j": ("joules", "J"),
}
_WORDS = {
    "steps_to_target": "steps to target",
    "time_to_target_s": "time to target",
    "energy_to_target_j": "energy to target",
}
_METRICS = ("train_loss", "test_loss", "test_accuracy")
NOT_EVALUATED, NO_TARGET = "not evaluated", "none set"


def compare_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per group of runs that differ in seed only: what differs, and what came out.

    ``name``, one column for each field of the scenarios that differs, ``seeds``; ``reached`` says
    how many seeds reached the target, or ``not evaluated``; steps, time and energy to target are
    geometric means over those that did, with ``*_ci_low`` and ``*_ci_high`` the 95 % interval by
    Student's t on logs (from 2 seeds on); ``energy_to_target_low_j`` and ``..._high_j`` are the
    band of the datasheets' constants. Final losses and accuracies are means with Student's t.

    Raises:
        InputError: no runs, or a stored scenario that cannot be read.
    """
    if not runs:
        raise InputError("compare: expected at least one run, got none")
    return table_of(groups_of(runs))


def table_of(groups: Sequence[Group]) -> pd.DataFrame:
    """The same for groups at hand."""
    return pd.DataFrame([_line(group) for group in groups])


def _line(group: Group) -> Line:
    summaries = [run.summary for run in group.runs]
    line: Line = {"name": group.name, **group.fields, "seeds": len(summaries)}
    line["status"] = ", ".join(sorted({run.status for run in group.runs}))
    line["steps"] = float(np.median([summary["steps"] for summary in summaries]))
    line["simulated_s"] = over_seeds([summary["simulated_s"] for summary in summaries]).mean
    for name in ENERGY_NAMES:
        line[name] = over_seeds([summary["energy"]["total"][name] for summary in summaries]).mean
    costs = step_costs(group)
    line["step_time_s"] = over_seeds(costs[:, 0].tolist()).mean
    line["step_energy_j"] = over_seeds(costs[:, 1].tolist()).mean
    line["target"] = _goal(group)
    line["reached"] = _reached(group)
    line["best"] = _best(group)
    for column, (measure, _) in _MEASURES.items():
        line |= _with_ends(column, interval_to_target(group, measure))
    energy = energy_to_target(group)
    line["energy_to_target_low_j"] = energy["energy_low_j"]
    line["energy_to_target_high_j"] = energy["energy_high_j"]
    for metric in _METRICS:
        values = [summary["final"][metric] for summary in summaries if metric in summary["final"]]
        line |= _with_ends(f"final_{metric}", mean_interval([v for v in values if np.isfinite(v)]))
    errors = [found.error for run in group.runs if (found := solves(run.steps)) is not None]
    line["solver_error"] = float(np.median(errors)) if errors else np.nan
    return line


def _with_ends(column: str, found: Interval) -> Line:
    return {column: found.mean, f"{column}_ci_low": found.low, f"{column}_ci_high": found.high}


def _goal(group: Group) -> str:
    targets = [run.summary["target"] for run in group.runs if run.summary["target"]]
    return ", ".join(sorted({goal_text(target) for target in targets})) or NO_TARGET


def _reached(group: Group) -> str:
    if not any(run.summary["target"] for run in group.runs):
        return NO_TARGET
    if not evaluated(group):
        return NOT_EVALUATED
    return f"{len(to_target(group, 'step'))} of {len(group.runs)}"


def _best(group: Group) -> float:
    """The value of the target's metric that came nearest, over all seeds; NaN where none did."""
    found = [
        (run.summary["target"], best_value(run.steps, run.summary["target"]))
        for run in group.runs
        if run.summary["target"]
    ]
    known = [(target["direction"], value) for target, value in found if value is not None]
    if not known:
        return np.nan
    return (max if known[0][0] == "above" else min)(value for _, value in known)


def method_note(groups: Sequence[Group]) -> str:
    """How the intervals were found and what they rest on, and what is not in them."""
    seeds = sorted({len(group.runs) for group in groups})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    if seeds[-1] < FEWEST_FOR_INTERVAL:
        return "One seed each: no intervals, and no difference between lines is tested."
    return (
        f"{counts} seeds a line, of which those count that reached the target. Steps, time and "
        "energy: geometric mean and 95 % interval, Student's t on logs; losses and accuracies: "
        "mean and 95 % interval, Student's t. Against the first line: pairs of one seed, "
        "Student's t on logs. Intervals are not corrected for the number of comparisons."
    )


def common(groups: Sequence[Group]) -> str:
    """What all lines share and therefore do not say: name and target."""
    if len(groups) < 2:
        return ""
    titles = {group.title for group in groups}
    goals = set(map(_goal, groups))
    texts = [f"All lines: {titles.pop()}."] if len(titles) == 1 else []
    texts += [f"Target: {goals.pop()}."] if len(goals) == 1 else []
    return " ".join(texts)


def cells_of(groups: Sequence[Group]) -> list[dict[str, str]]:
    """The comparison as text, one map of columns for each of at least one group; columns that say
    nothing left out.
    """
    lines = zip(table_of(groups).to_dict("records"), groups, strict=True)
    rows = [_cells(index, line, group, groups[0]) for index, (line, group) in enumerate(lines, 1)]
    silent = {key for key in rows[0] if all(row[key] == ABSENT for row in rows)}
    if len(rows) > 1:
        silent |= {key for key in ("run", "target") if len({row[key] for row in rows}) == 1}
    if all(row["reached"] == NOT_EVALUATED for row in rows):
        silent |= set(_WORDS.values())
    used, short = [key for key in rows[0] if key not in silent], short_names([*groups[0].fields])
    shown = {key: name if (name := short.get(key, key)) not in rows[0] else key for key in used}
    return [{shown[key]: row[key] for key in used} for row in rows]


def _cells(index: int, line: Cells, group: Group, first: Group) -> dict[str, str]:
    low, high = line["energy_to_target_low_j"], line["energy_to_target_high_j"]
    return {
        "#": str(index),
        "run": group.title,
        **group.fields,
        "seeds": str(line["seeds"]),
        "status": _absent_unless(line["status"] != "complete", str(line["status"])),
        "target": _absent_unless(line["target"] != NO_TARGET, str(line["target"])),
        "reached": _absent_unless(line["reached"] != NO_TARGET, str(line["reached"])),
        "thresholds": _thresholds(group),
        **{w: _to_target(line, column, *_MEASURES[column]) for column, w in _WORDS.items()},
        "low – high": ABSENT if np.isnan(low) else f"{quantity(low, 'J')} – {quantity(high, 'J')}",
        "time / first": ABSENT if group is first else _ratio(first, group, "seconds"),
        "energy / first": ABSENT if group is first else _ratio(first, group, "joules"),
        "a step": quantity(line["step_time_s"], "s"),
        "energy of a step": quantity(line["step_energy_j"], "J"),
        "whole run": quantity(line["simulated_s"], "s"),
        "energy": _energy(line),
        "train loss": _metric(line, "train_loss"),
        "test loss": _metric(line, "test_loss"),
        "accuracy": _metric(line, "test_accuracy"),
        "solver error": ABSENT if np.isnan(line["solver_error"]) else f"{line['solver_error']:.2g}",
    }


def _thresholds(group: Group) -> str:
    """How many runs met all that was asked of them."""
    asked = [lines for run in group.runs if (lines := run.summary.get("thresholds"))]
    met = sum(all(line["met"] for line in lines) for lines in asked)
    return f"met by {met} of {len(asked)}" if asked else ABSENT


def _energy(line: Cells) -> str:
    return f"{quantity(line['energy_j'], 'J')} ({band_of(line)})"


def band_of(line: Cells) -> str:
    """Low to high of a line's whole runs."""
    nominal, low, high = (float(line[name]) for name in ENERGY_NAMES)
    return band({"energy_j": nominal, "energy_low_j": low, "energy_high_j": high})


def _absent_unless(known: bool, text: str) -> str:
    return text if known else ABSENT


def _to_target(line: Cells, column: str, measure: Measure, unit: str) -> str:
    if str(line["reached"]) == NO_TARGET:
        return ABSENT
    if str(line["reached"]) == NOT_EVALUATED:
        return NOT_EVALUATED
    if np.isnan(line[column]):
        best = "" if np.isnan(line["best"]) else f" (best {line['best']:.4g})"
        return f"not reached{best}"
    ends = [line[f"{column}{end}"] for end in ("", "_ci_low", "_ci_high")]
    middle, low, high = (f"{end:.3g}" if measure == "step" else quantity(end, unit) for end in ends)
    return middle if np.isnan(ends[1]) else f"{middle} ({low} – {high})"


def _metric(line: Cells, metric: str) -> str:
    ends = [line[f"final_{metric}{end}"] for end in ("", "_ci_low", "_ci_high")]
    if np.isnan(ends[0]):
        return ABSENT
    middle, low, high = (f"{end:.4g}" for end in ends)
    return middle if np.isnan(ends[1]) else f"{middle} ({low} – {high})"


def _ratio(first: Group, group: Group, key: Measure) -> str:
    """This group over the first, with what can be said about it."""
    found = compared(first, group, key)
    alone = min(len(first.runs), len(group.runs)) < FEWEST_FOR_INTERVAL
    if found is None:
        return ABSENT
    interval = found.interval
    if alone or interval.seeds < FEWEST_FOR_INTERVAL:
        return f"{interval.mean:.3g}; {NOT_TESTED}"
    tested = "" if found.detectable else "; no detectable difference"
    return f"{interval.mean:.3g} ({interval.low:.3g} – {interval.high:.3g}){tested}"
