"""pydantic's errors as problems with file, line, path, what was expected and what stands there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from hybridsim.errors import MOST_PROBLEMS, Problem
from hybridsim.scenario.document import BAD, Node, dotted
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import Raw, describe

_EXPECTED = {
    "model_type": "a map",
    "model_attributes_type": "a map",
    "dict_type": "a map",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "a text of at most {max_length} characters",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
}
_Path = tuple[str | int, ...]
_UNIONS: tuple[_Path, ...] = (
    ("training", "algorithm"),
    ("training", "algorithm", "update"),
    ("machine", "nodes", "*"),
    ("question",),
)
_MOVED = {
    "adam": "update: {kind: adam, beta1: ...}",
    "moments": "update: {kind: adam, beta1: ...}",
    "momentum": "update: {kind: nesterov, momentum: ...}",
}
"""Where settings of the optimizer under another algorithm stand that once stood beside it."""


def problems_of(error: ValidationError, model: type[BaseModel], root: Node) -> list[Problem]:
    """Every problem in the order of the fields, without what the document's reader has reported."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        if len(found) > MOST_PROBLEMS:
            break
        if detail["input"] is not BAD:
            found.extend(p for p in _problems(detail, model, root) if p not in found)
    return found


def _problems(detail: Mapping[str, Raw], model: type[BaseModel], root: Node) -> Iterator[Problem]:
    path, context = without_tags(detail["loc"]), detail.get("ctx", {})
    if detail["type"] != "fields":
        path, expected, got = _explain(detail, model, path)
        yield problem_at(root, path, expected, got)
        return
    for complaint in context["complaints"]:
        if complaint.problem is not None:
            yield complaint.problem
        else:
            yield problem_at(root, (*path, *complaint.path), complaint.expected, complaint.got)


def problem_at(root: Node, path: _Path, expected: str, got: str) -> Problem:
    """A problem at a place of a document, with the file and line that stand there."""
    node = root.nearest(path)
    return Problem(node.file, node.line, dotted(path), expected, got)


def _explain(
    detail: Mapping[str, Raw], model: type[BaseModel], path: _Path
) -> tuple[_Path, str, str]:
    kind, context, got = detail["type"], detail.get("ctx", {}), describe(detail["input"])
    if kind == "field":
        return path, context["expected"], context["got"]
    if kind == "missing":
        return path, "a value for this required field", "nothing"
    if kind == "extra_forbidden":
        valid, key = keys_at(model, detail["loc"][:-1]), path[-1]
        moved = _MOVED.get(str(key)) if "update" in valid else None
        return path, moved or one_of(valid, key, "a known key"), f"the unknown key {describe(key)}"
    if kind in ("literal_error", "union_tag_invalid"):
        names = [
            t.strip(" '")
            for t in context.get("expected", context.get("expected_tags"))
            .replace(" or ", ", ")
            .split(",")
        ]
        where = path if kind == "literal_error" else (*path, "kind")
        value = detail["input"] if kind == "literal_error" else detail["input"].get("kind")
        return where, one_of(names, value, f"one of {', '.join(names)}"), describe(value)
    if kind == "union_tag_not_found":
        return (*path, "kind"), "a kind", "nothing" if isinstance(detail["input"], dict) else got
    expected = _EXPECTED.get(kind)
    return path, expected.format(**context) if expected else f"another value ({detail['msg']})", got


def without_tags(loc: _Path) -> _Path:
    """Pydantic names the chosen ``kind`` in an error's place; a user's file has no such level."""
    for parent in _UNIONS:
        n = len(parent)
        if len(loc) > n and all(p in ("*", here) for p, here in zip(parent, loc, strict=False)):
            loc = (*loc[:n], *loc[n + 1 :])
    return loc


def keys_at(model: type[BaseModel], loc: _Path) -> list[str]:
    """Valid YAML keys of the map at an error's place."""
    current: Raw = model
    for part in loc:
        current = _step(current, part)
    classes = _models(current)
    return sorted({f.alias or name for c in classes for name, f in c.model_fields.items()})


def _step(current: Raw, part: str | int) -> Raw:
    for choice in _models(current):
        for name, field in choice.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
        kind = choice.model_fields.get("kind")
        if kind is not None and part in get_args(kind.annotation):
            return choice
    inner = [arg for arg in get_args(_bare(current)) if _models(arg)]
    return inner[-1] if inner else None


def _bare(annotation: Raw) -> Raw:
    """Without Annotated and Optional."""
    while hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    others = [arg for arg in get_args(annotation) if arg is not type(None)]
    if (
        len(others) == 1
        and len(get_args(annotation)) == 2
        and _origin(annotation) not in (dict, list, tuple)
    ):
        return _bare(others[0])
    return annotation


def _origin(annotation: Raw) -> Raw:
    return get_origin(annotation)


def _models(annotation: Raw) -> list[type[BaseModel]]:
    """The classes of a map: itself, or the members of a union."""
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return [bare]
    if _origin(bare) is Union or type(bare).__name__ == "UnionType":
        return [model for arg in get_args(bare) for model in _models(arg)]
    return []
