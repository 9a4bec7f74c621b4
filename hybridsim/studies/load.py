"""Loading a study: read, override, validate, try every combination; every mistake at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.datasheets.sheets import sheets_held
from hybridsim.scenario.document import (
    DocumentError,
    Node,
    ascii_path,
    from_python,
    parse,
    read_file,
)
from hybridsim.scenario.merge import absolutise, apply_override, keys_of
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.problems import problems_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.studies.checks import check
from hybridsim.studies.schema import Plan, Study

_BROKEN_AXIS: dict[str, Raw] = {"zip": {}}
"""Stands for an axis whose mistakes have been told, so that the others keep their numbers."""


def shipped_studies() -> dict[str, Path]:
    """Shipped studies by name."""
    from importlib.resources import files

    folder = Path(str(files("hybridsim.scenarios"))) / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(source: str | Path | Mapping[str, Raw], overrides: Sequence[str] = ()) -> Study:
    """A study from a file, a shipped name or a dict, every combination of its axes checked.

    Args:
        source: a path, a shipped name, or plain maps as in a file; paths in these are relative to
            the file, or to the current folder.
        overrides: ``path=value`` texts on the study's own fields such as ``seeds=10`` or
            ``set.training.steps=50``, applied in order.

    Raises:
        InputError: every problem found, one per line.
    """
    try:
        root, problems, shown = _read(source)
    except DocumentError as error:
        raise InputError([error.problem]) from None
    for override in [overrides] if isinstance(overrides, str) else overrides:
        try:
            root = _overridden(root, override)
        except DocumentError as error:
            problems.append(error.problem)
    with sheets_held():
        return _checked(root, shown, problems)


def _checked(root: Node, shown: str, problems: list[Problem]) -> Study:
    plain = root.plain()
    try:
        plan: Plan = Study.model_validate(plain)
    except ValidationError as error:
        problems += problems_of(error, Study, root)
        rest = _usable_rest(plain, error)
        if rest is not None:
            kept = {key: node for key, node in root.value.items() if key in rest[1]}
            problems += check(rest[0], Node(kept, root.file, root.line), shown)
        raise InputError(_in_order(problems, root)) from None
    problems += check(plan, root, shown)
    if problems:
        raise InputError(_in_order(problems, root))
    assert isinstance(plan, Study)
    return plan


def _in_order(problems: Sequence[Problem], root: Node) -> list[Problem]:
    """Each once, the study file's own first, by line."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.file != root.file, p.line or 0))


def _usable_rest(plain: Raw, error: ValidationError) -> tuple[Plan, set[str]] | None:
    """The study without the fields that are wrong, so that the others can be checked as well, and
    which fields it has; None where nothing is left to check.
    """
    rest = {key: value for key, value in plain.items() if key not in ("name", "question")}
    for detail in error.errors(include_url=False):
        place = detail["loc"]
        if len(place) > 1 and place[0] == "axes" and isinstance(rest.get("axes"), list):
            rest["axes"] = [
                _BROKEN_AXIS if index == place[1] else axis
                for index, axis in enumerate(rest["axes"])
            ]
        elif place:
            rest.pop(place[0], None)
        if place[:1] == ("seeds",):
            rest.pop("tuning", None)  # its seeds are held against these
    try:
        return Plan.model_validate(rest), set(rest)
    except ValidationError:
        return None


def _read(source: object) -> tuple[Node, list[Problem], str]:
    if isinstance(source, Mapping):
        root, problems = from_python(dict(source), "<dict>"), list[Problem]()
        folder, shown = Path.cwd(), "<dict>"
    else:
        path = _path(source)
        root, problems = parse(read_file(path, "a study file"), ascii_path(path))
        folder, shown = path.parent, str(source)
    _lengthen(root)
    _absolutise(root, folder)
    return root, problems, shown


def _path(source: object) -> Path:
    if isinstance(source, Path):
        return source
    if not isinstance(source, str) or not source:
        raise DocumentError(
            Problem("study", None, "", "a path, a shipped name or a map", describe(source))
        )
    if source.endswith((".yaml", ".yml")) or "/" in source or Path(source).name != source:
        return Path(source)
    shipped = shipped_studies()
    if source not in shipped:
        expected = one_of(shipped, source, "a shipped study or a path ending in .yaml")
        raise DocumentError(Problem(ascii_path(source), None, "", expected, "an unknown name"))
    return shipped[source]


