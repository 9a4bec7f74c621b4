"""An outcome says what its run's summary says, and what cannot be trusted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_studies import adam, tngd

import hybridsim
from hybridsim.errors import InputError
from hybridsim.results.solves import solves
from hybridsim.studies.evaluate import Evaluated
from hybridsim.studies.outcome import (
    NEVER_LIVE,
    Outcome,
    from_json,
    mark,
    outcome_of,
    regated,
    to_json,
)
from hybridsim.studies.records import read_record, write_record

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize("target", [None, {"test_loss": 100.0}, {"test_loss": 1e-9}])
@pytest.mark.parametrize("backend", ["live", "timing"])
@pytest.mark.parametrize("make", [tngd, adam])
def test_the_outcome_is_what_the_summary_says(tmp_path, make, backend, target):
    goal = {} if target is None else {"target": target}
    run = hybridsim.run(hybridsim.load(make(tmp_path, **goal)), backend=backend)
    summary, found = run.summary, outcome_of(run, 0.3)
    energy = summary["energy"]["total"]
    assert (found.status, found.how, found.steps) == ("ok", backend, 4)
    assert (found.run_seconds, found.run_joules) == (summary["simulated_s"], energy["energy_j"])
    assert found.run_joules_low == energy["energy_low_j"] < found.run_joules < found.run_joules_high
    assert found.step_seconds == summary["simulated_s"] / 4
    assert found.digest == run.manifest["digest"]
    if target is None:
        assert (found.seconds, found.joules) == (found.run_seconds, found.run_joules)
        assert found.reached is None
    elif backend == "live" and target["test_loss"] == 100.0:
        first = run.steps[run.steps.test_loss.notna()].iloc[0]
        assert (found.reached, found.step) == (True, first.step)
        assert (found.seconds, found.joules) == (first.time_s, first.energy_j)
    else:
        assert math.isnan(found.seconds) and math.isnan(found.joules)
        assert found.reached is (False if backend == "live" else None)
    if backend == "live":
        assert found.final_test_loss == run.steps.test_loss.iloc[-1]
        assert found.final_train_loss == run.steps.train_loss.iloc[-1]


def test_an_analog_answer_that_was_not_checked_is_marked_and_a_digital_one_is_not(tmp_path):
    analog, digital = hybridsim.load(tngd(tmp_path)), hybridsim.load(adam(tmp_path))
    assert outcome_of(hybridsim.run(analog, backend="timing"), 0.3).mark == NEVER_LIVE
    assert outcome_of(hybridsim.run(digital, backend="timing"), 0.3).mark == ""
    run = hybridsim.run(analog)
    error = solves(run.steps).error
    assert outcome_of(run, error).mark == ""
    assert outcome_of(run, error * (1 - 1e-9)).mark == f"solver error {error:.3g} above {error:g}"
    assert outcome_of(run, error).solver_error == error


def test_what_nobody_can_build_is_said_apart_from_the_mark(tmp_path):
    fast = hybridsim.load(
        tngd(tmp_path), ["machine.spus.adc_rate=1 GHz", "machine.spus.output_bits=16"]
    )
    found = outcome_of(hybridsim.run(fast), 10.0)
    assert "no such part exists" in found.unbuildable and found.mark == ""


@given(error=st.floats(0, 10), gate=st.floats(0.001, 5))
def test_marks_follow_the_gate(error, gate):
    found = Outcome("ok", solver_error=error, mark=mark(error, gate))
    assert bool(found.mark) == (error > gate)
    assert regated(Outcome("ok", solver_error=error), gate) == found
    assert mark(math.nan, gate) == NEVER_LIVE
    assert regated(Outcome("ok"), gate).mark == ""
    assert regated(Outcome("ok", mark=NEVER_LIVE), gate).mark == NEVER_LIVE


outcomes = st.builds(
    Outcome,
    status=st.sampled_from(["ok", "failed"]),
    reason=st.text(),
    seconds=numbers,
    joules=finite,
    reached=st.sampled_from([True, False, None]),
    step=st.none() | st.integers(1, 10**9),
    solver_error=numbers,
    wall_s=numbers,
)


@given(outcome=outcomes)
def test_outcomes_survive_json_to_the_last_bit(outcome):
    assert repr(from_json(to_json(outcome))) == repr(outcome)


@given(data=st.data(), outcome=outcomes)
def test_a_record_that_was_changed_anywhere_is_none(tmp_path_factory, data, outcome):
    path = tmp_path_factory.mktemp("record") / "outcome.json"
    kept = write_record(path, Evaluated("ab", outcome, "live", "k"), "sig", "me")
    again = read_record(path, "ab", 0.3)
    assert repr(again.found._replace(outcome=outcome)) == repr(kept.found)
    assert read_record(path, "cd", 0.3) is None
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))
    content[place] ^= data.draw(st.integers(1, 127))
    path.write_bytes(content)
    try:
        found = read_record(path, "ab", 0.3)
    except InputError as error:  # the change made it another format
        assert "another version" in str(error)
    else:
        assert found is None or repr(found) == repr(again)  # e.g. a blank between values


def test_a_record_of_another_version_is_refused_by_name(tmp_path):
    path = tmp_path / "outcome.json"
    write_record(path, Evaluated("ab", Outcome("ok"), "live"), "sig", "me")
    path.write_text(path.read_text().replace("study point 1", "study point 2"))
    with pytest.raises(InputError, match=r"outcome.json: expected the format .*, got .* 2'"):
        read_record(path, "ab", 0.3)
