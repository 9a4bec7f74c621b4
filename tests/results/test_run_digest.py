"""The digest: blind to the host and the file layout, sensitive to every number."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import COLUMN, Op, operations, simulate, steps_of, write_run

from hybridsim.results.digest import run_digest
from hybridsim.results.read import Run

EVENTS = [(5, "clipping", "spu0", 1, "", 3.0, ""), (9, "saturation", "spu1", 2, "fc", 1.5, "note")]


@settings(max_examples=25, deadline=None)
@given(operations(), st.integers(1, 9), st.integers(1, 9))
def test_the_cut_into_parts_and_the_host_do_not_count(tmp_path_factory, ops, one, other):
    rows, folder = simulate(ops), tmp_path_factory.mktemp("digest")
    first = write_run(folder / "a", rows, one, events=EVENTS, host={"wall_s": 1.0})
    second = write_run(folder / "b", rows, other, events=EVENTS, host={"wall_s": 2.0})
    assert first | {"host": 0} == second | {"host": 0}
    assert Run.open(folder / "a").manifest["digest"] == Run.open(folder / "b").manifest["digest"]


def test_row_groups_compression_and_column_order_do_not_count(tmp_path):
    rows = simulate([Op(i % 3, i % 2, i) for i in range(31)])
    summary = write_run(tmp_path / "run", rows)
    for name in ("spans", "steps"):
        table = pq.read_table(tmp_path / "run" / f"{name}.parquet")
        table = table.select(table.column_names[::-1])
        pq.write_table(
            table, tmp_path / "run" / f"{name}.parquet", row_group_size=7, compression="none"
        )
    assert run_digest(tmp_path / "run", summary) == Run.open(tmp_path / "run").manifest["digest"]


@pytest.mark.parametrize("name", sorted(COLUMN))
def test_every_span_column_counts(tmp_path, name):
    rows = simulate([Op(i % 3, i % 2, i + 1) for i in range(12)])
    changed = list(rows[-1])
    cell = changed[COLUMN[name]]
    changed[COLUMN[name]] = (
        (*cell, 0) if name == "parents" else cell + ("x" if isinstance(cell, str) else 1)
    )
    write_run(tmp_path / "a", rows, steps=steps_of(rows))
    summary = Run.open(tmp_path / "a").summary
    before = run_digest(tmp_path / "a", summary)
    write_run(tmp_path / "b", [*rows[:-1], tuple(changed)], steps=steps_of(rows))
    assert run_digest(tmp_path / "b", summary) != before


def test_text_does_not_run_from_one_cell_into_the_next(tmp_path):
    summaries = []
    for name, notes in (("a", ("xy", "z")), ("b", ("x", "yz"))):
        events = [(5, "clipping", "spu0", 1, "", 3.0, note) for note in notes]
        summaries.append(write_run(tmp_path / name, simulate([]), events=events, steps=[]))
    assert summaries[0] == summaries[1]
    assert run_digest(tmp_path / "a", summaries[0]) != run_digest(tmp_path / "b", summaries[1])


def test_steps_events_and_summary_count(tmp_path):
    base = write_run(
        tmp_path / "a", [], steps=[{"step": 1, "start_ps": 0, "end_ps": 1, "train_loss": None}]
    )
    digests = {run_digest(tmp_path / "a", base), run_digest(tmp_path / "a", base | {"seed": 1})}
    write_run(
        tmp_path / "b", [], steps=[{"step": 1, "start_ps": 0, "end_ps": 1, "train_loss": 0.0}]
    )
    write_run(tmp_path / "c", [], steps=[], events=EVENTS)
    digests |= {run_digest(tmp_path / name, base) for name in "bc"}
    assert len(digests) == 4
    assert run_digest(tmp_path / "a", base | {"host": {"x": 1}}) in digests
