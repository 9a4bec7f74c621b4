"""Launches that are killed, repeated or share a folder end with one table, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
from small_studies import (
    Launch,
    assert_same_points,
    command,
    computed,
    document,
    evaluated,
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


def test_workers_that_die_lose_what_was_in_flight(study, expected, tmp_path, monkeypatch):
    """One is killed; no worker survives the side ``ends``, which is tried twice. Ctrl-C, which a
    terminal sends to all processes, is nothing to them.
    """
    monkeypatch.setattr(collector, "MOST_TRIES", 2)
    tries, network = tmp_path / "tries", tmp_path / "network.py"
    text = Path(study.sides[0].source).with_name("slow.py").read_text()
    fatal = f"    if seconds == 1.5: open({str(tries)!r}, 'a').write('x'); import os; os._exit(9)\n"
    network.write_text(text.replace("    return Workload", f"{fatal}    return Workload"))
    source = {"workload.source": str(network)}
    base = study.sides[0].source
    sides = {
        "tngd": {"scenario": base, "set": source},
        "ends": {"scenario": base, "set": source | {"workload.options.seconds": 1.5}},
    }
    axis = {"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "50 Gb/s"], "sides": ["tngd"]}
    asked = load_study(document(sides, axes=[axis], seeds=[0, 1]))
    killed = []

    def kill_one_half_way(progress, workers):
        if progress.done >= 2 and not killed:
            for pid in workers.processes:
                os.kill(pid, signal.SIGINT)
            killed.append(workers.processes[0])
            os.kill(killed[0], signal.SIGKILL)

    found = evaluated(asked, tmp_path / "study", workers=2, watch=kill_one_half_way)
    assert killed
    ends = found[found["side"] == "ends"]
    assert set(ends["status"]) == {"failed"}
    assert set(ends["reason"]) == {"worker died (exit code 9), 2 times"}
    good = found[found["side"] == "tngd"].reset_index(drop=True)
    same = expected[expected["seed"] < 2].reset_index(drop=True)
    assert_same_points(good.assign(point=same["point"]), same)
    assert set(computed(tmp_path / "study").values()) == {1}
    # two points, two tries; of one the worker may have been killed before it wrote
    assert len(tries.read_text()) in (3, 4)


def test_a_study_that_is_killed_goes_on_where_it_was(study, expected, tmp_path):
    out = tmp_path / "study"
    first = Launch(out, lambda: evaluated(study, out, workers=2))
    wait_for(lambda: len(computed(out)) >= 2)
    workers = below(first.pid)
    os.kill(first.pid, signal.SIGKILL)  # the workers are not told
    first.ended()
    wait_for(lambda: not any(map(alive, workers)))
    before = computed(out)
    assert len(workers) == 3 and 2 <= len(before) < len(expected)
    kept = {p: (out / "points" / p / "outcome.json").stat().st_mtime_ns for p in before}
    assert_same_points(evaluated(study, out), expected)
    assert set(computed(out).values()) == {1}
    for point, changed in kept.items():
        assert (out / "points" / point / "outcome.json").stat().st_mtime_ns == changed
    assert not [*out.glob("points/*/claim.json*")]
    assert_same_points(evaluated(study, out), expected)  # and again: nothing to do
    assert set(computed(out).values()) == {1}


def test_two_launches_on_one_folder_share_the_work(file, study, expected, tmp_path):
    """One is stopped in the middle of something: the other does the rest, and waits for it."""
    out = tmp_path / "study"
    other = Launch(out, lambda: command("study", file, "--out", out))
    wait_for(lambda: computed(out))
    os.kill(other.pid, signal.SIGSTOP)

    def go_on(progress, _):
        if progress.done >= len(expected) - 2:  # what is left is the other's
            os.kill(other.pid, signal.SIGCONT)

    assert_same_points(evaluated(study, out, watch=go_on), expected)
    code, said = other.ended()
    assert code == 0 and str(out / "report.html") in said, said
    assert_same_points(pd.read_parquet(out / "points.parquet"), expected)
    assert set(computed(out).values()) == {1}
    assert len([*(out / "log").iterdir()]) == 2  # each did some


def test_a_signal_keeps_what_is_done_and_says_so(file, study, expected, tmp_path):
    out = tmp_path / "study"
    launch = Launch(out, lambda: command("study", file, "--out", out))
    wait_for(lambda: len(computed(out)) >= 1)
    os.killpg(launch.pid, signal.SIGINT)  # as a terminal does
    code, said = launch.ended()
    assert code == 130 and f"points are in {out}" in said and "Traceback" not in said, said
    table = pd.read_parquet(out / "points.parquet")
    assert (table["status"] == "ok").sum() == len(computed(out)) < len(expected)
    assert (table["status"] == "missing").sum() == len(expected) - len(computed(out))
    assert json.loads((out / "study.json").read_text())["status"] == "interrupted"
    assert_same_points(evaluated(study, out), expected)
    assert set(computed(out).values()) == {1}
