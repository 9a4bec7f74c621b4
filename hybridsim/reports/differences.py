"""What differs among scenarios: only the fields that do, each with its value in every scenario."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from hybridsim.results.keys import Json

ABSENT = "–"
_MISSING: Json = object()
_NAMES = ("part", "kind", "source")
_LONGEST = 40


def differing(scenarios: Sequence[Mapping[str, Json]]) -> dict[str, list[str]]:
    """Dotted path of every field that differs, and its value as text in each scenario.

    A field that another ``kind`` does not have is not a difference of its own; a map that only
    some have is one field, named by its part.
    """
    found = dict(_walk([dict(scenario) for scenario in scenarios], ()))
    return {".".join(path): [_text(value) for value in values] for path, values in found.items()}


_Path = tuple[str, ...]


def _walk(
    values: list[Json], path: _Path, told: bool = False
) -> Iterator[tuple[_Path, list[Json]]]:
    """Differences below a path; ``told``: why some lack it has been said above."""
    present = [value for value in values if value is not _MISSING]
    if not told and len(present) == len(values) and all(value == values[0] for value in values):
        return
    if told and all(value == present[0] for value in present):
        return
    if not all(isinstance(value, dict) for value in present):
        yield path, values
        return
    if len(present) < len(values) and not told:
        yield path, values
    # Another kind has other fields: that they are missing says no more than the kind does.
    other = len(present) < len(values) or len({str(v.get("kind")) for v in present}) > 1
    for key in dict.fromkeys(key for value in present for key in value):
        inner = [v.get(key, _MISSING) if isinstance(v, dict) else _MISSING for v in values]
        yield from _walk(inner, (*path, key), told=other and key != "kind" and _MISSING in inner)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted path that no other path shares."""
    parts = [path.split(".") for path in paths]
    found = {}
    for path, own in zip(paths, parts, strict=True):
        ends = (own[-length:] for length in range(1, len(own) + 1))
        unique = (end for end in ends if sum(other[-len(end) :] == end for other in parts) == 1)
        found[path] = ".".join(next(unique, own))
    return found


def _text(value: Json) -> str:
    """A value in a cell: a map by its part or kind and how many of them there are."""
    if value is _MISSING:
        return ABSENT
    if isinstance(value, dict):
        name = next((str(value[key]) for key in _NAMES if key in value), "")
        count = f"{value['count']} × " if "count" in value and name else ""
        return f"{count}{name}" if name else _cut(json.dumps(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.6g}" if isinstance(value, float) else f"{value}"
    return _cut(value if isinstance(value, str) else json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
