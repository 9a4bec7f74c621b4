"""Loading a scenario: read, extend, override, validate; every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import DocumentError, Node, ascii_path
from hybridsim.scenario.merge import (
    apply_override,
    from_dict,
    locate,
    read_layers,
    shipped_scenarios,
)
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.problems import problems_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.schema import Scenario


def load(source: str | Path | Mapping[str, Raw], overrides: Sequence[str] = ()) -> Scenario:
    """A scenario from a file, a shipped name or a dict.

    Args:
        source: a path, a shipped name such as ``tngd-digits``, or plain maps as in a file.
        overrides: ``path=value`` texts such as ``machine.link.bandwidth=200 Gb/s``, applied in
            order.

    Raises:
        InputError: every problem found, one per line.
    """
    problems: list[Problem] = []
    try:
        root, shown = _read(source, problems)
    except DocumentError as error:
        raise InputError([error.problem]) from None
    for text in [overrides] if isinstance(overrides, str) else overrides:
        try:
            root = apply_override(root, text)
        except DocumentError as error:
            problems.append(error.problem)
    try:
        scenario = Scenario.model_validate(root.plain())
    except ValidationError as error:
        raise InputError(problems + problems_of(error, Scenario, root)) from None
    if problems:
        raise InputError(problems)
    scenario._source, scenario._root = shown, root
    return scenario


def _read(source: object, problems: list[Problem]) -> tuple[Node, str]:
    if isinstance(source, Mapping):
        return from_dict(dict(source)), "<dict>"
    path = _path(source)
    root, found = read_layers(path)
    problems.extend(found)
    return root, str(source)


def _path(source: object) -> Path:
    if isinstance(source, Path):
        return source
    if not isinstance(source, str) or not source:
        raise DocumentError(
            Problem("scenario", None, "", "a path, a shipped name or a map", describe(source))
        )
    path = locate(source, Path())
    if path is None and not _exists(source):
        expected = one_of(
            shipped_scenarios(), source, "a shipped scenario or a path ending in .yaml"
        )
        raise DocumentError(Problem(ascii_path(source), None, "", expected, "an unknown name"))
    return path or Path(source)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
