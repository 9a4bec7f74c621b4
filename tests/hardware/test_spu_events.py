"""What an SPU reports of itself: conductances beyond its range, and voltages beyond full scale."""

from __future__ import annotations

import pytest
from harness import IDEAL, document, execute, session

from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Ref

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "5 tau"}
KFAC = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1, "settle": "5 tau"}
ROWS = {**KFAC, "upload": "activations"}
EMPIRICAL = {**TNGD, "curvature": "empirical_fisher"}
SCALED = ["input", "jt_array"]


@pytest.mark.parametrize(
    ("algorithm", "sets"),
    [
        (TNGD, ["j_array", "h_array", "damping", *SCALED]),
        (EMPIRICAL, ["j_array", "damping", *SCALED]),
        (KFAC, ["array", "damping", "input"]),
        (ROWS, ["j_array", "damping", *SCALED]),
    ],
)
def test_every_set_of_resistors_is_held_against_the_range(algorithm, sets):
    """A range that none keeps: every set of resistors is named; the limit shows the largest."""
    narrow = {"spus": {**IDEAL, "conductance_range": 1e-9}}
    made, sink = execute(document(algorithm, steps=1, machine=narrow))
    events = [event for event in sink.events if event.kind == "out of range"]
    named = {event.note.split("(")[1].split(")")[0] for event in events}
    assert named == set(sets)
    limit = next(row for row in made.machine.limits() if row.name == "conductance_range")
    assert limit.needed == pytest.approx(1e-9 * max(event.value for event in events))


def test_a_range_that_all_keep_is_no_event():
    wide = {"spus": {**IDEAL, "conductance_range": 1e9}}
    _, sink = execute(document(TNGD, steps=1, machine=wide))
    assert not [event for event in sink.events if event.kind == "out of range"]


@pytest.mark.parametrize(("over", "reported"), [(0.0, 0), (1e-12, 0), (1e-8, 1), (0.5, 1)])
def test_saturation_is_more_than_rounding(over, reported):
    made, sink = session(document(TNGD))
    result = Ref.of(None, b"", (), {"saturation": 1.0 + over})
    made.machine.spus[0]._report(result, Label("settle", 1))
    made.trace.close()
    assert len([event for event in sink.events if event.kind == "saturation"]) == reported
