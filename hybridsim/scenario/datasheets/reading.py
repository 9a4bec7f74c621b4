"""Reading datasheet files: every constant of the kind present, every number with status and
source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hybridsim.errors import MOST_PROBLEMS, InputError, Problem
from hybridsim.scenario.datasheets.constant import ConstantSpec
from hybridsim.scenario.datasheets.constants import DEFAULT_HOST, PART_KINDS, PartKind, specs_by_key
from hybridsim.scenario.datasheets.sheets import STATUSES, Constant, Datasheet, part_path
from hybridsim.scenario.document import BAD, DocumentError, Node, ascii_path, parse, read_file
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import QuantityError, describe, format_quantity, parse_quantity

_SHEET_KEYS = (*("kind", "description", "extends", "technology", "built", "checked", "constants"),)
_CONSTANT_KEYS = ("value", "low", "high", "status", "source")


class _Reader:
    """Collects problems while it reads."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.files: dict[Path, str] = {}

    def wrong(self, node: Node, path: str, expected: str, got: str | None = None) -> None:
        """Report a node, unless it has been reported already."""
        if node.value is not BAD:
            shown = describe(node.plain()) if got is None else got
            self.problems.append(Problem(node.file, node.line, path, expected, shown))
        if len(self.problems) > MOST_PROBLEMS:
            raise InputError(self.problems)

    def child(self, node: Node, key: str, path: str, expected: str) -> Node | None:
        """A required key of a map."""
        found: Node | None = node.value.get(key)
        if found is None:
            self.wrong(node, f"{path}.{key}".lstrip("."), expected, "nothing")
        return found

    def keys(self, node: Node, path: str, valid: tuple[str, ...]) -> bool:
        """Is it a map, and of known keys only?"""
        if not isinstance(node.value, dict):
            self.wrong(node, path, "a map")
            return False
        for key, child in node.value.items():
            if key not in valid:
                where = f"{path}.{key}".lstrip(".")
                self.wrong(
                    child,
                    where,
                    one_of(valid, key, "a known key"),
                    f"the unknown key {describe(key)}",
                )
        return True

    def constants(self, node: Node, kind: PartKind, path: str) -> dict[str, Constant]:
        """All constants of a map, by SI name."""
        specs = specs_by_key(kind)
        if not self.keys(node, path, tuple(specs)):
            return {}
        found = {}
        for key, child in node.value.items():
            constant = self.constant(child, specs[key], f"{path}.{key}") if key in specs else None
            if constant is not None:
                found[specs[key].name] = constant
        return found

    def constant(self, node: Node, spec: ConstantSpec, path: str) -> Constant | None:
        """One constant; None after a problem."""
        before = len(self.problems)
        if not self.keys(node, path, _CONSTANT_KEYS):
            return None
        numbers = [self.number(node, key, spec, path) for key in ("value", "low", "high")]
        status = self.text(node, "status", path, STATUSES)
        source = self.text(node, "source", path, None)
        if len(self.problems) > before or any(n is None for n in numbers):
            return None
        value, low, high = (n for n in numbers if n is not None)
        if not low <= value <= high:
            self.wrong(node, path, "low <= value <= high", f"{low:g}, {value:g}, {high:g}")
            return None
        return Constant(value, low, high, spec.unit, status, source)

    def number(self, node: Node, key: str, spec: ConstantSpec, path: str) -> float | None:
        """One number in SI units; None after a problem."""
        child = self.child(node, key, path, f"a number ({spec.meaning})")
        if child is None or child.value is BAD:
            return None
        path = f"{path}.{key}"
        if spec.unit:
            try:
                number = parse_quantity(child.plain(), spec.unit)
            except QuantityError as error:
                self.wrong(child, path, error.expected, error.got)
                return None
        elif type(child.value) in (int, float) and abs(child.value) < float("inf"):
            number = float(child.value)
        else:
            self.wrong(child, path, "a number without a unit")
            return None
        if not spec.contains(number) or (spec.whole and number != int(number)):
            self.wrong(
                child, path, f"{'a whole number' if spec.whole else 'a value'} {spec.range_text()}"
            )
            return None
        return number

    def text(self, node: Node, key: str, path: str, valid: tuple[str, ...] | None) -> str:
        """One text; "" after a problem."""
        child = self.child(
            node, key, path, "a text" if valid is None else f"one of {', '.join(valid)}"
        )
        if child is None:
            return ""
        if not isinstance(child.value, str) or not child.value.strip():
            self.wrong(child, f"{path}.{key}".lstrip("."), "a text")
            return ""
        if valid is not None and child.value not in valid:
            self.wrong(
                child, f"{path}.{key}", one_of(valid, child.value, f"one of {', '.join(valid)}")
            )
        return child.value


