"""Building one document on another: ``extends:`` and ``--set``.

Maps merge key by key and the child wins; lists and scalars are replaced. Three things are replaced
as a whole, since their old fields make no sense beside the new ones: a map whose ``kind`` changes,
a target, and the machine's other form. A short form (``gpu: name``) replaces the base's map; a map
builds on the base's short form.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from hybridsim.errors import Problem
from hybridsim.scenario.document import (
    DocumentError,
    Node,
    ascii_path,
    dotted,
    from_python,
    parse,
    parse_value,
    read_file,
)
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import describe

Path_ = tuple[str | int, ...]
SHORT_FORMS: dict[Path_, str] = {
    ("workload",): "source",
    ("machine", "gpu"): "part",
    ("machine", "gpu", "interconnect"): "part",
    ("machine", "link"): "part",
    ("machine", "edges", "*", "link"): "part",
    ("training", "algorithm", "update"): "kind",
    ("training", "algorithm", "schedule"): "kind",
}
"""Maps that may be written as one text, the value of this field; ``*`` is any item of a list."""
_REPLACED = (("training", "target"),)
_SHORT_MACHINE, _GENERAL_MACHINE = ("gpu", "link", "spus"), ("nodes", "edges")
_FILE_FIELDS = ("source", "part", "gpu", "host", "link", "workload")
_FILE_SUFFIXES = (".yaml", ".yml", ".py")


def shipped_scenarios() -> dict[str, Path]:
    """Shipped scenarios by name."""
    from importlib.resources import files

    folder = Path(str(files("hybridsim.scenarios")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def locate(name: str, base: Path) -> Path | None:
    """File of a scenario: a path (ending in .yaml or with a slash) or a shipped name; None: unknown
    name.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name:
        return base / name
    return shipped_scenarios().get(name)


def read_layers(path: Path, seen: tuple[str, ...] = ()) -> tuple[Node, list[Problem]]:
    """A scenario file merged onto everything it extends.

    Raises:
        DocumentError: a file cannot be read, or the chain of ``extends`` is broken or circular.
    """
    root, problems = parse(read_file(path), ascii_path(path))
    absolutise(root, path.parent)
    parent = root.value.pop("extends", None)
    if parent is None:
        return root, problems
    target = _parent(parent, path, (*seen, os.path.realpath(path)))
    base, more = read_layers(target, (*seen, os.path.realpath(path)))
    return merge(base, root), more + problems


def _parent(node: Node, path: Path, seen: tuple[str, ...]) -> Path:
    target = named_scenario(node, path.parent, "extends")
    if os.path.realpath(target) in seen:
        got = f"{describe(node.value)}, which leads back here"
        raise DocumentError(Problem(node.file, node.line, "extends", "no circle of 'extends'", got))
    return target


def named_scenario(node: Node, base: Path, field: str) -> Path:
    """File of the scenario that the field of a document names; a path is relative to ``base``.

    Raises:
        DocumentError: no text, no such shipped scenario, no such file.
    """

    def error(expected: str) -> DocumentError:
        got = describe(node.plain())
        return DocumentError(Problem(node.file, node.line, field, expected, got))

    if not isinstance(node.value, str) or not node.value:
        raise error("a scenario's name or path")
    target = locate(node.value, base)
    if target is None:
        what = "a shipped scenario or a path ending in .yaml"
        raise error(one_of(shipped_scenarios(), node.value, what))
    try:
        missing = not target.is_file()
    except (OSError, ValueError):
        missing = True
    if missing:
        raise error("an existing scenario file")
    return target


def absolutise(node: Node, base: Path) -> None:
    """Make the paths that a document names absolute, in place; they are relative to its own
    folder.
    """
    if isinstance(node.value, list):
        for item in node.value:
            absolutise(item, base)
    if not isinstance(node.value, dict):
        return
    for key, child in node.value.items():
        text = child.value
        if key in _FILE_FIELDS and isinstance(text, str) and text.endswith(_FILE_SUFFIXES):
            child.value = os.path.abspath(os.path.join(str(base), text))
        elif key != "options":
            absolutise(child, base)


