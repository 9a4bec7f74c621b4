"""What can be wrong with a study beside its form: names, fields named twice, budgets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.scenario.fields import NODE_NAME
from hybridsim.scenario.merge import keys_of, short_form
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.problems import problem_at
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.studies.axes import number_of_combinations
from hybridsim.studies.expansion import Expansion, refusal
from hybridsim.studies.resolve import axes_of, bases_of
from hybridsim.studies.sampling import Path_
from hybridsim.studies.schema import Plan, Study
from hybridsim.studies.trials import trials

MOST_POINTS = 100_000


def check(plan: Plan, root: Node, source: str) -> list[Problem]:
    """Every mistake. The study knows its documents and the values of its axes from here on."""
    plan._source, plan._root = source, root
    problems = [*_names(plan, root), *_fields(plan, root), *_tuning(plan, root)]
    bases, found = bases_of(plan, root)
    plan._expansion = Expansion(bases)
    axes, more = axes_of(plan, root)
    plan._axes = tuple(axes)
    problems += [*found, *more, *_too_many(plan, root)]
    fits = not problems and isinstance(plan, Study)
    if number_of_points(plan) <= MOST_POINTS:
        problems += trials(plan, root)
    if fits and isinstance(plan, Study):
        try:
            problems += [problem_at(root, *found) for found in plan.question.problems(plan)]
        except InputError as error:  # it looked at a scenario that is not valid
            problems += () if problems else error.problems
    return problems


def number_of_points(plan: Plan) -> int:
    """Combinations times sides times seeds."""
    return number_of_combinations(plan.axes) * len(plan.sides) * len(plan.seeds)


def _too_many(plan: Plan, root: Node) -> Iterator[Problem]:
    points = number_of_points(plan)
    if points > MOST_POINTS:
        combined = number_of_combinations(plan.axes)
        got = f"{points} ({combined} x {len(plan.sides)} sides x {len(plan.seeds)} seeds)"
        yield problem_at(root, ("axes",), f"at most {MOST_POINTS} points", got)


def _names(plan: Plan, root: Node) -> Iterator[Problem]:
    for side in plan.sides:
        if not NODE_NAME.fullmatch(side.name):
            expected = "a name of letters, digits, _ and -"
            if plan.base is None:
                yield problem_at(root, ("scenarios", side.name), expected, describe(side.name))
            else:
                expected = f"a file with {expected}, or a name under scenarios:"
                yield problem_at(root, ("base", "scenario"), expected, describe(side.name))


class _Named(NamedTuple):
    """A place of the study file that names a field: its path, the field, sides, values."""

    path: Path_
    field: str
    sides: tuple[str, ...]
    values: list[Raw]
    varies: bool

    @property
    def is_axis(self) -> bool:
        return self.path[0] == "axes"

    def is_around(self, other: _Named) -> bool:
        """Does its field hold the other's? Its values, which are no maps, would replace it."""
        mine, others = keys_of(self.field), keys_of(other.field)
        return len(mine) < len(others) and others[: len(mine)] == mine

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the field that is written, in the long form where it has a short one."""
        keys = tuple(keys_of(self.field))
        path = tuple(int(key) if key.isdecimal() else key for key in keys)
        short = short_form(path)
        only_texts = all(isinstance(value, str) for value in self.values)
        return (*keys, short) if short and only_texts else keys


def _named(plan: Plan) -> Iterator[_Named]:
    every = tuple(side.name for side in plan.sides)
    for field, value in plan.fields.items():
        yield _Named(("set", field), field, every, [value], False)
    for name, choice in plan.choices.items():
        place: Path_ = ("base",) if plan.base is not None else ("scenarios", name)
        for field, value in choice.fields.items():
            yield _Named((*place, "set", field), field, (name,), [value], False)
    for index, axis in enumerate(plan.axis_choices):
        sides = every if axis.sides is None else tuple(axis.sides)
        if axis.field is not None:
            yield _Named(("axes", index, "field"), axis.field, sides, axis.grid or [0], True)
        for field, values in (axis.columns or {}).items():
            yield _Named(("axes", index, "zip", field), field, sides, values, True)
    for name, fields in (plan.tuning.fields if plan.tuning is not None else {}).items():
        for field, values in fields.items():
            yield _Named(("tuning", "fields", name, field), field, (name,), values, True)


def _fields(plan: Plan, root: Node) -> Iterator[Problem]:
    """Paths that are none, fields that a study does not change, fields named twice for a side."""
    before: list[_Named] = []
    for named in _named(plan):
        refused = refusal(named.field, named.varies)
        if refused is not None:
            yield problem_at(root, named.path, refused, describe(named.field))
        else:
            yield from _clash(named, before, root)
            before.append(named)


def _clash(named: _Named, before: list[_Named], root: Node) -> Iterator[Problem]:
    for other in before:
        both_axes = named.is_axis and other.is_axis
        if not both_axes and not set(named.sides) & set(other.sides):
            continue
        line = root.nearest(other.path).line
        first = f" (first in line {line})" if line is not None else ""
        if named.keys == other.keys:
            what = "each field on one axis" if both_axes else "each field once for a side"
            yield problem_at(root, named.path, what, f"{describe(named.field)} again{first}")
            return
        if named.varies and not other.varies and named.is_around(other):
            expected = f"a field that holds none that is set, such as {other.field}"
            yield problem_at(root, named.path, expected, f"{describe(named.field)}{first}")
            return


def _tuning(plan: Plan, root: Node) -> Iterator[Problem]:
    """Seeds that are the study's own, sides that it has not, budgets that are not equal."""
    if plan.tuning is None:
        return
    for index, seed in enumerate(plan.tuning.seeds):
        if seed in plan.seeds:
            expected = "seeds that are not the study's own"
            yield problem_at(root, ("tuning", "seeds", index), expected, str(seed))
    names, place = [side.name for side in plan.sides], ("tuning", "fields")
    for name, fields in plan.tuning.fields.items():
        if name not in names:
            yield problem_at(root, (*place, name), one_of(names, name, "a side"), describe(name))
        for field, values in fields.items():
            if not values:
                path = (*place, name, field)
                yield problem_at(root, path, "at least one value", "an empty list")
    budgets = {
        name: math.prod(len(values) for values in plan.tuning.fields.get(name, {}).values())
        for name in names
        if plan.tuning.fields.get(name)
    }
    shown = ", ".join(f"{name} {budgets.get(name, 'none')}" for name in names)
    if len(set(budgets.values())) != 1 or len(budgets) != len(names):
        expected = "the same number of combinations for every side"
        yield problem_at(root, place, expected, shown)
    elif max(budgets.values()) * len(plan.tuning.seeds) * len(names) > MOST_POINTS:
        yield problem_at(root, place, f"at most {MOST_POINTS} runs", f"{shown} on each seed")
