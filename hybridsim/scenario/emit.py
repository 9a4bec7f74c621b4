"""Writing plain maps as YAML that :mod:`hybridsim.scenario.document` reads back unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridsim.scenario.quantity import Raw

_PLAIN = re.compile(r"[A-Za-z0-9./][\w./%+*() -]*")
_AMBIGUOUS = re.compile(
    r"[-+.0-9][-+.\deExXoOa-fA-F_]*|true|false|null|yes|no|on|off|\.?(inf|nan)", re.IGNORECASE
)


def emit(document: dict[str, Raw]) -> str:
    """YAML text of nested maps, lists and scalars; lists of scalars and empty maps stand on one
    line.
    """
    return "\n".join(_lines(document, 0)) + "\n"


def _lines(value: dict[str, Raw], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, child in value.items():
        if isinstance(child, dict) and child:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(child, depth + 1)
        elif isinstance(child, list) and any(isinstance(item, dict) for item in child):
            yield f"{indent}{_scalar(key)}:"
            yield from (f"{indent}  - {_flow(item)}" for item in child)
        else:
            yield f"{indent}{_scalar(key)}: {_flow(child)}"


def _flow(value: Raw) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Raw) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    plain = _PLAIN.fullmatch(value) and not _AMBIGUOUS.fullmatch(value) and value.isascii()
    return value if plain and value == value.strip() else _quoted(value)


def _quoted(text: str) -> str:
    escaped = "".join(_escape(c) for c in text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isascii() and character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
