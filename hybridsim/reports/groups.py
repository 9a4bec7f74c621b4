"""Runs of one scenario with different seeds, and what can be said about two such groups."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

from hybridsim.reports.differences import ABSENT, differing, short_names
from hybridsim.reports.shared_constants import share_constants
from hybridsim.reports.statistics import (
    FEWEST_FOR_INTERVAL,
    Comparison,
    Interval,
    log_interval,
    mean_interval,
    paired_ratio,
)
from hybridsim.reports.units_text import band, quantity
from hybridsim.reports.verdict import goal_text
from hybridsim.results.keys import ENERGY_NAMES, Energies, Json
from hybridsim.results.read import Run

NOT_TESTED = "one seed: not tested"
_LONGEST_NAME = 90
_NO_PART_OF_IT = ("name", "seed", "thresholds")
"""Fields of a scenario that change no number of a run, except by its draws."""


class Group(NamedTuple):
    """Runs of one scenario with different seeds, ordered by seed.

    Attributes:
        name: tells it from the other groups.
        runs: the runs.
        title: the scenario's name without the seed.
        fields: what differs among the groups, by dotted path, with this group's value.
    """

    name: str
    runs: tuple[Run, ...]
    title: str
    fields: Mapping[str, str]


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Group runs that agree in scenario, sources and backend, and in name up to the seed at its
    end (``tngd``, ``tngd seed 1``, ``tngd-1``).

    Runs that share a seed too are no repeats of each other: they stand alone, by their folder.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([_title(run), _settings(run), _sources(run)], sort_keys=True)
        found.setdefault(key, []).append(run)
    members: list[tuple[Run, ...]] = []
    for same in found.values():
        distinct = len({seed_of(run) for run in same}) == len(same)
        members += [tuple(sorted(same, key=seed_of))] if distinct else [(run,) for run in same]
    return _distinct([Group("", runs, _title(runs[0]), {}) for runs in members])


def _distinct(groups: list[Group]) -> list[Group]:
    """Names that tell groups apart: the title, what differs among those of one title, a number."""
    titles = dict.fromkeys(group.title for group in groups)
    own: dict[int, dict[str, str]] = {}
    for title in titles:
        alike = [group for group in groups if group.title == title]
        own |= dict(zip(map(id, alike), _fields(alike), strict=True))
    named = []
    for group, fields in zip(groups, _fields(groups), strict=True):
        short = short_names(list(own[id(group)]))
        texts = (
            value if path == "folder" else f"{short[path]} {value}"
            for path, value in own[id(group)].items()
        )
        known = ", ".join(texts)
        name = _cut(f"{group.title} ({known})" if known else group.title)
        named.append(group._replace(name=name, fields=fields))
    names = [group.name for group in named]
    return [
        group._replace(name=f"{group.name} #{names[: index + 1].count(group.name)}")
        if names.count(group.name) > 1
        else group
        for index, group in enumerate(named)
    ]


def _fields(groups: Sequence[Group]) -> list[dict[str, str]]:
    """What differs among groups; for those that differ in nothing, their folders."""
    firsts = [group.runs[0] for group in groups]
    found = differing([_settings(run) for run in firsts])
    for name, values in differing([_sources(run) for run in firsts]).items():
        top = name.partition(".")[0]
        if not any(path.partition(".")[0] == top for path in found):
            found[name] = values
    lines = [{path: values[i] for path, values in found.items()} for i in range(len(firsts))]
    shown = [(group.title, *line.values()) for group, line in zip(groups, lines, strict=True)]
    if len(set(shown)) < len(shown):
        lines = [
            {**line, "folder": run.folder.name} for run, line in zip(firsts, lines, strict=True)
        ]
    return lines


def _settings(run: Run) -> dict[str, Json]:
    return {key: value for key, value in run.scenario.items() if key not in _NO_PART_OF_IT}


def _sources(run: Run) -> dict[str, Json]:
    """What a scenario names and does not hold: the contents of files, and how it was run."""
    workload = str((run.manifest.get("hashes") or {}).get("workload", ABSENT))
    machine = json.dumps(run.manifest.get("machine"), sort_keys=True)
    return {
        "backend": str(run.manifest.get("backend", ABSENT)),
        "workload": {"content": workload[:8]},
        "machine": {"content": f"{crc32(machine.encode()):08x}"},
    }


def seed_of(run: Run) -> int:
    """The seed of a run."""
    return int(run.manifest.get("seed") or 0)


def _title(run: Run) -> str:
    """The name without the seed at its end."""
    return re.sub(rf"[\s_\-/,]+(?:seed|s)?[\s_=\-]*{seed_of(run)}$", "", run.name) or run.name


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 2]}…)"


Measure = Literal["seconds", "joules", "step"]


def to_target(group: Group, key: Measure) -> dict[int, float]:
    """Seconds, joules or steps to the target by seed, of the runs that reached it."""
    found = {}
    for run in group.runs:
        target = run.summary["target"]
        value = target[key] if target is not None and target["reached"] else None
        if value is not None:
            found[seed_of(run)] = float(value)
    return found


def interval_to_target(group: Group, key: Measure) -> Interval:
    """Mean over the seeds that reached the target, with its interval; see :func:`over_seeds`."""
    return over_seeds(list(to_target(group, key).values()))


def over_seeds(values: Sequence[float]) -> Interval:
    """Geometric mean of steps, seconds or joules, on logs; where one costs nothing, the plain
    one.
    """
    return log_interval(values) if min(values, default=1) > 0 else mean_interval(values)


def evaluated(group: Group) -> bool:
    """Whether any run of the group has a target and measured its metric."""
    targets = [run.summary["target"] for run in group.runs]
    return any(target is not None and target.get("evaluated", True) for target in targets)


def compared(first: Group, second: Group, key: Measure) -> Comparison | None:
    """Second over first at the seeds at which both reached the target; None if there are none, or
    if one costs nothing.
    """
    one, two = to_target(first, key), to_target(second, key)
    seeds = sorted(one.keys() & two.keys())
    if not seeds or min(*one.values(), *two.values()) <= 0:
        return None
    return paired_ratio([one[seed] for seed in seeds], [two[seed] for seed in seeds])


def verdict(first: Group, second: Group, key: Measure) -> str:
    """What can be said about time (``seconds``) or energy (``joules``) to target of two groups."""
    word = {"seconds": "time", "joules": "energy", "step": "steps"}[key]
    goals = [
        {goal_text(run.summary["target"]) if run.summary["target"] else "" for run in group.runs}
        for group in (first, second)
    ]
    goal = next(iter(goals[0]))
    if goals[0] != goals[1] or len(goals[0]) != 1 or not goal:
        return (
            f"{first.name} and {second.name}: no common target, {word} to target cannot be "
            "compared."
        )
    head = f"{word.capitalize()} to {goal}:"
    missing = [group.name for group in (first, second) if not evaluated(group)]
    if missing:
        return f"{head} not evaluated in {' and '.join(missing)}; no comparison."
    counts = [reached_text(group, key) for group in (first, second)]
    text = f"{head} {'; '.join(filter(None, counts))}{'; ' if any(counts) else ''}"
    found = compared(first, second, key)
    if min(len(first.runs), len(second.runs)) < FEWEST_FOR_INTERVAL:
        text += _one_seed(first, second, key)
    elif found is None:
        return f"{text}they share no seed at which both reached it: no paired comparison."
    elif found.interval.seeds < FEWEST_FOR_INTERVAL:
        text += "one shared seed: not tested."
    else:
        text += _sentence(first.name, second.name, found, word)
    both = to_target(first, key) and to_target(second, key)
    return f"{text} {_bands(first, second)}" if key == "joules" and both else text


def reached_text(group: Group, key: Measure) -> str:
    """How many seeds reached the target, where not all did."""
    count = len(to_target(group, key))
    if count == len(group.runs):
        return ""
    return f"{group.name} reached it in {count} of {len(group.runs)}"


def _one_seed(first: Group, second: Group, key: Measure) -> str:
    digests = [run.manifest.get("digest") for group in (first, second) for run in group.runs]
    if len(digests) == 2 and digests[0] and digests[0] == digests[1]:
        return f"{first.name} and {second.name} have one digest: they are the same run."
    unit = {"seconds": "s", "joules": "J", "step": "steps"}[key]
    ends = [interval_to_target(group, key).mean for group in (first, second)]
    values = (
        f"{group.name} {quantity(end, unit)}"
        for group, end in zip((first, second), ends, strict=True)
        if np.isfinite(end)
    )
    figures_text = " against ".join(values)
    return f"{figures_text}; {NOT_TESTED}." if figures_text else f"{NOT_TESTED}."


def per_step(first: Group, second: Group) -> str:
    """How much longer and dearer a step of the second group is: medians over runs of simulated
    seconds and joules.
    """
    costs = []
    for group in (first, second):
        pairs = step_costs(group)
        if not len(pairs):
            return f"{group.name} has no step that ended: no comparison of steps."
        costs.append(np.median(pairs, axis=0))
    time, energy = costs[1] / np.where(costs[0] > 0, costs[0], np.nan)
    return (
        f"A step of {second.name} takes {time:.3g} times as long as one of {first.name} "
        f"({quantity(costs[1][0], 's')} against {quantity(costs[0][0], 's')}) and {energy:.3g} "
        "times its energy "
        f"({quantity(costs[1][1], 'J')} against {quantity(costs[0][1], 'J')}, nominal)."
    )


def step_costs(group: Group) -> np.ndarray:
    """Simulated seconds and nominal joules of a step, shape (runs with a step, 2)."""
    done = [run.summary for run in group.runs if run.summary["steps"]]
    found = [
        (s["simulated_s"] / s["steps"], s["energy"]["total"]["energy_j"] / s["steps"]) for s in done
    ]
    return np.array(found).reshape(-1, 2)


def _bands(first: Group, second: Group) -> str:
    """Energies to target with the band of the constants, and what the bands say about the pair.

    Constants that both machines have move both bands the same way, so whether these overlap says
    nothing then.
    """
    bands = [energy_to_target(group) for group in (first, second)]
    texts = ", ".join(
        f"{group.name} {quantity(energy['energy_j'], 'J')} ({band(energy)})"
        for group, energy in zip((first, second), bands, strict=True)
    )
    head = f"Over the range of the datasheets' constants: {texts}."
    if share_constants(first.runs, second.runs):
        return (
            f"{head} The bands share constants, which move both: they decide nothing; a study with "
            "the question uncertainty does."
        )
    if max(b["energy_low_j"] for b in bands) <= min(b["energy_high_j"] for b in bands):
        return f"{head} The bands overlap, so the constants decide."
    return f"{head} The bands share no constant and do not overlap."


def energy_to_target(group: Group) -> Energies:
    """Joules to target, geometric mean over the seeds that reached it: nominal, low and high; the
    band is in proportion to that of the whole run. NaN where none did.
    """
    reached, found = to_target(group, "joules"), []
    for run in group.runs:
        if seed_of(run) in reached:
            whole = run.summary["energy"]["total"]
            nominal = whole["energy_j"] or 1.0
            found.append([reached[seed_of(run)] * whole[name] / nominal for name in ENERGY_NAMES])
    columns = np.array(found).reshape(-1, len(ENERGY_NAMES)).T
    nominal, low, high = (over_seeds(column.tolist()).mean for column in columns)
    return {"energy_j": nominal, "energy_low_j": low, "energy_high_j": high}


def _sentence(first: str, second: str, found: Comparison, word: str) -> str:
    interval = found.interval
    figures_text = (
        f"ratio {interval.mean:.3g} ({interval.low:.3g} – {interval.high:.3g}; {interval.basis}; "
        f"p = {found.p_value:.2g})"
    )
    if not found.detectable:
        return f"no detectable difference between {first} and {second}: {figures_text}."
    less = interval.mean < 1
    factor = 1 / interval.mean if less else interval.mean
    return (
        f"{second} needs {factor:.3g} times {'less' if less else 'more'} {word} than {first}: "
        f"{figures_text}."
    )
