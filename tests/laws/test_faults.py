"""A signal or a failing disk at any operation on a file: the folder tells the truth, and the run
goes on to the outcome of an undisturbed one. All operations and commands: ``make soak``."""

from __future__ import annotations

import pytest
from faults import Fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcomes import check_end, go_on
from programs import PROGRAMS
from shared_tasks import task_of

import hybridsim


@pytest.fixture(scope="module")
def scenario():
    return hybridsim.load(PROGRAMS["tngd-asynchronous"])


def ran(scenario, folder, fault: Fault) -> tuple[int, str]:
    """Exit code and message, as the command line has them."""
    try:
        with fault.armed():
            hybridsim.run(scenario, folder, checkpoint="2 steps", task=task_of(scenario))
    except KeyboardInterrupt:
        return 130, "hybridsim: interrupted"
    except hybridsim.HybridsimError as error:
        return error.exit_code, str(error)
    return 0, ""


@pytest.fixture(scope="module")
def operations(scenario, tmp_path_factory):
    """How many there are in a run."""
    folder = tmp_path_factory.mktemp("counted") / "run"
    fault = Fault(folder)
    assert ran(scenario, folder, fault) == (0, "")
    return fault.seen


@settings(max_examples=9, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_happens_at_some_operation(scenario, operations, live, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("met") / "run"
    what = data.draw(st.sampled_from(["SIGINT", "ENOSPC", "EIO"]))
    late, lasting = data.draw(st.booleans()), data.draw(st.booleans())
    fault = Fault(folder, data.draw(st.integers(1, operations)), what, late, lasting)
    code, printed = ran(scenario, folder, fault)
    check_end(folder, code, printed, fault, here=True)
    digest = live("tngd-asynchronous")[0].manifest["digest"]
    assert go_on(folder, scenario).manifest["digest"] == digest


def test_an_interrupt_in_the_end_comes_after_it_and_others_with_it(scenario, tmp_path):
    """From the first operation of finishing to the last: complete, and interrupted."""
    whole = Fault(tmp_path / "whole")
    ran(scenario, whole.below, whole)
    fault = Fault(tmp_path / "run", whole.seen - 3, "SIGINT")
    assert ran(scenario, fault.below, fault)[0] == 130
    assert hybridsim.Run.open(fault.below).status == "complete"
