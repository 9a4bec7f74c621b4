"""TNGD on a device as it could be built: what its program pays for, and what it computes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from harness import IDEAL, document, execute

from hybridsim import load
from hybridsim.algorithms.assumptions import analog_assumptions
from hybridsim.scenario.imperfections import SWITCHES

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "20 tau"}
ASYNCHRONOUS = {**TNGD, "mode": "asynchronous", "wait": "5 tau"}


UNSAID = ("holding", "dead_cells", "drift")  # ideal devices need no assumption for these
LOAD = {"base": "ideal", "load_current": True}


def on(imperfections: Any, **constants: Any) -> dict[str, Any]:
    return {"spus": {"part": "rc-1us", "imperfections": imperfections} | constants}


def operations(sink: Any) -> Counter[str]:
    return Counter(span["kind"] for span in sink.spans if span["part"] == "spu0")


@pytest.mark.parametrize("algorithm", [TNGD, ASYNCHRONOUS])
def test_a_first_settle_that_only_finds_the_ranges_is_paid(algorithm: dict[str, Any]) -> None:
    """Once, with a second conversion and no second writing; shapes alone give the same keys."""
    made, sink = execute(document(algorithm, machine=on("realistic")))
    known, other = execute(document(algorithm, machine=on("realistic")), live=False)
    found, free = operations(sink), operations(execute(document(algorithm))[1])
    assert found["find ranges"] == found["set gains"] == 1 and free["find ranges"] == 0
    assert found["convert gradient"] == free["convert gradient"] + 1
    assert operations(other) == found - Counter({"measure again": found["measure again"]})
    gains = next(span for span in sink.spans if span["kind"] == "set gains")
    assert gains["start_ps"] == gains["end_ps"]
    # a reading that is taken again makes a state that never stops relax for longer
    if not (algorithm is ASYNCHRONOUS and found["measure again"]):
        assert known.theta.key == made.theta.key
    assert made.theta.value.isfinite().all()


def test_a_reading_that_uses_little_of_its_range_is_taken_again() -> None:
    """With gains of x that are a hundred times what it reaches, each reading is; with fitting
    ones none."""
    counts = []
    for headroom in (2.0, 200.0):
        machine = on({"base": "ideal", "full_scales": True}, headroom=headroom)
        made, sink = execute(document(TNGD, machine=machine))
        counts.append(operations(sink))
        assert made.theta.value.isfinite().all()
    assert counts[1]["measure again"] == counts[1]["measure"] == 3
    assert counts[0]["measure again"] < 3


def test_load_current_changes_no_number() -> None:
    """It only asks what the amplifiers' loads take."""
    runs = [execute(document(TNGD, machine=on(base)))[0] for base in ("ideal", LOAD)]
    assert torch.equal(runs[0].theta.value, runs[1].theta.value)
    spus = [run.machine.spus[0] for run in runs]
    assert [("charge" in spu.state.facts) for spu in spus] == [False, True]
    assert spus[1].state.facts["charge"] > 0


def test_tiny_imperfections_are_none() -> None:
    """Amplifiers of gain 10^12 and ideal converters: the ideal machine's parameters."""
    real = {"imperfections": {"base": "ideal", "finite_gain": True}, "amplifier_gain": 1e12}
    almost, ideal = (
        execute(document(TNGD, machine={"spus": IDEAL | extra}))[0] for extra in (real, {})
    )
    moved = ideal.theta.value - ideal.parameters().value
    difference = (almost.theta.value - ideal.theta.value).abs().max()
    assert float(difference) < 1e-5 * float(moved.abs().max()) + 2e-7


def test_slow_amplifiers_are_an_event() -> None:
    """At 1 MHz and RC = 1 us, and with noise gain, the loop is near the edge; at 100 GHz far."""
    for speed, expected in (("1 MHz", True), ("100 GHz", False)):
        machine = on({"base": "ideal", "bandwidth": True}, gain_bandwidth=speed)
        _, sink = execute(document(TNGD, machine=machine))
        assert ("slow amplifiers" in {event.kind for event in sink.events}) is expected


def test_an_imperfection_that_acts_is_not_assumed_away() -> None:
    """Each takes its own assumption away, and states its model where there is something to say."""

    def said(imperfections: Any) -> set[str]:
        spec = load(document(TNGD, machine=on(imperfections))).machine.expand()
        return set(analog_assumptions(spec))

    ideal, whole = said("ideal"), said("realistic")
    gone = {name: ideal - said({"base": "ideal", name: True}) for name in SWITCHES}
    assert all(len(one) == (name not in UNSAID) for name, one in gone.items())
    assert ideal & whole == ideal - set.union(*gone.values())
