"""What a workload's ``build`` takes, read from its file's text: nothing is imported, no torch
either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import dotted
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.schema import Scenario

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((float, int), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}
_NOT_AN_OPTION = "data_dir"


class _Signature(NamedTuple):
    """Annotations of the options by name, those without a default, and whether any other goes."""

    options: Mapping[str, str]
    required: list[str]
    any_other: bool


def check_options(scenario: Scenario) -> None:
    """Does the scenario's workload have these options, and of these types?

    Raises:
        InputError: it has not.
    """
    workload, root = scenario.workload, scenario.root
    problems = []
    for name, expected, got in _complaints(workload.source, workload.options):
        path = ("workload", "options", name)
        node = root.nearest(path)
        problems.append(Problem(node.file, node.line, dotted(path), expected, got))
    if problems:
        raise InputError(problems)


def _complaints(source: str, options: Mapping[str, Raw]) -> Iterator[tuple[str, str, str]]:
    """Options that ``build`` has not, lacks, or has with another type: name, expected, got.

    A shipped workload's whole numbers are sizes, so from 1. What a file's text does not tell (no
    ``def build`` in it, another annotation than a scalar's) is found when it is run.
    """
    shipped = not source.endswith(".py")
    path = files("hybridsim.models.workloads") / f"{source}.py" if shipped else Path(source)
    try:
        found = _signature(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    if found is None:
        return
    for name, value in options.items():
        if name in found.options:
            yield from _wrong_value(name, value, found.options[name], shipped)
        elif not found.any_other:
            names = [n for n in found.options if n != _NOT_AN_OPTION]
            expected = one_of(names, name, f"an option of {Path(source).name}")
            yield name, expected, f"the unknown option {describe(name)}"
    for name in found.required:
        if name not in options and name != _NOT_AN_OPTION:
            yield name, "a value for this option", "nothing"


def _wrong_value(
    name: str, value: Raw, annotation: str, shipped: bool
) -> Iterator[tuple[str, str, str]]:
    names = [part.strip() for part in annotation.split("|")]
    kinds = [_TYPES[part] for part in names if part in _TYPES]
    if len(kinds) + ("None" in names) < len(names) or (value is None and "None" in names):
        return
    size = shipped and names == ["int"]
    fits = any(type(value) in types for types, _ in kinds) and not (size and value < 1)
    if not fits:
        expected = " or ".join(text for _, text in kinds) + (" >= 1" if size else "")
        yield name, expected, describe(value)


def _signature(text: str) -> _Signature | None:
    """Of the module's own ``def build``; None where there is none, or a decorator changes it."""
    defined = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == "build"
    ]
    if not defined or defined[-1].decorator_list:
        return None
    given = defined[-1].args
    positional = [*given.posonlyargs, *given.args]
    required = positional[: len(positional) - len(given.defaults)]
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    required += [argument for argument, default in pairs if default is None]
    return _Signature(
        {
            argument.arg: ast.unparse(argument.annotation) if argument.annotation else ""
            for argument in (*positional, *given.kwonlyargs)
        },
        [argument.arg for argument in required],
        given.kwarg is not None,
    )
