"""Of several who claim a folder one has it, until it lets go or is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from hybridsim.studies.claims import Claims, identity


@pytest.fixture
def claims():
    made = []

    def make(**options):
        made.append(Claims(**{"beat_s": 0.02, "patience_s": 0.3} | options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_one_has_it_until_it_lets_go(claims, tmp_path):
    first, second = claims(), claims()
    assert first.take(tmp_path / "a" / "claim.json")
    for _ in range(20):  # much longer than others' patience
        assert not second.take(tmp_path / "a" / "claim.json")
        time.sleep(0.04)
    second.release(tmp_path / "a" / "claim.json")  # not its own
    assert not second.take(tmp_path / "a" / "claim.json")
    first.release(tmp_path / "a" / "claim.json")
    assert second.take(tmp_path / "a" / "claim.json")
    assert not first.take(tmp_path / "a" / "claim.json")


def test_closing_gives_everything_back(claims, tmp_path):
    first = claims()
    assert first.take(tmp_path / "a" / "claim.json") and first.take(tmp_path / "b" / "claim.json")
    first.close()
    assert not [*tmp_path.glob("*/*")]


def test_a_claim_that_nobody_touches_is_taken_over_whatever_its_clock_says(claims, tmp_path):
    other = {"host": "elsewhere", "pid": 1, "started": "1", "token": "t"}
    (tmp_path / "claim.json").write_text(json.dumps(other))
    os.utime(tmp_path / "claim.json", (2**33, 2**33))  # far ahead
    mine, since = claims(), time.monotonic()
    while not mine.take(tmp_path / "claim.json"):
        time.sleep(0.02)
    assert time.monotonic() - since >= 0.3
    assert not claims().take(tmp_path / "claim.json")


def test_the_claim_of_a_killed_process_is_taken_over_at_once(claims, tmp_path):
    program = (
        "import sys, pathlib; from hybridsim.studies.claims import Claims\n"
        "print(Claims().take(pathlib.Path(sys.argv[1], 'claim.json')), flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    mine = claims(patience_s=1e6)
    assert not mine.take(tmp_path / "claim.json")
    process.kill()
    process.wait()
    assert mine.take(tmp_path / "claim.json")


def test_a_process_of_another_start_is_not_taken_for_the_one_that_claimed(claims, tmp_path):
    before = identity() | {"started": "0", "token": "t"}  # this pid, used by another before
    (tmp_path / "claim.json").write_text(json.dumps(before))
    assert claims(patience_s=1e6).take(tmp_path / "claim.json")


def test_of_many_who_take_over_one_wins(tmp_path):
    other = {"host": "elsewhere", "pid": 1, "started": "1", "token": "t"}
    (tmp_path / "claim.json").write_text(json.dumps(other))
    patience_s = 0.4
    many = [Claims(beat_s=0.02, patience_s=patience_s) for _ in range(8)]
    barrier, wins = threading.Barrier(8), []

    def race(mine: Claims) -> None:
        barrier.wait()
        while not wins or time.monotonic() - wins[0] < patience_s / 2:
            if mine.take(tmp_path / "claim.json"):
                wins.append(time.monotonic())
                return
            time.sleep(0.001)

    threads = [threading.Thread(target=race, args=(mine,)) for mine in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    for mine in many:
        mine.close()
    assert not [*tmp_path.iterdir()]
