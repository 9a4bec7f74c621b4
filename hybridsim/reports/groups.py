"""Runs of one scenario with different seeds, and what can be said about two such groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from hybridsim.reports.statistics import Paired, paired
from hybridsim.reports.units_text import quantity, with_band
from hybridsim.reports.verdict import goal_text
from hybridsim.results.keys import ENERGY_NAMES, Energies
from hybridsim.results.read import Run


class Group(NamedTuple):
    """Runs of one scenario with different seeds, ordered by seed."""

    name: str
    runs: tuple[Run, ...]


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Group runs whose names agree up to the seed at the end (``tngd``, ``tngd seed 1``,
    ``tngd-1``).

    Runs that share a name and a seed are no repeats of each other: they stand alone, by their
    folder's name.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(_prefix(run), []).append(run)
    groups = []
    for name, members in found.items():
        if len({seed_of(run) for run in members}) == len(members):
            groups.append(Group(name, tuple(sorted(members, key=seed_of))))
        else:
            groups += [Group(f"{name} ({run.folder.name})", (run,)) for run in members]
    return _distinct(groups)


def _distinct(groups: list[Group]) -> list[Group]:
    """Number names that still occur twice."""
    names = [group.name for group in groups]
    return [
        group._replace(name=f"{group.name} #{names[: index + 1].count(group.name)}")
        if names.count(group.name) > 1
        else group
        for index, group in enumerate(groups)
    ]


def seed_of(run: Run) -> int:
    """The seed of a run."""
    return int(run.manifest.get("seed") or 0)


def _prefix(run: Run) -> str:
    """The name without the seed at its end."""
    return re.sub(rf"[\s_\-/,]+(?:seed|s)?[\s_=\-]*{seed_of(run)}$", "", run.name) or run.name


Measure = Literal["seconds", "joules", "step"]


def to_target(group: Group, key: Measure) -> np.ndarray:
    """Seconds, joules or steps to the target, by run; infinite if not reached, empty without a
    target.
    """
    found = [run.summary["target"] for run in group.runs]
    targets = [target for target in found if target is not None]
    if len(targets) < len(found):
        return np.array([])
    return np.array([target[key] if target["reached"] else np.inf for target in targets], float)


def verdict(first: Group, second: Group, key: Measure) -> str:
    """What can be said about time (``seconds``) or energy (``joules``) to target of two groups."""
    word = {"seconds": "time", "joules": "energy"}[key]
    goals = {
        goal_text(run.summary["target"])
        for run in (*first.runs, *second.runs)
        if run.summary["target"]
    }
    if len(goals) != 1 or not len(to_target(first, key)) or not len(to_target(second, key)):
        return (
            f"{first.name} and {second.name}: no common target, {word} to target cannot be "
            "compared."
        )
    pairs = _pairs(first, second, key)
    if not np.isfinite(pairs).all():
        counts = (
            f"{g.name} reached it in {np.isfinite(to_target(g, key)).sum()} of {len(g.runs)}"
            for g in (first, second)
        )
        return f"{word.capitalize()} to {goals.pop()}: {', '.join(counts)}; no paired comparison."
    if not pairs.shape[1]:
        return f"{first.name} and {second.name} share no seed: no paired comparison of {word}."
    text = (
        f"{word.capitalize()} to {goals.pop()}: "
        f"{_sentence(first.name, second.name, paired(*pairs), word)}"
    )
    return text if key == "seconds" else f"{text} {_bands(first, second)}"


def per_step(first: Group, second: Group) -> str:
    """How much longer and dearer a step of the second group is: medians over runs of simulated
    seconds and joules.
    """
    costs = []
    for group in (first, second):
        done = [run.summary for run in group.runs if run.summary["steps"]]
        if not done:
            return f"{group.name} has no step that ended: no comparison of steps."
        pairs = [
            (s["simulated_s"] / s["steps"], s["energy"]["total"]["energy_j"] / s["steps"])
            for s in done
        ]
        costs.append(np.median(np.array(pairs), axis=0))
    time, energy = costs[1] / np.where(costs[0] > 0, costs[0], np.nan)
    return (
        f"A step of {second.name} takes {time:.3g} times as long as one of {first.name} "
        f"({quantity(costs[1][0], 's')} against {quantity(costs[0][0], 's')}) and {energy:.3g} "
        "times its energy "
        f"({quantity(costs[1][1], 'J')} against {quantity(costs[0][1], 'J')}, nominal)."
    )


def _bands(first: Group, second: Group) -> str:
    """Energies to target with the band of the constants, and whether the bands overlap."""
    bands = [energy_to_target(group) for group in (first, second)]
    overlap = max(b["energy_low_j"] for b in bands) <= min(b["energy_high_j"] for b in bands)
    texts = (
        f"{group.name} {with_band(energy)}"
        for group, energy in zip((first, second), bands, strict=True)
    )
    words = "overlap, so the constants decide" if overlap else "do not overlap"
    return f"Over the range of the datasheets' constants they {words}: {', '.join(texts)}."


def energy_to_target(group: Group) -> Energies:
    """Median joules to target, nominal, low and high; the band is in proportion to that of the
    whole run.
    """
    found = []
    for joules, run in zip(to_target(group, "joules"), group.runs, strict=True):
        whole = run.summary["energy"]["total"]
        found.append([joules * whole[name] / whole["energy_j"] for name in ENERGY_NAMES])
    nominal, low, high = np.median(found, axis=0).tolist()
    return {"energy_j": nominal, "energy_low_j": low, "energy_high_j": high}


def _pairs(first: Group, second: Group, key: Measure) -> np.ndarray:
    """Values of both groups for the seeds they share, shape (2, pairs)."""
    values = [
        dict(zip(map(seed_of, g.runs), to_target(g, key), strict=True)) for g in (first, second)
    ]
    seeds = sorted(values[0].keys() & values[1].keys())
    return np.array([[value[seed] for seed in seeds] for value in values]).reshape(2, -1)


def _sentence(first: str, second: str, found: Paired, word: str) -> str:
    interval = (
        f", 95 % interval {found.low:.3g} to {found.high:.3g}" if np.isfinite(found.low) else ""
    )
    figures_text = (
        f"ratio {found.ratio:.3g}{interval}, p = {found.p_value:.2g}, {found.pairs} seeds"
    )
    if found.detectable:
        more, factor = ("less", 1 / found.ratio) if found.ratio < 1 else ("more", found.ratio)
        return f"{second} needs {factor:.3g} times {more} {word} than {first} ({figures_text})."
    few = "; fewer than 6 shared seeds cannot show one" if found.pairs < 6 else ""
    return f"no detectable difference between {first} and {second} ({figures_text}{few})."