def merge(base: Node, child: Node, path: Path_ = ()) -> Node:
    """The child's document on top of the base's; see the module's rules."""
    short = short_form(path)
    if short and isinstance(base.value, str) and isinstance(child.value, dict):
        base = Node({short: base}, base.file, base.line)
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)) or path in _REPLACED:
        return child
    if _changes_kind(base, child):
        return child
    merged = dict(base.value)
    if path == ("machine",):
        _drop_other_form(merged, child.value)
    for key, node in child.value.items():
        merged[key] = merge(merged[key], node, (*path, key)) if key in merged else node
    return Node(merged, child.file, child.line)


def short_form(path: Path_) -> str | None:
    """The field that a text at this place is the value of, where the place takes a map too."""
    return SHORT_FORMS.get(tuple("*" if isinstance(part, int) else part for part in path))


def _changes_kind(base: Node, child: Node) -> bool:
    return (
        "kind" in child.value
        and "kind" in base.value
        and child.value["kind"].value != base.value["kind"].value
    )


def _drop_other_form(merged: dict[str, Node], child: dict[str, Node]) -> None:
    for mine, other in ((_SHORT_MACHINE, _GENERAL_MACHINE), (_GENERAL_MACHINE, _SHORT_MACHINE)):
        if any(key in child for key in mine) and not any(key in child for key in other):
            for key in other:
                merged.pop(key, None)


def apply_override(root: Node, text: str) -> Node:
    """``machine.link.bandwidth=200 Gb/s`` on top of a document.

    Raises:
        DocumentError: not of the form ``path=value``, or no such list item.
    """
    name, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    keys = keys_of(name)
    if not equals or not keys:
        raise DocumentError(Problem("--set", None, "", "path=value, e.g. seed=1", describe(text)))
    if keys == ["extends"]:
        raise DocumentError(
            Problem("--set", None, "extends", "a field (a file is what extends)", describe(value))
        )
    try:
        node = parse_value(value, "--set")
    except DocumentError as error:
        path = dotted(tuple(keys))
        raise DocumentError(replace(error.problem, line=None, path=path)) from None
    absolutise(Node({keys[-1]: node}, "--set", None), Path.cwd())
    return put(root, keys, node)


def keys_of(name: str) -> list[str]:
    """The keys of ``machine.edges[0].link``, an index as text; none where it is no field's path."""
    keys = [key for key in re.split(r"[.\[\]]+", name.strip()) if key]
    return keys if len(keys) <= 20 else []


def put(root: Node, keys: list[str], leaf: Node) -> Node:
    """A document with a value at a place, by the module's rules; the maps on the way to it that are
    new have the value's file and line.

    Raises:
        DocumentError: no such list item.
    """
    return merge(root, _nest(root, keys, leaf, ()))


def _nest(base: Node | None, keys: list[str], leaf: Node, path: Path_) -> Node:
    if not keys:
        return leaf
    key = keys[0]
    if base is not None and isinstance(base.value, list):
        if not key.isdecimal() or int(key) >= len(base.value):
            expected = f"an index below {len(base.value)}"
            where = dotted((*path, *keys))
            raise DocumentError(Problem(leaf.file, leaf.line, where, expected, describe(key)))
        items, here = list(base.value), (*path, int(key))
        item = items[int(key)]
        items[int(key)] = merge(item, _nest(item, keys[1:], leaf, here), here)
        return Node(items, leaf.file, leaf.line)
    inner = base.value.get(key) if base is not None and isinstance(base.value, dict) else None
    return Node({key: _nest(inner, keys[1:], leaf, (*path, key))}, leaf.file, leaf.line)


def from_dict(value: object) -> Node:
    """A document from a Python dict; its paths are relative to the current folder.

    Raises:
        DocumentError: not a dict of plain values, or it extends another.
    """
    root = from_python(value, "<dict>")
    if not isinstance(root.value, dict):
        raise DocumentError(Problem("<dict>", None, "", "a map of fields", describe(value)))
    absolutise(root, Path.cwd())
    parent = root.value.pop("extends", None)
    if parent is None:
        return root
    base, problems = read_layers(_parent(parent, Path.cwd() / "<dict>", ()))
    if problems:
        raise DocumentError(problems[0])
    return merge(base, root)
