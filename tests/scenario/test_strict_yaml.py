"""The reader takes YAML 1.2 and nothing that surprises; every refusal names file and line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.scenario.document import BAD, DocumentError, parse, read_file
from hybridsim.scenario.emit import emit

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        [
            "on",
            "yes",
            "null",
            "~",
            "1e-9",
            "0x1F",
            "0o7",
            "1_000",
            "12:30",
            "1e5",
            ".5",
            "- a",
            "a: b",
            "#x",
        ]
    )
)
DOCUMENTS = st.dictionaries(
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab c"), inner, max_size=3)
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS)
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    node, problems = parse(emit(document), "f.yaml")
    assert not problems
    assert same(node.plain(), document)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-9", 1e-9),
        ("-1.5E3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("True", True),
        ("tRue", "tRue"),
        ("null", None),
        ("", None),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("50 Gb/s", "50 Gb/s"),
        ("'1e-9'", "1e-9"),
        ("2026-01-01", "2026-01-01"),
        ("=", "="),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    node, problems = parse(f"key: {text}\n", "f.yaml")
    got = node.plain()["key"]
    assert not problems and got == value and type(got) is type(value)


def test_special_floats_are_read_as_such() -> None:
    node, _ = parse("a: .inf\nb: -.INF\nc: .nan\n", "f.yaml")
    assert (
        node.plain()["a"] == math.inf
        and node.plain()["b"] == -math.inf
        and math.isnan(node.plain()["c"])
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "an empty file"),
        ("# nothing\n", 1, "an empty file"),
        ("- a\n", 1, "a list"),
        ("3\n", 1, "3"),
        ("a: 1\n\tb: 2\n", 2, "a tab"),
        ("a:\n  - 1\n  \t- 2\n", 3, "a tab"),
        ("a: 1\nb: [1, 2\n", 2, "syntax error"),
        ("a: 1\n---\nb: 1\n", 2, "a second one"),
        ("a: 1\nb: \x07\n", 2, "control character"),
        ("a: 1\r\nb: \x00\r\n", 2, "control character"),
        ("x: 1\na: " + "[" * 100 + "]" * 100, 2, "deeper nesting"),
        ("a: b: c\n", 1, "syntax error"),
        ("a: 1\n" + "? " * 3_000, 2, "deeper nesting"),
        ("a: 1\n" + "? [" * 3_000, 2, "deeper nesting"),
        ("a: 1\nb: " + "[" * 99_000, 2, "deeper nesting"),
        ("a: " + "{" * 99_000, 1, "deeper nesting"),
        ("a:\n" + "- x\n" * 20_000, 9_999, "at most 10000 keys and values"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "syntax error"),
        ('a: 1\nb: "\\U00110000"\n', 2, "syntax error"),
        ("a: 1\nb: \ud800\n", 2, "control character"),
    ],
)
def test_texts_of_which_no_tree_can_be_made(text: str, line: int, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text, "f.yaml")
    assert caught.value.problem.line == line and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "path", "words"),
    [
        ("a: 1\na: 2\n", 2, "a", "each key once"),
        ("m:\n  b: 1\n  c: 2\n  b: 3\n", 4, "m.b", "first in line 2"),
        ("a: &x 1\n", 1, "a", "anchors"),
        ("b: 1\na: *x\n", 2, "a", "anchors"),
        ("a: !!python/object:os.system x\n", 1, "a", "tags"),
        ("a: [1, !!str 2]\n", 1, "a[1]", "tags"),
        ("a: 1\n2: b\n", 2, "", "a text key"),
        ("? [a]\n: b\nc: 1\n", 1, "", "a text key"),
        ("m: {null: b}\n", 1, "m", "a text key"),
        ('a: 1\nb: "x\\uD800"\n', 2, "b", "half a character"),
        ('a: 1\n"\\uDC00": 2\n', 2, "", "half a character"),
    ],
)
def test_bad_nodes_are_reported_in_their_place(text: str, line: int, path: str, words: str) -> None:
    _, problems = parse(text, "f.yaml")
    assert (
        [p.line for p in problems] == [line]
        and problems[0].path == path
        and words in str(problems[0])
    )


def test_an_alias_bomb_stays_small() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    node, problems = parse("\n".join(lines), "f.yaml")
    assert len(problems) == 12 + 9 * 11
    assert all(value is BAD for value in node.plain().values())


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a: 1\nb: \xff\xfe\n", 2, "UTF-8"),
        (b"x" * 1_000_001, None, "1000001 bytes"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, line: int | None, words: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        read_file(path)
    assert caught.value.problem.line == line and words in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(DocumentError, match="a folder"):
        read_file(tmp_path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse(read_file(path), "s")[0].plain() == {"a": 1}


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60) | st.text("ab:-[]{}&*!#|>'\"%@\n\t ,?01.", max_size=40))
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    try:
        node, problems = parse(text, "f.yaml")
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(node.plain(), dict) and all("\n" not in str(p) for p in problems)
