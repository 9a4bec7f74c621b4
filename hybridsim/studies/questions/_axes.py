"""The axes of a study, as questions see them: what varies, its values, its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.scenario.quantity import Raw
from hybridsim.studies.expansion import is_within
from hybridsim.studies.questions._draws import unknown_constants
from hybridsim.studies.questions._measures import TO_TARGET, Measure
from hybridsim.studies.values import number

if TYPE_CHECKING:
    from hybridsim.studies.axes import Axis
    from hybridsim.studies.schema import Study

Trouble = list[tuple[tuple[str | int, ...], str, str]]
"""Problems of a study: (path in its file, expected, got)."""


def fields_of(study: Study) -> list[str]:
    """All fields that vary, in the file's order."""
    return [field for axis in study.axes for field in axis.fields]


def groups_of(study: Study) -> list[tuple[str, ...]]:
    """Fields that vary together, in the file's order: those of one axis; sampled axes are one."""
    found: list[tuple[str, ...]] = []
    sampled: list[str] = []
    for axis in study.axes:
        if axis.kind != "sample":
            found.append(axis.fields)
        elif not sampled:
            found.append(())
            sampled.extend(axis.fields)
        else:
            sampled.extend(axis.fields)
    return [group or tuple(sampled) for group in found]


def numbers_of(values: Sequence[Raw]) -> list[float] | None:
    """The numbers of a field's values in SI units; None where one is a word."""
    found = [number(values[0], value) for value in values]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def takes_whole(study: Study, sides: Sequence[str], field: str, values: Sequence[Raw]) -> bool:
    """The values are whole numbers, and the field refuses a fraction: what lies between two of
    them is no value.
    """
    if not all(type(value) is int for value in values):
        return False
    between = Node(values[0] + 0.5, "study", None)
    return any(problems_at(study, side, field, between) for side in sides)


def problems_at(study: Study, side: str, field: str, node: Node) -> list[Problem]:
    """What a side's scenario says against a value of a field, all else as the side has it."""
    try:
        study.expansion.scenario(side, {field: node})
    except InputError as error:
        return [problem for problem in error.problems if is_within(problem, field)]
    return []


def numeric_axes(study: Study) -> list[Axis]:
    """Axes of one field whose values are numbers, at least two of them."""
    single = [axis for axis in study.axes if len(axis.fields) == 1]
    values = [axis.values(axis.fields[0]) for axis in single]
    pairs = zip(single, values, strict=True)
    return [axis for axis, own in pairs if len(own) > 1 and numbers_of(own) is not None]


def names_of(study: Study) -> list[str]:
    """The sides' names."""
    return [side.name for side in study.sides]


def measure_problems(study: Study, key: str, measure: Measure) -> Trouble:
    """A problem where no run will have the measure: to a target that a timing-only run never
    evaluates, or steps to a target that a scenario has not.
    """
    if measure == "area":
        return _area_problems(study, key)
    if measure not in TO_TARGET:
        return []
    targets = [
        (side.name, scenario.training.target)
        for side in study.sides
        for scenario in study.scenarios_of(side.name)
    ]
    with_target = [name for name, target in targets if target is not None]
    without = [name for name, target in targets if target is None]
    path, due = ("question", key), "step_seconds, step_joules, run_seconds or run_joules"
    if study.backend == "timing" and with_target:
        got = f"{measure}, to a target of {with_target[0]} that 'backend: timing' does not evaluate"
        return [(path, due, got)]
    if measure == "step" and without:
        return [(path, due, f"step, where {without[0]} has no target")]
    return []


def _area_problems(study: Study, key: str) -> Trouble:
    """A problem where a side has no analog parts."""
    digital = [
        side.name
        for side in study.sides
        if not all(one.training.algorithm.needs_spu for one in study.scenarios_of(side.name))
    ]
    if not digital:
        return []
    return [(("question", key), "a measure of all sides", f"area, where {digital[0]} has no SPU")]


def constant_problems(study: Study, asked: Sequence[str] | None) -> Trouble:
    """Constants by name that no part of any side gives a range."""
    if asked is None:
        return []
    from hybridsim.studies.retiming.draws import ranged_constants

    # Imported late: it knows points, which know studies, which know questions.
    firsts = {side.name: next(study.scenarios_of(side.name), None) for side in study.sides}
    ranged = ranged_constants({name: first for name, first in firsts.items() if first is not None})
    found: Trouble = [
        (("question", "constants", index), expected, got)
        for index, expected, got in unknown_constants(ranged, asked)
    ]
    if not asked:
        found.append((("question", "constants"), "at least one constant", "an empty list"))
    return found


def no_axes(study: Study) -> Trouble:
    """A problem where anything varies beside what the question varies itself."""
    if not study.axes:
        return []
    return [(("axes",), "no axes: the question varies what it needs", f"{len(study.axes)}")]


def two_sides(study: Study) -> Trouble:
    """A problem unless there are exactly two sides."""
    count = len(study.sides)
    if count == 2:
        return []
    return [(("scenarios",), "exactly two sides", f"{count}")]
