"""A number that cannot be trusted looks like it: analog answers that solve nothing, targets that
were not evaluated."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedules import Op, simulate, write_run
from signing import sign

from hybridsim.reports.report import write_report
from hybridsim.reports.verdict import solve_text
from hybridsim.results.read import Run
from hybridsim.results.solves import LEAST_COSINE, MOST_ERROR, best_value, solves
from hybridsim.trace.spans import EventRow

ROWS = simulate([Op(0, 0, 5), Op(1, 0, 20)])
TARGET = {"metric": "test_accuracy", "threshold": 0.9, "direction": "above"}
ASYNCHRONOUS = "name: a\ntraining:\n  algorithm: {kind: tngd, mode: asynchronous}\n"
SYNCHRONOUS = ASYNCHRONOUS.replace("asynchronous", "synchronous")


def page_of(folder, errors, cosines, scenario=SYNCHRONOUS, **extras) -> str:
    steps = [
        {"step": i + 1, "start_ps": 0, "end_ps": i, "energy_j": 1.0, "test_loss": 1.0,
            "solver_relative_error": error, "solver_cosine": cosine, "test_accuracy": 0.5 + 0.1 * i}
        for i, (error, cosine) in enumerate(zip(errors, cosines, strict=True))
    ]  # fmt: skip
    write_run(folder, ROWS, steps=steps, **extras)
    (folder / "scenario.yaml").write_text(scenario)
    sign(folder)
    write_report(Run.open(folder), folder / "report.html")
    text = (folder / "report.html").read_text()
    return text[text.index("<header>") : text.index("</header>")]


@pytest.mark.parametrize("error", [0.31, 2.0, math.nan])
def test_above_an_error_of_0_3_it_is_not_a_solve_and_says_so_first(tmp_path, error):
    head = page_of(tmp_path, [error] * 3, [0.5] * 3)
    first = head.index('<div class="card ')
    assert head[first:].startswith('<div class="card bad"><div class="label">Analog answers')
    assert "not a solve" in head and "not a solve" in solve_text(Run.open(tmp_path))


def test_below_it_the_error_stands_last_and_single_bad_readings_are_counted(tmp_path):
    head = page_of(tmp_path, [0.1, 0.2, 0.4], [0.99, 0.98, 0.95])
    assert "not a solve" not in head and "1 of 3 above 0.3" in head
    assert head.rindex("Analog answers") > head.rindex("Bottleneck")


@pytest.mark.parametrize(
    ("cosines", "counted"),
    [([0.99, 0.95], ""), ([0.99, 0.89], "1 of 2"), ([0.1, math.nan], "2 of 2")],
)
def test_asynchronous_readings_off_the_solution_raise_an_alarm(tmp_path, cosines, counted):
    head = page_of(tmp_path / "a", [0.1] * 2, cosines, ASYNCHRONOUS)
    assert ('class="alarm"' in head) == bool(counted) and counted in head
    assert 'class="alarm"' not in page_of(tmp_path / "b", [0.1] * 2, cosines, SYNCHRONOUS)


def test_a_target_says_how_near_a_run_came_and_whether_it_was_evaluated(tmp_path):
    head = page_of(tmp_path / "a", [0.1] * 3, [0.99] * 3, target={**TARGET, "threshold": 0.99})
    assert "not reached" in head and "best 0.7" in head
    write_run(tmp_path / "b", ROWS, steps=[], target=TARGET)
    write_report(Run.open(tmp_path / "b"), tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text()
    assert "not evaluated" in page and "no step was evaluated" in page


@given(
    st.lists(st.one_of(st.floats(0, 3), st.just(math.nan)), min_size=1, max_size=20),
    st.data(),
)
def test_readings_are_summed_up_as_they_are(errors, data):
    cosines = data.draw(
        st.lists(st.floats(-1, 1), min_size=len(errors), max_size=len(errors)), "cosines"
    )
    frame = pd.DataFrame(
        {"test_loss": 1.0, "solver_relative_error": errors, "solver_cosine": cosines}
    )
    gap = pd.DataFrame({"test_loss": [math.nan]})
    found = solves(pd.concat([frame, gap, gap], ignore_index=True))
    bad = [error for error in errors if not error <= MOST_ERROR]
    assert found.checked == len(errors) and found.above == len(bad)
    assert found.below == sum(cosine < LEAST_COSINE for cosine in cosines)
    assert found.lowest_cosine == min(cosines) and found.cosine == np.median(cosines)
    assert found.solved == (np.median([math.inf if e != e else e for e in errors]) <= MOST_ERROR)


def test_what_was_not_checked_has_no_error():
    assert solves(pd.DataFrame({"step": [1]})) is None
    nothing = {"solver_relative_error": [math.nan], "solver_cosine": [math.nan]}
    assert solves(pd.DataFrame(nothing)) is None
    assert best_value(pd.DataFrame({"step": [1]}), TARGET) is None
    below = {"metric": "test_loss", "threshold": 1.0, "direction": "below"}
    assert best_value(pd.DataFrame({"test_loss": [3.0, math.nan, 2.0]}), below) == 2.0


@pytest.mark.parametrize(
    ("kind", "error", "loud"),
    [
        ("saturation", 0.1, False),
        ("clipping", 0.2, False),
        ("saturation", 0.4, True),
        ("non-finite", 0.1, True),
    ],
)
def test_a_range_that_was_too_small_is_no_error_where_the_answers_hold(tmp_path, kind, error, loud):
    event = EventRow(3, kind, "spu0", 1, "", 1.5, "of full scale")
    head = page_of(tmp_path, [error] * 3, [0.99] * 3, events=[event])
    assert ("Something went wrong" in head) == loud
    assert f"1 × {kind}" in head
