"""From what a study file says to the documents of its sides and the values of its axes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import DocumentError, Node, dotted
from hybridsim.scenario.merge import named_scenario, read_layers
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.problems import problem_at, problems_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.axes import Axis
from hybridsim.studies.expansion import is_within, refusal, with_values
from hybridsim.studies.sampling import Path_, sampled_axes, sides_of_axis
from hybridsim.studies.schema import AxisChoice, Plan
from hybridsim.studies.values import identity


def bases_of(plan: Plan, root: Node) -> tuple[dict[str, Node], list[Problem]]:
    """The document of every side that can be read, with the fields that the study sets and without
    thresholds, and what is wrong with any.
    """
    bases, problems = {}, list[Problem]()
    for name in plan.choices:
        path: Path_ = ("base",) if plan.base is not None else ("scenarios", name)
        named = root.nearest((*path, "scenario"))
        try:
            file = named_scenario(named, Path(), dotted((*path, "scenario")))
            base, found = read_layers(file)
            fields = _fields_at(root, ("set",)) | _fields_at(root, (*path, "set"))
            base = with_values(base, fields)
        except DocumentError as error:
            problems.append(error.problem)
            continue
        except InputError as error:
            problems += error.problems
            continue
        problems += [*found, *_thresholds(base)]
        kept = {key: node for key, node in base.value.items() if key != "thresholds"}
        bases[name] = Node(kept, base.file, base.line)
    return bases, problems


def _fields_at(root: Node, path: Path_) -> dict[str, Node]:
    """Values by dotted field; fields that are none are told elsewhere."""
    node = root
    for part in path:
        node = node.value.get(part, Node({}, "", None))
    return {f: child for f, child in node.value.items() if refusal(f, varies=False) is None}


def _thresholds(base: Node) -> list[Problem]:
    """A study has a question in place of thresholds, but a mistake in them is one."""
    if "thresholds" not in base.value:
        return []
    try:
        Scenario.model_validate(base.plain())
    except ValidationError as error:
        found = problems_of(error, Scenario, base)
        return [problem for problem in found if is_within(problem, "thresholds")]
    return []


def axes_of(plan: Plan, root: Node) -> tuple[list[Axis], list[Problem]]:
    """Every axis that has values, in the file's order, and what is wrong with any."""
    problems: list[Problem] = []
    axes: dict[int, Axis] = {}
    for index, choice in enumerate(plan.axis_choices):
        path: Path_ = ("axes", index)
        if choice.columns == {} and root.nearest(path).plain() != {"zip": {}}:
            continue  # stands for an axis whose mistakes have been told
        problems += _sides(plan, choice, root, path)
        if choice.sample is None:
            problems += _values(choice, root, path)
            nodes = _nodes(choice, root, path)
            usable = all(refusal(field, varies=True) is None for field in nodes)
            lengths = {len(found) for found in nodes.values()}
            if usable and len(lengths) == 1 and 0 not in lengths:
                kind: Literal["grid", "zip"] = "zip" if choice.grid is None else "grid"
                axes[index] = Axis(kind, nodes, sides_of_axis(plan, choice), index)
    sampled, found = sampled_axes(plan, root)
    axes |= {axis.index: axis for axis in sampled}
    return [axes[index] for index in sorted(axes)], [*problems, *found]


def _nodes(choice: AxisChoice, root: Node, path: Path_) -> dict[str, tuple[Node, ...]]:
    if choice.field is not None:
        return {choice.field: tuple(root.nearest((*path, "grid")).value)}
    columns = root.nearest((*path, "zip")).value
    return {field: tuple(column.value) for field, column in columns.items()}


def _sides(plan: Plan, choice: AxisChoice, root: Node, path: Path_) -> Iterator[Problem]:
    names = [side.name for side in plan.sides]
    if choice.sides == []:
        yield problem_at(root, (*path, "sides"), "at least one side", "an empty list")
    for place, name in enumerate(choice.sides or ()):
        where = (*path, "sides", place)
        if name not in names:
            yield problem_at(root, where, one_of(names, name, "a side"), describe(name))
        elif name in (choice.sides or [])[:place]:
            yield problem_at(root, where, "each side once", f"{describe(name)} again")


def _values(choice: AxisChoice, root: Node, path: Path_) -> Iterator[Problem]:
    """No values, as many as on no other field of a zip, or values that were there before."""
    columns = choice.columns if choice.columns is not None else {}
    place: Path_ = (*path, "zip")
    if choice.grid is not None and choice.field is not None:
        columns, place = {choice.field: choice.grid}, (*path, "grid")
    if not columns:
        yield problem_at(root, place, "at least one field", "an empty map")
        return
    first, length = next((field, len(values)) for field, values in columns.items())
    for field, values in columns.items():
        where = place if choice.grid is not None else (*place, field)
        if not values:
            yield problem_at(root, where, "at least one value", "an empty list")
        elif len(values) != length and length:
            expected = f"{length} values, as for {first}"
            yield problem_at(root, where, expected, str(len(values)))
    seen: list[list[Raw]] = []
    for row, together in enumerate(zip(*columns.values(), strict=False)):
        found = [identity(value) for value in together]
        if found in seen:
            where = (*place, row) if choice.grid is not None else (*place, first, row)
            got = " with ".join(describe(value) for value in together)
            yield problem_at(root, where, "each value once", f"{got} again")
        seen.append(found)
