"""Strict YAML 1.2: a file becomes a tree of nodes that know their file and line, or a list of
problems.

Only what a scenario needs: maps with text keys, lists, text, numbers, booleans, null. Tags,
anchors, aliases, duplicate keys, tabs, several documents and anything that is not UTF-8 text are
errors. Scalars follow the YAML 1.2 core schema: ``1e-9`` is a number, ``on`` and ``yes`` are texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hybridsim.errors import Problem
from hybridsim.scenario.quantity import Raw, describe

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 10_000
"""Keys count too. The parser takes some 40 µs for each, and more where they are nested deeper."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_RADIX = re.compile(r"0o[0-7]{1,60}|0x[0-9a-fA-F]{1,60}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,9})?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_UNQUOTED = re.compile(r":\s*>=?\s*[-+.\d]")
_WORDS = {"": None, "~": None} | dict.fromkeys(("null", "Null", "NULL"))
_WORDS_BOOL = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)


@dataclass
class Node:
    """A value with its place: a dict of nodes, a list of nodes or a scalar."""

    value: Raw
    file: str
    line: int | None

    def plain(self) -> Raw:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def nearest(self, path: tuple[str | int, ...]) -> Node:
        """The node at ``path``, or the deepest one on the way to it."""
        node = self
        for part in path:
            try:
                node = node.value[part]
            except (KeyError, IndexError, TypeError):
                break
        return node


