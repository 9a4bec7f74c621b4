"""The reference pages of the site, written from the code when the site is built.

Fields of scenarios and studies come from their JSON schemas, tables and summary keys from the
classes that document them, constants from their specifications. This is the one file of
``analysis`` that looks below the public names: what it describes lies there.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridsim.results import columns, keys
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.trace.spans import EventRow, RequestRow, SpanRow

ROOT = Path(__file__).resolve().parents[2]
Schema = Mapping[str, Any]  # Any: JSON


def pages() -> dict[str, str]:
    """Name and text of every reference page."""
    return {
        "scenario": scenario(),
        "study": study(),
        "run-folder": run_folder(),
        "summary": summary(),
        "constants": constants(),
    }


def scenario() -> str:
    """Every map that a scenario may hold, field by field."""
    schema = json.loads((ROOT / "scenarios" / "scenario.schema.json").read_text())
    return _joined(
        [
            "# Fields of a scenario",
            "Quantities are texts with their unit; *unit* shows one that fits. `extends: "
            "<scenario>` starts from a shipped scenario or another file.",
            *_maps({"Scenario": schema["else"], **schema["$defs"]}),
        ]
    )


def study() -> str:
    """Every map that a study file may hold, field by field; each kind of question is one."""
    schema = json.loads((ROOT / "scenarios" / "studies" / "study.schema.json").read_text())
    return _joined(
        [
            "# Fields of a study",
            "`question` is one of the maps below that have a `kind`. Values of axes and of `set` "
            "are written as in a scenario.",
            *_maps({"Study": schema, **schema["$defs"]}),
        ]
    )


def _maps(maps: Mapping[str, Schema]) -> Iterator[str]:
    """A heading, a sentence and a table for each map that has fields."""
    whole = {name: body for name, body in maps.items() if not name.endswith(".partial")}
    inner = {place: found for name, body in whole.items() for place, found in _inner(name, body)}
    for name, body in {**whole, **inner}.items():
        if "properties" in body:
            yield from (f"## {name}", _sentence(body), _fields(name, body))


def _inner(place: str, body: Schema) -> Iterator[tuple[str, Schema]]:
    """Maps that fields spell out in place, however deep."""
    for key, field in body.get("properties", {}).items():
        for choice in (field, *field.get("anyOf", ())):
            if "properties" in choice:
                yield f"{place}.{key}", choice
                yield from _inner(f"{place}.{key}", choice)


def _fields(name: str, body: Schema) -> str:
    rows = []
    for key, field in body["properties"].items():
        if key != "extends":
            missing = "required" if key in body.get("required", ()) else "none"
            given = field.get("default", missing)
            default = given if given == missing else _code(given)
            kind, unit = _kind(f"{name}.{key}", field), ", ".join(_units(field))
            rows.append((f"`{key}`", kind, unit, default, field.get("description", "")))
    return table(("field", "type", "unit", "default", "meaning"), rows)


def _code(value: Any) -> str:  # Any: JSON
    text = value if isinstance(value, str) else json.dumps(value)
    return "none" if value is None else f"`{text}`"


def _kind(place: str, field: Schema) -> str:
    """What may stand there, with a link to maps."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "properties" in field:
        return f"[map](#{place.lower().replace('.', '')})"
    for choices in ("anyOf", "oneOf"):
        if choices in field:
            kinds = [_kind(place, c) for c in field[choices] if c.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return " or ".join(f"`{word}`" for word in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_kind(place, items)}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"map of {_kind(place, field['additionalProperties'])}"
    if "examples" in field:
        return "quantity"
    kind = field.get("type", "value")
    return _bounded(" or ".join(kind) if isinstance(kind, list) else kind, field)


def _bounded(kind: str, field: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return ", ".join([{"string": "text", "object": "map"}.get(kind, kind), *limits])


def _units(field: Schema) -> list[str]:
    """Units of the examples, here or in one of the choices."""
    found = [text.split(" ", 1)[1] for text in field.get("examples", ()) if " " in str(text)]
    for choice in field.get("anyOf", ()):
        found += _units(choice)
    return found


def _sentence(body: Schema) -> str:
    return " ".join(body.get("description", "").split()) or "A map."


def run_folder() -> str:
    """The tables of a run folder, column by column."""
    blocks = [
        "# Columns of a run folder",
        "`steps.parquet`, `spans.parquet`, `requests.parquet`, `events.parquet`: `run.steps`, "
        "`run.spans`, `run.requests`, `run.events`. Names carry units; `_ps` is picoseconds.",
        "## steps",
        table(("column", "meaning"), [(f"`{k}`", v) for k, v in columns.STEP_MEANINGS.items()]),
    ]
    schemas = {"spans": columns.SPANS, "events": columns.EVENTS, "requests": columns.REQUESTS}
    classes = {"spans": SpanRow, "events": EventRow, "requests": RequestRow}
    for name, schema in schemas.items():
        meanings = attributes(classes[name])
        rows = [(f"`{f.name}`", str(f.type), meanings[f.name]) for f in schema]
        blocks += [f"## {name}", first(classes[name]), table(("column", "type", "meaning"), rows)]
    return _joined(blocks)


def summary() -> str:
    """The keys of summary.json, map by map."""
    blocks = ["# Keys of the summary", "`summary.json` and `run.summary`; the whole is `Summary`."]
    for name, kind in reversed(summary_maps().items()):
        meanings = meanings_of(kind)
        rows = [
            (f"`{key}`", _linked(annotation), meanings[key])
            for key, annotation in keys_of(kind).items()
        ]
        blocks += [f"## {name}", first(kind), table(("key", "type", "meaning"), rows)]
    return _joined(blocks)


def summary_maps() -> dict[str, type]:
    """The classes that say what a summary holds, in the order of the file."""
    return {
        name: kind
        for name, kind in vars(keys).items()
        if inspect.isclass(kind) and hasattr(kind, "__total__")
    }


def keys_of(kind: type) -> dict[str, str]:
    """Keys and types as they are written, inherited ones first."""
    return {key: getattr(t, "__forward_arg__", str(t)) for key, t in kind.__annotations__.items()}


def meanings_of(kind: type) -> dict[str, str]:
    """What the keys mean; those of a map that this one extends, as they are explained there."""
    found: dict[str, str] = {}
    for other in summary_maps().values():  # a TypedDict does not know its bases
        if other.__annotations__.items() <= kind.__annotations__.items():
            found |= attributes(other)
    return found | attributes(kind)


def _linked(annotation: str) -> str:
    """A type, its maps as links."""
    maps = summary_maps()
    parts = re.split(r"(\w+)", annotation.replace('"', "'"))
    return "".join(f"[{p}](#{p.lower()})" if p in maps else p for p in parts)


def constants() -> str:
    """The constants of datasheets by kind of part."""
    blocks = [
        "# Constants of datasheets",
        "What a datasheet of each kind holds, each with value, range, status and source. "
        "*Energy*: its range is part of energy bands. `hybridsim parts <name>` shows a sheet.",
    ]
    for kind, specs in CONSTANTS.items():
        rows = [
            (
                f"`{s.key}`",
                s.unit or "a number",
                s.range_text() + (", whole" if s.whole else ""),
                "yes" if s.energy else "",
                s.meaning,
                f"`{s.name}`",
            )
            for s in specs
        ]
        head = ("key", "unit", "range", "energy", "meaning", "in Python")
        blocks += [f"## {kind}", table(head, rows)]
    return _joined(blocks)


def attributes(kind: type) -> dict[str, str]:
    """The lines under ``Attributes:`` of a class's docstring."""
    _, _, body = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.startswith(" " * 8):
            found[name] += " " + line.strip()
    return {key: text.removesuffix(".").replace("``", "`") for key, text in found.items()}


def first(kind: type) -> str:
    """The first line of a class's docstring."""
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").replace("``", "`")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _joined(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"
