"""A fact store that several processes write at once loses nothing; one that is full forgets the
oldest facts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import InputError
from hybridsim.files import DiskFailed
from hybridsim.operations import facts
from hybridsim.operations.facts import FactStore

WRITER = """
import sys
from hybridsim.operations.facts import FactStore
path, mine, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
for part in range(4):
    store = FactStore(path, limit_bytes=limit)
    for number in range(300):
        for owner in (mine, 9):  # some of its own, some that all of them find
            store.put(bytes([owner]) + number.to_bytes(15), {"x": owner + number / 7, "part": part})
    store.close()
    assert not store.failure, store.failure
"""


def key(owner: int, number: int) -> bytes:
    return bytes([owner]) + number.to_bytes(15)


@pytest.mark.parametrize("limit", ["inf", "60000"])
def test_several_processes_fill_one_store(tmp_path, limit):
    path = tmp_path / "facts.sqlite"
    words = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*words, str(mine), limit]) for mine in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with closing(FactStore(path, read_only=True)) as store:
        number = store.check()
        assert number == 1200 if limit == "inf" else 0 < number < 1200
        for owner, count in ((owner, n) for owner in (0, 1, 2, 9) for n in range(300)):
            found = store.get(key(owner, count))
            assert found == {"x": owner + count / 7, "part": 3} or (
                found is None and limit != "inf"
            )


@settings(max_examples=6)
@given(
    limit=st.integers(20_000, 200_000),
    lengths=st.lists(st.integers(1, 60), min_size=20, max_size=80),
)
def test_a_store_that_is_full_forgets_the_oldest(tmp_path_factory, limit, lengths):
    path = tmp_path_factory.mktemp("store") / "facts.sqlite"
    numbers = 0
    with closing(FactStore(path, limit_bytes=limit)) as store:
        for length in lengths:
            for _ in range(60):
                store.put(key(1, numbers), {"x": [0.1] * length})
                numbers += 1
            store.commit()
        assert not store.failure
        store.sync()
    assert path.stat().st_size < 1.3 * limit + 30_000
    with closing(FactStore(path, read_only=True)) as store:
        kept = [store.get(key(1, number)) is not None for number in range(numbers)]
    assert kept[-1] and kept == sorted(kept), "the newest, without a gap"
    assert sum(kept) * 40 > limit / 50 or all(kept)


def test_a_store_keeps_what_is_far_below_its_limit(tmp_path):
    with closing(FactStore(tmp_path / "facts", limit_bytes=10**7)) as store:
        for number in range(1500):
            store.put(key(1, number), {"x": 1.0})
        store.commit()
        assert store.check() == 1500


def test_the_limit_of_a_run_is_bytes_of_a_store(tmp_path):
    scenario = hybridsim.load("adam-digits", ["training.steps=2", "training.batch_size=4"])
    for limit, got in (("3 kg", "no such unit"), ("0 B", "got '0 B'"), ("5", "without a unit")):
        with pytest.raises(InputError, match=f"--facts-limit: expected bytes.*{got}"):
            hybridsim.run(scenario, tmp_path / "r", facts=tmp_path / "f", facts_limit=limit)
    with pytest.raises(InputError, match="--facts-limit: expected a fact store"):
        hybridsim.run(scenario, tmp_path / "r", facts_limit="1 MB")
    hybridsim.run(scenario, tmp_path / "r", facts=tmp_path / "f", facts_limit="1 MB")
    found = hybridsim.run(
        scenario, tmp_path / "replay", facts=tmp_path / "f", backend="replay", facts_limit="1 MB"
    )
    assert found.summary["host"]["backend"] == "replay"


def test_a_store_that_finds_no_room_to_begin_says_that_of_the_disk(tmp_path, monkeypatch):
    """A database of at most one page has none for a table."""
    monkeypatch.setattr(
        facts.sqlite3, "connect", lambda *_, connect=facts.sqlite3.connect, **words: Full(connect)
    )
    with pytest.raises(DiskFailed, match="could not be written: database or disk is full"):
        FactStore(tmp_path / "facts")


class Full:
    """A connection to a database in memory that cannot grow."""

    def __init__(self, connect) -> None:
        self._db = connect(":memory:", isolation_level=None)
        self._db.execute("PRAGMA max_page_count=1")

    def __getattr__(self, name):
        return getattr(self._db, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False
