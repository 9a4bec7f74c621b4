"""Launches that are killed, repeated or share a folder end with one table, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
from small_studies import (
    assert_same_points,
    computed,
    document,
    evaluated,
    slow_study,
    start,
    wait_for,
)

from hybridsim.studies.collect import collector
from hybridsim.studies.load import load_study


def below(pid: int) -> list[int]:
    """The workers of a process, and the one that they were forked from."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, listed) for one in (child, *below(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_worker_that_is_killed_loses_what_was_in_flight(study, expected, tmp_path):
    victims = []

    def kill_one_half_way(progress, workers):
        if progress.done == 3 and not victims:
            victims.append(workers.processes[0])
            os.kill(victims[0], signal.SIGKILL)

    found = evaluated(study, tmp_path, workers=2, watch=kill_one_half_way)
    assert victims
    assert_same_points(found, expected)
    assert set(computed(tmp_path).values()) == {1}


def test_what_no_worker_survives_has_failed_and_the_others_have_not(tmp_path, monkeypatch):
    """It is tried several times, and again by the next launch."""
    monkeypatch.setattr(collector, "MOST_TRIES", 2)
    slow_study(tmp_path)
    network, tries = tmp_path / "slow.py", tmp_path / "tries"
    fatal = f"    if seconds == 1.5: open({str(tries)!r}, 'a').write('x'); import os; os._exit(9)\n"
    text = network.read_text()
    network.write_text(text.replace("    return Workload", f"{fatal}    return Workload"))
    base = tmp_path / "tngd.yaml"
    sides = {
        "good": str(base),
        "ends": {"scenario": str(base), "set": {"workload.options.seconds": 1.5}},
    }
    study = load_study(document(sides))
    for tried in (2, 4):
        found = evaluated(study, tmp_path / "study", workers=1).set_index("side")
        assert found["status"].to_dict() == {"good": "ok", "ends": "failed"}
        assert found["reason"]["ends"] == "worker died (exit code 9), 2 times"
        assert len(tries.read_text()) == tried


def test_a_study_that_is_killed_goes_on_where_it_was(file, study, expected, tmp_path):
    first = start(file, "--out", tmp_path, "--workers", 2)
    wait_for(lambda: len(computed(tmp_path)) >= 2)
    workers = below(first.pid)
    first.kill()  # the workers are not told
    first.communicate()
    wait_for(lambda: not any(map(alive, workers)))
    before = computed(tmp_path)
    assert len(workers) == 3 and 2 <= len(before) < len(expected)
    kept = {p: (tmp_path / "points" / p / "outcome.json").stat().st_mtime_ns for p in before}
    assert_same_points(evaluated(study, tmp_path), expected)
    assert set(computed(tmp_path).values()) == {1}
    for point, changed in kept.items():
        assert (tmp_path / "points" / point / "outcome.json").stat().st_mtime_ns == changed
    assert not [*tmp_path.glob("points/*/claim.json*")]
    assert_same_points(evaluated(study, tmp_path), expected)  # and again: nothing to do
    assert set(computed(tmp_path).values()) == {1}


def test_two_launches_on_one_folder_share_the_work(file, study, expected, tmp_path):
    """One is stopped in the middle of something: the other does the rest, and waits for it."""
    other = start(file, "--out", tmp_path)
    wait_for(lambda: computed(tmp_path))
    other.send_signal(signal.SIGSTOP)

    def go_on(progress, _):
        if progress.done >= len(expected) - 2:  # what is left is the other's
            other.send_signal(signal.SIGCONT)

    assert_same_points(evaluated(study, tmp_path, watch=go_on), expected)
    told, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    assert str(tmp_path / "report.html") in told
    assert_same_points(pd.read_parquet(tmp_path / "points.parquet"), expected)
    assert set(computed(tmp_path).values()) == {1}
    assert len([*(tmp_path / "log").iterdir()]) == 2  # each did some


def test_a_signal_keeps_what_is_done_and_says_so(file, study, expected, tmp_path):
    process = start(file, "--out", tmp_path, "--workers", 2)
    wait_for(lambda: len(computed(tmp_path)) >= 2)
    workers = below(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    wait_for(lambda: not any(map(alive, workers)))
    assert f"points are in {tmp_path}" in errors and "Traceback" not in errors
    table = pd.read_parquet(tmp_path / "points.parquet")
    assert (table["status"] == "ok").sum() == len(computed(tmp_path)) < len(expected)
    assert (table["status"] == "missing").sum() == len(expected) - len(computed(tmp_path))
    assert json.loads((tmp_path / "study.json").read_text())["status"] == "interrupted"
    assert_same_points(evaluated(study, tmp_path), expected)
    assert set(computed(tmp_path).values()) == {1}
