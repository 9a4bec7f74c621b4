"""Trying every combination of a study's axes: what is wrong with it, told once for each cause."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hybridsim.errors import MOST_PROBLEMS, InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.studies.axes import values_of_side
from hybridsim.studies.expansion import is_within
from hybridsim.studies.schema import Plan

_Failed = dict[Problem, list[tuple[str, Mapping[str, Raw]]]]


def trials(plan: Plan, root: Node) -> list[Problem]:
    """What is wrong with any side's scenario under any combination of values, and under any of the
    settings that are tuned.
    """
    failed: _Failed = {}
    tried: dict[str, list[Mapping[str, Raw]]] = {}
    for side, nodes in _distinct(plan, root):
        values = {field: node.plain() for field, node in nodes.items()}
        tried.setdefault(side, []).append(values)
        for problem in _problems(plan, side, nodes):
            failed.setdefault(problem, []).append((side, values))
        if len(failed) > MOST_PROBLEMS:
            break
    alone = {(p.path, p.expected, p.got): p for side in tried for p in _problems(plan, side, {})}
    found = []
    for problem, where in failed.items():
        own = alone.get((problem.path, problem.expected, problem.got))
        found.append(own or _explained(problem, where, tried, root))
    return _one_of_each_draw(plan, root, list(dict.fromkeys(found)))


def _distinct(plan: Plan, root: Node) -> Iterator[tuple[str, dict[str, Node]]]:
    """Every side with the values that apply to it, each once; the first ones also under every
    setting that is tuned.
    """
    for side in plan.expansion.bases:
        for number, values in enumerate(values_of_side(plan.axes, side)):
            for tuned in _tuned(plan, side, root) if number == 0 else [{}]:
                yield side, {**values, **tuned}


def _tuned(plan: Plan, side: str, root: Node) -> Iterator[dict[str, Node]]:
    """No setting, then every combination of those that the side chooses among."""
    yield {}
    fields = plan.tuning.fields.get(side, {}) if plan.tuning is not None else {}
    columns = [root.nearest(("tuning", "fields", side, field)).value for field in fields]
    if columns:
        for row in itertools.product(*columns):
            yield dict(zip(fields, row, strict=True))


def _problems(plan: Plan, side: str, nodes: Mapping[str, Node]) -> Sequence[Problem]:
    try:
        plan.expansion.scenario(side, nodes)
    except InputError as error:
        return error.problems
    return ()


def _explained(
    problem: Problem,
    where: Sequence[tuple[str, Mapping[str, Raw]]],
    tried: Mapping[str, Sequence[Mapping[str, Raw]]],
    root: Node,
) -> Problem:
    """The problem with what it takes to meet it: a side, and values where it stands at none."""
    sides = list(dict.fromkeys(side for side, _ in where))
    notes = []
    if problem.file not in (root.file, "--set"):
        notes.append(
            _shared([values for side, values in where if side == sides[0]], tried[sides[0]])
        )
    if len(sides) < len(tried):
        notes.append("on side " + " and ".join(sides))
    note = ", ".join(note for note in notes if note)
    return replace(problem, got=f"{problem.got} ({note})") if note else problem


def _shared(failing: Sequence[Mapping[str, Raw]], tried: Sequence[Mapping[str, Raw]]) -> str:
    """The values that all combinations that fail have and others have not; else one of them."""
    if len(failing) == len(tried):
        return ""
    first = failing[0]
    shared = [
        field
        for field, value in first.items()
        if all(other.get(field) == value for other in failing)
        and any(other.get(field) != value for other in tried)
    ]
    shown = " and ".join(f"{field} is {describe(first[field])}" for field in shared or first)
    more = "" if shared else f", one of {len(failing)} such combinations"
    return f"where {shown}{more}"


def _one_of_each_draw(plan: Plan, root: Node, problems: Sequence[Problem]) -> list[Problem]:
    """Of what differs in a drawn value alone, the first."""
    sampled = [axis.fields[0] for axis in plan.axes if axis.kind == "sample"]
    kept, seen = [], set()
    for problem in problems:
        drawn = problem.file == root.file and any(is_within(problem, field) for field in sampled)
        cause = replace(problem, got="")
        if not drawn or cause not in seen:
            kept.append(problem)
        seen.add(cause)
    return kept
