"""The fact store gives back what a run has put there, or says that it cannot."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import InputError
from hybridsim.operations.facts import FactStore

NUMBERS = st.floats() | st.integers(-(2**60), 2**60) | st.booleans()
FACTS = st.dictionaries(st.text(max_size=5), NUMBERS | st.lists(NUMBERS, max_size=3), max_size=4)
KEY = b"k" * 16


@settings(max_examples=50)
@given(facts=st.dictionaries(st.binary(min_size=1, max_size=16), FACTS, max_size=5))
def test_facts_survive_exactly(tmp_path_factory, facts):
    path = tmp_path_factory.mktemp("store") / "facts.sqlite"
    store = FactStore(path)
    for key, values in facts.items():
        store.put(key, values)
    store.close()
    again = FactStore(path)
    assert {key: repr(again.get(key)) for key in facts} == {k: repr(v) for k, v in facts.items()}
    assert again.get(b"another key") is None


@pytest.mark.parametrize("small_bytes", [0, 1 << 20], ids=["row by row", "all at once"])
def test_facts_that_another_process_adds_are_found(tmp_path, monkeypatch, small_bytes):
    """However the file is read: nothing that was stored is missed, nothing else is found."""
    monkeypatch.setattr("hybridsim.operations.facts._SMALL_BYTES", small_bytes)
    path = stored(tmp_path / "facts.sqlite", {"loss": 1.0})
    store = FactStore(path)
    assert (store.get(KEY), store.get(b"other"), store.get(b"new")) == (
        {"loss": 1.0},
        {"loss": 2.0},
        None,
    )
    another = FactStore(path)
    another.put(b"new", {"loss": 3.0})
    another.close()
    assert store.get(b"new") == {"loss": 3.0}


def stored(path: Path, facts: dict[str, float]) -> Path:
    store = FactStore(path)
    store.put(KEY, facts)
    store.put(b"other", {"loss": 2.0})
    store.close()
    return path


@pytest.mark.parametrize("small_bytes", [0, 1 << 20], ids=["row by row", "all at once"])
@settings(max_examples=40)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    other=st.none()
    | st.binary(max_size=5)
    | st.integers(-9, 9)
    | st.sampled_from(["{}", "[]", "null", "{", "", '{"loss": "1"}'])
    | st.builds(lambda x: json.dumps({"loss": x}), NUMBERS),
)
def test_facts_that_no_run_stored_are_refused(tmp_path_factory, small_bytes, number, other):
    path = stored(tmp_path_factory.mktemp("store") / "facts.sqlite", {"loss": number})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET facts = ? WHERE key = ?", (other, KEY))
    if other == json.dumps({"loss": number}):
        return
    with (
        mock.patch("hybridsim.operations.facts._SMALL_BYTES", small_bytes),
        pytest.raises(InputError, match=r"expected facts as a run stored them, got: others"),
    ):
        FactStore(path).get(KEY)


def test_facts_of_another_key_are_refused(tmp_path):
    path = stored(tmp_path / "facts.sqlite", {"loss": 1.0})
    with sqlite3.connect(path) as db:
        columns = "SELECT facts, checksum FROM facts WHERE key = CAST('other' AS BLOB)"
        db.execute(f"UPDATE facts SET (facts, checksum) = ({columns}) WHERE key = ?", (KEY,))
    with pytest.raises(InputError, match="others under key"):
        FactStore(path).get(KEY)


def test_facts_that_are_no_numbers_are_refused(tmp_path):
    store = FactStore(tmp_path / "facts.sqlite")
    store.put(KEY, {"loss": "large"})
    with pytest.raises(InputError, match="expected facts that are numbers by name"):
        store.get(KEY)


def test_a_store_of_before_is_named_and_left_alone(tmp_path):
    path = tmp_path / "facts.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE facts (key BLOB PRIMARY KEY, facts TEXT) WITHOUT ROWID")
        db.execute("INSERT INTO facts VALUES (?, '{}')", (KEY,))
    before = path.read_bytes()
    with pytest.raises(InputError, match="expected a fact store of format 3, got: one of format 1"):
        FactStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"garbage" * 1000, "expected a fact store"), (b"SQLite format 3\0", "expected a fact store")],
)
def test_what_is_no_store_says_so(tmp_path, content, words):
    (tmp_path / "facts.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=words):
        FactStore(tmp_path / "facts.sqlite").get(KEY)


def test_another_database_is_left_alone(tmp_path):
    path = tmp_path / "photos.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (name TEXT)")
    with pytest.raises(InputError, match="got: other tables"):
        FactStore(path)


def test_a_store_that_another_process_holds_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("hybridsim.operations.facts._BUSY_S", 0.01)
    path = stored(tmp_path / "facts.sqlite", {"loss": 1.0})
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store = FactStore(path)
    assert store.get(KEY) == {"loss": 1.0}
    store.put(b"new", {"loss": math.pi})
    store.close()
    assert "facts could not be stored: database is locked" in store.failure


def test_a_replay_of_emptied_facts_is_no_success(tmp_path):
    document = {
        "name": "t",
        "workload": {"source": "digits_mlp", "options": {"hidden": 4, "depth": 1}},
        "training": {"batch_size": 4, "steps": 2, "algorithm": {"kind": "tngd"}},
        "machine": {"gpu": "a100-sxm4-80gb", "spus": {"count": 1, "part": "rc-1us"}},
    }
    path = tmp_path / "facts.sqlite"
    hybridsim.run(hybridsim.load(document), tmp_path / "live", facts=path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET facts = '{}'")
    with pytest.raises(InputError, match="expected facts as a run stored them"):
        hybridsim.run(hybridsim.load(document), tmp_path / "run", facts=path, backend="replay")
    assert hybridsim.Run.open(tmp_path / "run").status == "failed"


def test_a_store_that_is_only_read_is_checked_and_stays_as_it_is(tmp_path):
    path = tmp_path / "facts.sqlite"
    with pytest.raises(InputError, match="fact store"):
        FactStore(path, read_only=True)
    assert not path.exists()
    store = FactStore(path)
    for number in range(7):
        store.put(bytes([number]) * 16, {"x": number / 3})
    store.close()
    content = path.read_bytes()
    only_read = FactStore(path, read_only=True)
    assert only_read.check() == 7 and only_read.get(b"\x01" * 16) == {"x": 1 / 3}
    only_read.put(b"new" * 5 + b"!", {"x": 1.0})
    only_read.close()
    assert only_read.failure and path.read_bytes() == content
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET facts = '{\"x\": 2.0}' WHERE key = ?", (b"\x02" * 16,))
    with pytest.raises(InputError, match="others under key 0202"):
        FactStore(path, read_only=True).check()
