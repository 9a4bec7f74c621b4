"""Chrome's JSON: valid, exact, one event per span, arrows and watts as in the other format."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import COLUMN, Op, operations, simulate, write_run

import hybridsim
from hybridsim.reports.chrome_json import write_chrome_json
from hybridsim.results.keys import operation
from hybridsim.results.read import Run
from hybridsim.trace.spans import SpanRow


def events_of(run: Run, path, **options) -> dict[str, list[dict]]:
    write_chrome_json(run, path, **options)
    found: dict[str, list[dict]] = defaultdict(list)
    for event in json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)["traceEvents"]:
        found[event["ph"]].append(event)
    return found


def check(found: dict[str, list[dict]], run: Run, tick_ps: int) -> None:
    names = {
        (e["pid"], e["tid"], e["name"]): e["args"]["name"]
        for e in found["M"]
        if "name" in e["args"]
    }
    source = {e["id"]: (e["pid"], e["tid"], e["ts"]) for e in found["s"]}
    by_place, arrows = defaultdict(list), defaultdict(set)
    for event in found["f"]:
        arrows[event["pid"], event["tid"], event["ts"]].add(source[event["id"]])
    assert len(source) == len(found["s"]) == len(found["f"]) == sum(map(len, run.spans["parents"]))
    place = {}
    for event, span in zip(found["X"], run.spans.to_dict("records"), strict=True):
        assert (names[event["pid"], 0, "process_name"], event["name"]) == (
            span["part"],
            operation(span["kind"], span["factor"]),
        )
        assert names[event["pid"], event["tid"], "thread_name"] == event["cat"] == span["lane"]
        start, end = span["start_ps"] // tick_ps, span["end_ps"] // tick_ps
        assert (event["ts"] * 1000, event["dur"] * 1000) == (start, end - start)
        assert (
            float(event["args"]["energy_j"]) == span["energy_j"]
            and event["args"]["bits"] == span["bits"]
        )
        assert event["args"]["waited_ps"] == span["start_ps"] - span["queued_ps"]
        place[span["id"]] = (event["pid"], event["tid"], event["ts"])
        assert {place[parent] for parent in span["parents"]} <= arrows[place[span["id"]]]
        by_place[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for times in by_place.values():
        assert all(a[1] <= b[0] for a, b in zip(times, times[1:], strict=False))


@pytest.mark.parametrize("name", ["tngd-digits", "kfac-digits", "tngd-digits-async"])
def test_every_event_of_a_real_run_comes_back(name, tmp_path):
    run = hybridsim.run(
        hybridsim.load(name, ["training.steps=4"]), tmp_path / "run", backend="timing"
    )
    found = events_of(run, tmp_path / "trace.json")
    check(found, run, 1)
    joules: dict[int, float] = defaultdict(float)
    for a, b in zip(found["C"], found["C"][1:], strict=False):
        if a["pid"] == b["pid"]:
            joules[a["pid"]] += float(a["args"]["W"]) * float(b["ts"] - a["ts"]) * 1e-9
    assert sum(joules.values()) == pytest.approx(
        run.summary["energy"]["total"]["energy_j"], rel=1e-6
    )
    assert (
        "1 ns shown = 1 ps simulated"
        in json.loads((tmp_path / "trace.json").read_text())["otherData"]["scale"]
    )


@settings(max_examples=30, deadline=None)
@given(operations(), st.sampled_from([1, 3, 1000]))
def test_made_up_runs_come_back_at_every_scale(tmp_path_factory, ops, tick_ps):
    folder = tmp_path_factory.mktemp("made-up")
    write_run(folder / "run", simulate(ops), parts=2, name='"<script>"')
    run = Run.open(folder / "run")
    check(events_of(run, folder / "trace.json", tick_ps=tick_ps), run, tick_ps)


def test_numbers_that_json_has_no_word_for_become_text(tmp_path):
    first, second = simulate([Op(0, 0, 5), Op(0, 0, 7)])
    write_run(tmp_path / "run", [first._replace(energy_j=float("nan")), second])
    found = events_of(Run.open(tmp_path / "run"), tmp_path / "trace.json")
    assert found["X"][0]["args"]["energy_j"] == "nan" and found["X"][1]["args"]["energy_j"] != "nan"


def test_messages_that_are_in_flight_together_get_threads_of_their_own(tmp_path):
    rows = [list(row) for row in simulate([Op(0, 0, length) for length in (5, 6, 7, 8)])]
    for cells in rows:
        cells[COLUMN["parents"]], cells[COLUMN["end_ps"]] = (
            (),
            cells[COLUMN["end_ps"]] - cells[COLUMN["start_ps"]],
        )
        cells[COLUMN["queued_ps"]] = cells[COLUMN["start_ps"]] = 0
    write_run(tmp_path / "run", [SpanRow._make(cells) for cells in rows])
    run = Run.open(tmp_path / "run")
    found = events_of(run, tmp_path / "trace.json")
    check(found, run, 1)
    assert len({event["tid"] for event in found["X"]}) == 4
