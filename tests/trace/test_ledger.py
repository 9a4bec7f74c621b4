"""The energy book against plain loops."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import COLUMN, STATIC, column, cut, operations, simulate

from hybridsim.trace.ledger import EnergyBook, total

NAMES = ("energy_j", "energy_low_j", "energy_high_j")


def book_of(chunks):
    book = EnergyBook()
    for chunk in chunks:
        book.add(chunk)
    return book


@settings(max_examples=60, deadline=None)
@given(operations(), st.integers(1, 30))
def test_total_is_spans_plus_static_power_times_makespan(ops, length):
    rows = simulate(ops)
    makespan_ps = max(column(rows, "end_ps"))
    found = total(book_of(cut(rows, length)).rows(STATIC, makespan_ps))
    powers = ("power_w", "power_low_w", "power_high_w")
    for joules, name, power in zip(found, NAMES, powers, strict=True):
        static = sum(line[power] for line in STATIC) * makespan_ps * 1e-12
        assert joules == pytest.approx(sum(column(rows, name)) + static, rel=1e-9)
    assert found[1] <= found[0] <= found[2]


@settings(max_examples=40, deadline=None)
@given(operations(), st.integers(1, 30))
def test_every_line_is_the_sum_over_its_spans(ops, length):
    rows = simulate(ops)
    lines = book_of(cut(rows, length)).rows()
    assert {(line.part, line.kind) for line in lines} == set(
        zip(column(rows, "part"), column(rows, "kind"), strict=True)
    )
    for line in lines:
        own = [
            row
            for row in rows
            if (row[COLUMN["part"]], row[COLUMN["kind"]]) == (line.part, line.kind)
        ]
        for name in NAMES:
            assert getattr(line, name) == pytest.approx(sum(column(own, name)), rel=1e-12)


def test_a_run_without_spans_draws_static_power_only():
    lines = EnergyBook().rows(STATIC, 2 * 10**12)
    assert [line.origin for line in lines] == ["static", "static"]
    assert total(lines) == pytest.approx((101.0, 80.2, 134.0))
    assert (lines[0].status, lines[0].source) == ("measured", "datasheet")
    assert total([]) == (0.0, 0.0, 0.0)