def _lengthen(root: Node) -> None:
    """Write every short form of a side as a map, in place."""
    for holder, key in _sides(root):
        child = holder.value[key]
        if isinstance(child.value, str):
            holder.value[key] = Node({"scenario": child}, child.file, child.line)


def _sides(root: Node) -> Iterator[tuple[Node, str]]:
    """Maps with a key whose value describes a side, whatever else may be wrong."""
    if "base" in root.value:
        yield root, "base"
    scenarios = _inside(root, "scenarios")
    yield from ((scenarios, key) for key in scenarios.value)


def _inside(node: Node, *keys: str) -> Node:
    """The map at a place, an empty one where there is none."""
    for key in keys:
        found = node.value.get(key)
        if found is None or not isinstance(found.value, dict):
            return Node({}, node.file, None)
        node = found
    return node


def _absolutise(root: Node, folder: Path) -> None:
    """Make all paths absolute, in place: those of scenarios, and of files that values name."""
    for holder, key in _sides(root):
        side = _inside(holder, key)
        named = side.value.get("scenario")
        text = named.value if named is not None else None
        if isinstance(text, str) and (text.endswith((".yaml", ".yml")) or "/" in text):
            named.value = str((folder / text).absolute())
        _absolutise_fields(_inside(side, "set"), folder)
    _absolutise_fields(_inside(root, "set"), folder)
    axes = root.value.get("axes")
    for axis in axes.value if axes is not None and isinstance(axes.value, list) else ():
        if isinstance(axis.value, dict):
            _absolutise_fields(_inside(axis, "zip"), folder)
            field, grid = axis.value.get("field"), axis.value.get("grid")
            if grid is not None and field is not None and isinstance(field.value, str):
                _absolutise_fields(Node({field.value: grid}, "", None), folder)
    for side in _inside(root, "tuning", "fields").value:
        _absolutise_fields(_inside(root, "tuning", "fields", side), folder)


def _absolutise_fields(fields: Node, folder: Path) -> None:
    """Those in values, or lists of values, by dotted field."""
    for field, node in fields.value.items():
        for item in node.value if isinstance(node.value, list) else [node]:
            absolutise(Node({(keys_of(field) or [""])[-1]: item}, "", None), folder)


def _overridden(root: Node, override: str) -> Node:
    """``set.training.steps=50`` means the field ``training.steps`` of ``set``; all else is as for
    scenarios.
    """
    name, equals, value = override.partition("=") if isinstance(override, str) else ("", "", "")
    keys = keys_of(name)
    depth = next((n for n in (1, 2, 3) if _holds_fields(keys[:n])), None)
    if not equals or depth is None or len(keys) <= depth:
        root = apply_override(root, override)
    else:
        leaf = apply_override(Node({}, "--set", None), f"value={value}").value["value"]
        root = _with_field(root, keys[:depth], ".".join(keys[depth:]), leaf)
    _lengthen(root)
    _absolutise(root, Path.cwd())
    return root


def _holds_fields(keys: list[str]) -> bool:
    """Is this the place of a map whose keys are fields of a scenario?"""
    return (
        keys in (["set"], ["base", "set"])
        or (len(keys) == 3 and keys[0] == "scenarios" and keys[2] == "set")
        or (len(keys) == 3 and keys[:2] == ["tuning", "fields"])
    )


def _with_field(node: Node, keys: list[str], field: str, leaf: Node) -> Node:
    if not keys:
        fields = node.value if isinstance(node.value, dict) else {}
        kept = {key: child for key, child in fields.items() if keys_of(key) != keys_of(field)}
        return Node({**kept, field: leaf}, node.file, node.line)
    children = node.value if isinstance(node.value, dict) else {}
    child = children.get(keys[0], Node({}, "--set", None))
    inner = _with_field(child, keys[1:], field, leaf)
    return Node({**children, keys[0]: inner}, node.file, node.line)
