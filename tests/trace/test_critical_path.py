"""The critical path: a law on random schedules, and a schedule worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import COLUMN, Op, column, cut, operations, row, simulate

from hybridsim.trace.critical_path import BrokenPath, critical_path, shares, walk


@settings(max_examples=150, deadline=None)
@given(operations(), st.integers(1, 30))
def test_the_path_covers_the_run_without_gap_and_follows_causes(ops, length):
    rows = simulate(ops)
    path = critical_path(cut(rows, length)).segments
    assert path[0].start_ps == 0
    assert path[-1].end_ps == max(column(rows, "end_ps"))
    by_id = {cells[COLUMN["id"]]: cells for cells in rows}
    for before, after in pairwise(path):
        assert before.end_ps == after.start_ps
        cells = by_id[after.id]
        assert before.id in (*cells[COLUMN["parents"]], cells[COLUMN["blocker"]])


@settings(max_examples=60, deadline=None)
@given(operations(), st.integers(1, 7))
def test_the_path_does_not_depend_on_how_the_table_is_cut(ops, length):
    rows = simulate(ops)
    assert list(walk(cut(rows, length))) == list(walk(cut(rows, len(rows))))


@settings(max_examples=60, deadline=None)
@given(operations())
def test_shares_add_up_to_the_path(ops):
    path = critical_path(cut(simulate(ops), 10))
    length = path.segments[-1].end_ps
    assert sum(share.time_ps for share in path.shares) == length
    assert sum(share.share for share in path.shares) == pytest.approx(1.0 if length else 0.0)
    assert shares(reversed(path.segments)) == path.shares


def test_a_schedule_worked_out_by_hand():
    """a [0,5] and c [5,25] share server 0; b [5,6] follows a; d follows b and c."""
    rows = simulate([Op(0, 0, 5), Op(1, 0, 20), Op(0, 1, 1), Op(0, 1, 4, after=(1,))])
    path = critical_path(cut(rows, 2))
    assert [(s.id, s.kind, s.start_ps, s.end_ps) for s in path.segments] == [
        (0, "kind0", 0, 5), (1, "kind1", 5, 25), (3, "kind0", 25, 29),
    ]  # fmt: skip
    assert [(s.part, s.kind, s.time_ps) for s in path.shares] == [
        ("part0", "kind1", 20), ("part0", "kind0", 5), ("part1", "kind0", 4),
    ]  # fmt: skip
    assert path.shares[0].share == 20 / 29


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("order", [(3, 5), (5, 3)])
def test_of_several_parents_that_end_together_the_highest_id_counts(order, length):
    """Whichever of them was recorded first, and however the table is cut."""
    rows = [row(span, (), -1, Op(span, 0, 7), 0, 0) for span in order]
    rows.append(row(6, (3, 5), -1, Op(0, 0, 2), 7, 7))
    assert [segment.id for segment in critical_path(cut(rows, length)).segments] == [5, 6]


@settings(max_examples=60, deadline=None)
@given(operations(), st.integers(1, 30), st.integers(0, 2 * 10**7))
def test_spans_cut_at_the_end_of_the_run_keep_the_law(ops, length, until_ps):
    rows = simulate(ops, until_ps=until_ps + 1)
    path = list(walk(cut(rows, length)))
    if rows:
        assert path[-1].start_ps == 0
        assert sum(segment.end_ps - segment.start_ps for segment in path) == max(
            column(rows, "end_ps")
        )


@settings(max_examples=60, deadline=None)
@given(operations(), st.integers(1, 30), st.data())
def test_a_gap_names_the_span(ops, length, data):
    """Lengthening a wait or losing the cause of a span on the path leaves it unexplained."""
    rows = simulate(ops)
    late = [s for s in critical_path(cut(rows, length)).segments if s.start_ps > 0]
    if not late:
        return
    victim = data.draw(st.sampled_from(late)).id
    orphan = [
        (*cells[:1], (), -1, *cells[3:]) if cells[COLUMN["id"]] == victim else cells
        for cells in rows
    ]
    with pytest.raises(BrokenPath, match=f"span {victim} "):
        list(walk(cut(orphan, length)))


def test_background_spans_are_passed_over():
    rows = simulate([Op(0, 0, 5), Op(0, 1, 5)])
    background = list(row(9, (), -1, Op(0, 0, 50), 0, 0))
    background[COLUMN["role"]] = "background"
    path = critical_path(cut([*rows, tuple(background)], 1))
    assert [segment.id for segment in path.segments] == [0, 1]
    assert critical_path(cut([tuple(background)], 1)).segments == ()
    assert critical_path([]).segments == ()