def read_datasheet(kind: PartKind, path: Path) -> tuple[Datasheet, dict[Path, str]]:
    """A part's file on top of what it extends, and the texts of all files read for it.

    Raises:
        InputError: every problem found.
    """
    reader = _Reader()
    constants, root, words = _read_chain(reader, kind, path, ())
    if kind == "gpu":
        host, _, _ = _read_chain(reader, "host", part_path("host", DEFAULT_HOST), ())
        constants = {**host, **constants}
    if not reader.problems:
        for key, spec in specs_by_key(kind).items():
            if spec.name not in constants:
                reader.wrong(root, f"constants.{key}", f"a constant ({spec.meaning})", "nothing")
    if not reader.problems and kind == "gpu":
        _check_power(reader, root, constants["tdp_w"], constants["idle_w"])
    if reader.problems:
        raise InputError(reader.problems)
    description = root.value.get("description")
    text = str(description.value) if description else ""
    return Datasheet(kind, path.stem, constants, text, **words), reader.files


def _check_power(reader: _Reader, root: Node, tdp: Constant, idle: Constant) -> None:
    """At full load a part draws no less than idle; their ranges may overlap, no further."""
    own = root.value["constants"].value
    key = next((key for key in ("tdp", "idle") if key in own), "tdp")
    for name, word in (("value", ""), ("low", "low "), ("high", "high ")):
        full_w, idle_w = getattr(tdp, name), getattr(idle, name)
        if full_w < idle_w:
            expected = f"{word}tdp >= {word}idle ({format_quantity(idle_w, 'W')})"
            reader.wrong(
                own.get(key, root), f"constants.{key}", expected, format_quantity(full_w, "W")
            )


def _read_chain(
    reader: _Reader, kind: PartKind, path: Path, seen: tuple[str, ...]
) -> tuple[dict[str, Constant], Node, dict[str, str]]:
    """Constants, the file itself, and what is said of the part beside them.

    ``built`` is said of one part and not of those that extend it; ``technology`` is.
    """
    root = _parse(reader, path)
    inherited, words = dict[str, Constant](), dict[str, str]()
    reader.keys(root, "", _SHEET_KEYS)
    _check_head(reader, root, kind)
    parent = root.value.get("extends")
    if parent is not None:
        target = _parent(reader, kind, parent, path, (*seen, os.path.realpath(path)))
        inherited, _, words = _read_chain(reader, kind, target, (*seen, os.path.realpath(path)))
    constants = reader.child(root, "constants", "", "a map of constants")
    own = {} if constants is None else reader.constants(constants, kind, "constants")
    if any(inherited[name].status == "fitted" for name in own if name in inherited):
        words.pop("checked", None)  # said of other values
    words.pop("built", None)
    said = (key for key in ("technology", "built", "checked") if key in root.value)
    words |= {key: reader.text(root, key, "", None) for key in said}
    return {**inherited, **own}, root, words


def _check_head(reader: _Reader, root: Node, kind: PartKind) -> None:
    given = reader.child(root, "kind", "", kind)
    if given is not None and given.value != kind:
        reader.wrong(
            given, "kind", kind if given.value in PART_KINDS else f"one of {', '.join(PART_KINDS)}"
        )
    description = root.value.get("description")
    if description is not None and not isinstance(description.value, str):
        reader.wrong(description, "description", "a text")


def _parent(reader: _Reader, kind: PartKind, node: Node, path: Path, seen: tuple[str, ...]) -> Path:
    shared = path.parent / f"{node.value}.yaml"
    try:
        hidden = isinstance(node.value, str) and node.value.startswith("_") and shared.is_file()
        target = shared if hidden else part_path(kind, str(node.value), path.parent)
    except InputError as error:
        reader.wrong(node, "extends", error.problems[0].expected)
        raise InputError(reader.problems) from None
    if os.path.realpath(target) in seen:
        reader.wrong(node, "extends", "no circle of 'extends'")
        raise InputError(reader.problems)
    return target


def _parse(reader: _Reader, path: Path) -> Node:
    try:
        reader.files[path] = read_file(path, "a datasheet file")
        root, problems = parse(reader.files[path], ascii_path(path))
    except DocumentError as error:
        raise InputError([*reader.problems, error.problem]) from None
    reader.problems.extend(problems)
    return root


def read_constant_set(path: Path) -> Mapping[PartKind, Mapping[str, Constant]]:
    """A constant set: for each kind of part the constants it puts over the datasheets'.

    Raises:
        InputError: every problem found.
    """
    reader = _Reader()
    root = _parse(reader, path)
    reader.keys(root, "", ("description", *PART_KINDS))
    found = {
        kind: reader.constants(root.value[kind], kind, kind)
        for kind in PART_KINDS
        if kind in root.value
    }
    if reader.problems:
        raise InputError(reader.problems)
    return found
