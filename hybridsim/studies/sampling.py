"""Axes whose values are drawn: where from, and how."""

from __future__ import annotations

from typing import NamedTuple

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.scenario.problems import problem_at
from hybridsim.scenario.quantity import describe, expectation, unit_of
from hybridsim.studies.axes import Axis, Range, latin_hypercube
from hybridsim.studies.expansion import is_within, refusal
from hybridsim.studies.schema import AxisChoice, Plan, Sample
from hybridsim.studies.values import number

Path_ = tuple[str | int, ...]


class _Sampled(NamedTuple):
    place: int
    field: str
    sample: Sample
    sides: tuple[str, ...]

    @property
    def path(self) -> Path_:
        return ("axes", self.place, "sample")


def sides_of_axis(plan: Plan, choice: AxisChoice) -> tuple[str, ...]:
    """The sides that it applies to, in the study's order."""
    names = [side.name for side in plan.sides]
    return tuple(name for name in names if choice.sides is None or name in choice.sides)


def sampled_axes(plan: Plan, root: Node) -> tuple[list[Axis], list[Problem]]:
    """The sampled axes, drawn together, and what is wrong with any; one that is wrong is left
    out.
    """
    problems: list[Problem] = []
    usable: list[tuple[_Sampled, Range]] = []
    count = None
    for index, choice in enumerate(plan.axis_choices):
        if choice.sample is None or choice.field is None:
            continue
        if refusal(choice.field, varies=True) is not None:
            continue  # told elsewhere
        found = _Sampled(index, choice.field, choice.sample, sides_of_axis(plan, choice))
        count = count or found.sample.count
        wrong = _range_problem(found, root) or _count_problem(found, count, root)
        more = [wrong] if wrong is not None else _end_problems(plan, found, root)
        problems += more
        if not more:
            span = Range(
                found.sample.low,
                found.sample.high,
                found.sample.scale == "log",
                _takes_whole_numbers(plan, found, root),
            )
            usable.append((found, span))
    drawn = latin_hypercube([span for _, span in usable], count or 0, plan.draw_seed)
    axes = []
    for (found, _), values in zip(usable, drawn, strict=True):
        at = root.nearest(found.path)
        nodes = tuple(Node(value, at.file, at.line) for value in values)
        axes.append(Axis("sample", {found.field: nodes}, found.sides, found.place))
    return axes, problems


def _range_problem(found: _Sampled, root: Node) -> Problem | None:
    """Ends that are no numbers, of two dimensions, in the wrong order, or not for this scale."""
    sample = found.sample
    low, high = number(sample.low, sample.low), number(sample.low, sample.high)
    if low is None:
        expected = "a number, or a quantity like '50 Gb/s'"
        return problem_at(root, (*found.path, "low"), expected, describe(sample.low))
    if high is None:
        unit = unit_of(sample.low)
        expected = "a number, as low is" if unit is None else expectation(unit)
        return problem_at(root, (*found.path, "high"), expected, describe(sample.high))
    if not low < high:
        expected = f"a value above low ({describe(sample.low)})"
        return problem_at(root, (*found.path, "high"), expected, describe(sample.high))
    if sample.scale == "log" and low <= 0:
        expected = "a value above zero, for a logarithmic scale"
        return problem_at(root, (*found.path, "low"), expected, describe(sample.low))
    return None


def _count_problem(found: _Sampled, count: int, root: Node) -> Problem | None:
    if found.sample.count == count:
        return None
    expected = f"{count} values, as on the first sampled axis"
    return problem_at(root, (*found.path, "count"), expected, str(found.sample.count))


def _end_problems(plan: Plan, found: _Sampled, root: Node) -> list[Problem]:
    """What scenarios say of the two ends, each cause once, rather than of every value between
    them.
    """
    ends = [root.nearest((*found.path, end)) for end in ("low", "high")]
    problems = [
        problem
        for side in found.sides
        for end in ends
        for problem in _refusals(plan, side, found.field, end)
    ]
    causes = {(problem.path, problem.expected): problem for problem in reversed(problems)}
    return list(reversed(causes.values()))


def _takes_whole_numbers(plan: Plan, found: _Sampled, root: Node) -> bool:
    """Does the field take its low end, a whole number, and refuse a fraction above it?"""
    low = found.sample.low
    if not isinstance(low, int) or not isinstance(found.sample.high, int):
        return False
    between = Node(low + 0.5, root.file, None)
    return any(_refusals(plan, side, found.field, between) for side in found.sides)


def _refusals(plan: Plan, side: str, field: str, node: Node) -> list[Problem]:
    """What the field itself says against a value, with all else as the side has it."""
    if side not in plan.expansion.bases:
        return []
    try:
        plan.expansion.scenario(side, {field: node})
    except InputError as error:
        return [problem for problem in error.problems if is_within(problem, field)]
    return []
