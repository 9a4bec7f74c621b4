"""The run folder while it is written: closed parts, safe replacement, streaming merge."""

from __future__ import annotations

import json
import math

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import Op, operations, simulate, steps_of, write_run

from hybridsim.errors import InputError
from hybridsim.results import parts
from hybridsim.results.columns import SPANS, table_of_tuples
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter
from hybridsim.trace.spans import EventRow, Rows, SpanRow

ROWS = simulate([Op(0, 0, 5), Op(1, 0, 20), Op(0, 1, 1), Op(0, 1, 4, after=(1,))])
EVENT = EventRow(7, "clipping", "spu0", 1, "", 3.0, "values beyond full scale")


@settings(max_examples=40, deadline=None)
@given(operations())
def test_rows_come_back_as_they_were(ops):
    rows = simulate(ops)
    table = table_of_tuples(rows, SPANS)
    back = [tuple(line.values()) for line in table.to_pylist()]
    assert back == [(row.id, list(row.parents), *row[2:]) for row in rows]


def test_every_call_leaves_a_closed_part_and_a_running_run_can_be_read(tmp_path):
    writer = RunWriter(tmp_path / "run", False)
    writer.write(Rows(ROWS[:3], [EVENT], steps_of(ROWS[:3])))
    (tmp_path / "run" / "spans" / "part-00001.tmp").write_bytes(b"PAR1 half a file")
    run = Run.open(tmp_path / "run")
    assert run.status == "running"
    assert run.spans["id"].tolist() == [row.id for row in ROWS[:3]]
    assert run.events["kind"].tolist() == ["clipping"]
    assert run.summary["spans"] == 3 and run.summary["energy"]["static_share"] == 0
    writer.write(Rows(ROWS[3:]))
    assert sorted(p.name for p in (tmp_path / "run" / "events").iterdir()) == ["part-00000.parquet"]
    writer.finish({"status": "complete"}, [], {})
    assert len(Run.open(tmp_path / "run").spans) == len(ROWS)
    left = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert left == [
        "events.parquet",
        "manifest.json",
        "requests.parquet",
        "spans.parquet",
        "steps.parquet",
        "summary.json",
    ]


def test_the_merge_makes_row_groups_of_one_length(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_GROUP", 4)
    rows = simulate([Op(i % 3, i % 2, i) for i in range(31)])
    write_run(tmp_path / "run", rows, parts=7)
    data = pq.read_metadata(tmp_path / "run" / "spans.parquet")
    assert [data.row_group(i).num_rows for i in range(data.num_row_groups)] == [4] * 7 + [3]
    run = Run.open(tmp_path / "run")
    assert run.spans["id"].tolist() == [row.id for row in rows]
    assert [segment.end_ps for segment in run.path][-1] == max(row.end_ps for row in rows)


def test_step_columns_may_come_late_and_hold_nothing(tmp_path):
    writer = RunWriter(tmp_path / "run")
    base = {
        "step": 1,
        "start_ps": 0,
        "end_ps": 10,
        "train_loss": 1,
        "energy_j": 0.5,
        "staleness_steps": None,
    }
    second = base | {"step": 2, "iterations": 3, "note": "x", "nothing": None}
    for line in (base, second):
        writer.write(Rows(steps=[line]))
    third = base | {"step": 3, "iterations": math.nan, "test_accuracy": 0.5, "ok": True}
    writer.write(Rows(steps=[third]))
    writer.finish({}, [], {})
    steps = Run.open(tmp_path / "run").steps
    assert steps["step"].tolist() == [1, 2, 3]
    assert steps["iterations"].fillna(-1).tolist() == [-1, 3, -1]
    assert steps["test_accuracy"].fillna(-1).tolist() == [-1, -1, 0.5]
    assert steps["note"].isna().tolist() == [True, False, True]
    assert steps["nothing"].isna().all() and steps["staleness_steps"].isna().all()


def test_an_empty_run_has_a_summary(tmp_path):
    RunWriter(tmp_path / "run").finish(
        {"status": "failed", "reason": "nothing ran"}, [], {"batch_size": 4}
    )
    run = Run.open(tmp_path / "run")
    assert (len(run.spans), len(run.steps), run.summary["steps"]) == (0, 0, 0)
    assert run.summary["critical_path"]["bottleneck"] is None
    assert run.summary["throughput"] == {"steps_per_s": None, "samples_per_s": None}
    assert tuple(run.spans.columns) == SpanRow._fields
    assert run._repr_html_().startswith("<table>")


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "manifest.json").write_text("{}")
    for force in (False, True):
        with pytest.raises(InputError, match="expected an empty folder or a run folder"):
            RunWriter(tmp_path, force)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match="got a file"):
        RunWriter(tmp_path / "thesis.tex", True)


def test_a_run_is_replaced_by_force_only_and_other_files_in_it_stay(tmp_path):
    write_run(tmp_path / "run", ROWS)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "spans").mkdir()
    (tmp_path / "run" / "spans" / "mine.csv").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        RunWriter(tmp_path / "run", False)
    RunWriter(tmp_path / "run", True)
    left = sorted(
        str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()
    )
    assert left == ["manifest.json", "manifest.json.room.tmp", "notes.txt", "spans/mine.csv"]


def test_json_files_hold_no_nan(tmp_path):
    write_run(tmp_path / "run", ROWS, host={"wall_s": math.nan})
    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["host"] == {
        "wall_s": None
    }


@pytest.mark.parametrize(
    "kind", ["missing", "file", "no manifest", "other manifest", "broken manifest"]
)
def test_what_is_no_run_folder_says_so(tmp_path, kind):
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("")
    elif kind != "missing":
        path.mkdir()
    if kind.endswith(" manifest") and kind != "no manifest":
        (path / "manifest.json").write_text('{"name": "npm"}' if kind == "other manifest" else "{")
    with pytest.raises(InputError, match="expected a (run folder|manifest)"):
        Run.open(path)


def test_span_chunks_stream_the_columns_asked_for(tmp_path):
    write_run(tmp_path / "run", ROWS, parts=2)
    chunks = Run.open(tmp_path / "run").span_chunks(["part", "end_ps", "parents"])
    assert [set(chunk) for chunk in chunks] == [{"part", "end_ps", "parents", "parents_offsets"}]
    assert chunks[0]["parents_offsets"].tolist()[-1] == len(chunks[0]["parents"])


@settings(max_examples=40, deadline=None)
@given(operations(), st.integers(0, 3000), st.integers(1, 3000))
def test_the_spans_of_a_window(tmp_path_factory, ops, start_ps, length_ps):
    rows, end_ps = simulate(ops), start_ps + length_ps
    folder = tmp_path_factory.mktemp("window") / "run"
    write_run(folder, rows)
    expected = [
        row.id
        for row in rows
        if max(row.start_ps, start_ps) < min(row.end_ps, end_ps)
        or (row.start_ps == row.end_ps and start_ps <= row.start_ps <= end_ps)
    ]
    assert Run.open(folder).spans_between(start_ps, end_ps)["id"].tolist() == expected