class DocumentError(Exception):
    """A text of which no tree can be made."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_file(path: Path, what: str = "a scenario file") -> str:
    """Text of a UTF-8 file.

    Raises:
        DocumentError: missing, not a file, unreadable, too large, not UTF-8.
    """
    try:
        data = path.read_bytes() if path.is_file() else None
    except (OSError, ValueError) as error:
        raise _fatal(
            path,
            None,
            f"{what} that can be read",
            getattr(error, "strerror", None) or "no file name",
        ) from None
    if data is None:
        raise _fatal(path, None, what, "a folder" if path.is_dir() else "no such file")
    if len(data) > MAX_BYTES:
        raise _fatal(path, None, f"at most {MAX_BYTES} bytes", f"{len(data)} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _fatal(path, line, "UTF-8 text", f"the byte 0x{data[error.start]:02x}") from None
    return text


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text, and the problems that still allow a tree (its bad nodes hold
    :data:`BAD`).

    Raises:
        DocumentError: not YAML, empty, not a map, several documents.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    _reject_control_characters(text, file)
    yaml = YAML(typ="safe", pure=True)
    builder = _Builder(file, _events(yaml, text))
    try:
        return builder.document(), builder.problems
    except DocumentError:
        raise
    except MarkedYAMLError as error:
        line = _line(error, text)
        found = text.split("\n")[line - 1] if line is not None else ""
        expected = "valid YAML"
        if _UNQUOTED.search(found):
            expected = "a comparison in quotes like '>= 0.95'"
        raise _fatal(file, line, expected, _syntax(error.problem)) from None
    except Exception as error:  # the parser raises anything, such as OverflowError for "\UFFFFFFFF"
        line = None if isinstance(error, YAMLError) else yaml.reader.line + 1
        raise _fatal(file, line, "valid YAML", _syntax(str(error))) from None


def _events(yaml: Raw, text: str) -> Iterator[Raw]:
    """As ``YAML.parse``, which forgets the place of an error of its own."""
    _, parser = yaml.get_constructor_parser(text)
    while parser.check_event():
        yield parser.get_event()


def parse_value(text: str, file: str) -> Node:
    """One YAML value, as in ``--set path=value``.

    Raises:
        DocumentError: not a value.
    """
    if text.lstrip().startswith(">"):  # a comparison; a block of text has no place on one line
        text = f"'{text.strip()}'"
    root, problems = parse(f"value: {text}", file)
    if problems or list(root.value) != ["value"]:
        raise DocumentError(
            problems[0] if problems else Problem(file, None, "", "one value", describe(text))
        )
    return _without_lines(root.value["value"])


def _without_lines(node: Node) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _without_lines(child) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_without_lines(child) for child in value]
    return Node(value, node.file, None)


def _line(error: Raw, text: str) -> int | None:
    """Line of a syntax error; of what was left open at the end of the file, the line where it
    starts.
    """
    mark, last = error.problem_mark or error.context_mark, text.rstrip().count("\n")
    if mark is not None and mark.line > last:
        mark = error.context_mark or mark
    return None if mark is None else min(int(mark.line), last) + 1


class _Bad:
    """Stands for a value that has been reported already."""

    def __repr__(self) -> str:
        return "an invalid value"


BAD = _Bad()


class _Builder:
    """Turns parser events into nodes, as they come: what is too deep or too long ends the
    parsing.
    """

    def __init__(self, file: str, events: Iterable[Raw]) -> None:
        self.file, self.problems = file, list[Problem]()
        self.events = self._contents(events)

    def _contents(self, events: Iterable[Raw]) -> Iterator[Raw]:
        """The events of the one document."""
        documents = values = 0
        for event in events:
            name, line = type(event).__name__, event.start_mark.line + 1
            documents += name == "DocumentStartEvent"
            if documents > 1:
                raise _fatal(self.file, line, "one document", "a second one")
            if name.startswith(("Stream", "Document")):
                continue
            values += not name.endswith("EndEvent")
            if values > MAX_VALUES:
                raise _fatal(self.file, line, f"at most {MAX_VALUES} keys and values", "more")
            yield event

    def document(self) -> Node:
        """The root, which must be a map."""
        first = next(self.events, None)
        node = Node(None, self.file, 1) if first is None else self._node(first, (), 0)
        next(self.events, None)  # a second document, or an error behind the first
        if not isinstance(node.value, dict) and not self.problems:
            got = "an empty file" if node.value is None else describe(node.plain())
            raise _fatal(self.file, node.line, "a map of fields", got)
        if not isinstance(node.value, dict):
            raise DocumentError(self.problems[0])
        return node

    def _node(self, event: Raw, path: tuple[str | int, ...], depth: int) -> Node:
        name, line = type(event).__name__, event.start_mark.line + 1
        if name == "AliasEvent":
            return self._bad(line, path, "no anchors and aliases", f"'*{event.anchor}'")
        if depth > MAX_DEPTH:
            raise _fatal(self.file, line, f"at most {MAX_DEPTH} levels", "deeper nesting")
        if name == "ScalarEvent":
            found = re.search("[\ud800-\udfff]", event.value)
            if found:
                return self._bad(line, path, "text", f"half a character, {found.group()!a}")
            node = Node(_scalar(event), self.file, line)
        elif name == "MappingStartEvent":
            node = self._map(line, path, depth)
        else:
            node = self._list(line, path, depth)
        if event.anchor is not None:
            return self._bad(line, path, "no anchors and aliases", f"'&{event.anchor}'")
        if event.tag is not None:
            return self._bad(line, path, "no YAML tags", f"'{event.tag}'")
        return node

    def _map(self, line: int, path: tuple[str | int, ...], depth: int) -> Node:
        children: dict[str, Node] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key_line = event.start_mark.line + 1
            key = self._node(event, path, depth + 1).value
            usable = isinstance(key, str) and key not in children
            if not isinstance(key, (str, _Bad)):
                self._bad(key_line, path, "a text key", describe(Node(key, "", None).plain()))
            elif key in children:
                first = children[key].line
                self._bad(
                    key_line,
                    (*path, key),
                    "each key once",
                    f"'{key}' again (first in line {first})",
                )
            child = self._node(next(self.events), (*path, str(key)), depth + 1)
            if usable:
                children[key] = Node(child.value, self.file, key_line)
        return Node(children, self.file, line)

    def _list(self, line: int, path: tuple[str | int, ...], depth: int) -> Node:
        items: list[Node] = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return Node(items, self.file, line)

    def _bad(self, line: int, path: tuple[str | int, ...], expected: str, got: str) -> Node:
        self.problems.append(Problem(self.file, line, dotted(path), expected, _one_line(got)))
        return Node(BAD, self.file, line)


def _scalar(event: Raw) -> Raw:
    """A plain scalar by the YAML 1.2 core schema; quoted and block scalars are texts."""
    text = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS or text in _WORDS_BOOL:
        return _WORDS_BOOL.get(text)
    if _INTEGER.fullmatch(text):
        return int(text)
    if _RADIX.fullmatch(text):
        return int(text, 0)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float(special.group(1) + special.group(2))
    return float(text) if _FLOAT.fullmatch(text) else text


def _reject_control_characters(text: str, file: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and line.strip():
            raise _fatal(file, number, "spaces for indentation", "a tab")
    found = re.search(
        "[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]", text.replace("\r\n", "\n")
    )
    if found:
        line_number = text.count("\n", 0, found.start()) + 1
        raise _fatal(
            file, line_number, "text", f"the control character {found.group()!a} (a binary file?)"
        )


def from_python(value: Raw, file: str, path: tuple[str | int, ...] = ()) -> Node:
    """A tree from Python dicts, lists and scalars.

    Raises:
        DocumentError: another type, a key that is no text, or too deep.
    """
    if len(path) > MAX_DEPTH:
        raise _fatal(file, None, f"at most {MAX_DEPTH} levels", "deeper nesting")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise DocumentError(Problem(file, None, dotted(path), "a text key", describe(key)))
        return Node({k: from_python(v, file, (*path, k)) for k, v in value.items()}, file, None)
    if isinstance(value, (list, tuple)):
        return Node([from_python(v, file, (*path, i)) for i, v in enumerate(value)], file, None)
    if value is not None and type(value) not in (str, int, float, bool):
        raise DocumentError(
            Problem(file, None, dotted(path), "text, a number or a boolean", describe(value))
        )
    return Node(value, file, None)


def dotted(path: tuple[str | int, ...]) -> str:
    """``machine.edges[0].link``."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{_key(p)}" for p in path).lstrip(".")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]{1,60}", key) else describe(key)


def _one_line(text: str | None) -> str:
    short = " ".join((text or "something else").split())
    short = short if short.isprintable() else ascii(short)
    return short if len(short) <= 120 else short[:117] + "..."


def _syntax(text: str | None) -> str:
    return f"a syntax error ({_one_line(text)})"


def _fatal(file: str | Path, line: int | None, expected: str, got: str) -> DocumentError:
    return DocumentError(Problem(ascii_path(file), line, "", expected, got))


def ascii_path(file: str | Path) -> str:
    """A file's name that always prints on one line."""
    text = str(file) if str(file).isprintable() else ascii(str(file))
    return text if len(text) <= 400 else text[:397] + "..."
