"""K-FAC on SPUs that err: settling by rules, refinement, random programmes, what they take."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

KFAC = {"kind": "kfac", "learning_rate": 1.0, "damping": 0.1, "settle": "100 tau"}


def run(algorithm, live=True, bits="ideal", inputs="ideal", part=None, **changes):
    ends = {"input_bits": inputs, "bias_bits": bits, "output_bits": bits}
    spus = {"count": 1, "part": "rc-1us", "imperfections": "ideal", **ends, **(part or {})}
    asked = document(
        {**KFAC, **algorithm}, steps=1, evaluate_every=1, machine={"spus": spus}, **changes
    )
    return execute(asked, live=live)


def moved(made):
    return made.parameters().value - made.theta.value


def duration_ps(sink, *lanes):
    return sum(s["end_ps"] - s["start_ps"] for s in sink.spans if s["lane"] in lanes)


def error(algorithm, **changes):
    _, sink = run(algorithm, **changes)
    return sink.steps[-1]["solver_relative_error"], sink


@settings(max_examples=3, deadline=None)
@given(bits=st.integers(2, 12), damping=st.floats(0.05, 0.5))
def test_bits_of_the_slowest_mode_of_every_factor(bits, damping):
    plain = {"damping": damping, "damping_rule": "plain", "settle": "10000 tau"}
    made, sink = run({**plain, "settling": {"rule": "bits", "bits": bits}})
    tau = bits * math.log(2) / damping
    columns = 65 + 5 + 6 + 10  # against G, then A of both layers
    assert duration_ps(sink, "core") == pytest.approx(columns * tau * 1e6)


def test_what_cuts_the_bits_short_is_said():
    _, sink = run({"damping_rule": "plain", "settle": "10 tau", "settling": "bits"})
    assert {event.kind for event in sink.events} == {"short settle"}
    assert all(event.value == pytest.approx(0.1 * 10 / math.log(2)) for event in sink.events)


@settings(max_examples=3, deadline=None)
@given(refinement=st.integers(0, 2), settle=st.floats(100, 10_000))
def test_a_budget_is_the_analog_time_of_a_step(refinement, settle):
    asked = {"settling": "budget", "settle": f"{settle} tau", "refinement": refinement}
    _, sink = run(asked, live=False)
    assert duration_ps(sink, "core") == pytest.approx(settle * 1e6, rel=1e-6)


def test_readings_of_columns_start_anew_until_they_agree():
    rule = {"rule": "agreement", "tolerance": 0.02, "first": "2 tau"}
    made, sink = run({"settling": rule})
    fixed, _ = run({"settle": "100 tau"})
    assert (moved(made) - moved(fixed)).norm() <= 0.05 * moved(fixed).norm()
    for layer in {s["layer"] for s in sink.spans if s["kind"] == "settle a"}:
        for side in "ag":
            own = [s for s in sink.spans if s["layer"] == layer]
            times = [s["end_ps"] - s["start_ps"] for s in own if s["kind"] == f"settle {side}"]
            assert all(y == pytest.approx(min(2 * x, y)) for x, y in pairwise(times))
            for kind in ("convert", "measure"):
                assert sum(s["kind"] == f"{kind} {side}" for s in own) == len(times)
            assert sum(s["kind"] == f"compare readings {side}" for s in own) == len(times) - 1


def test_readings_that_never_agree_are_those_of_the_bound():
    rule = {"rule": "agreement", "tolerance": 1e-9, "first": "30 tau"}
    made, sink = run({"settling": rule})
    fixed, _ = run({})
    assert (moved(made) - moved(fixed)).norm() <= 1e-5 * moved(fixed).norm()
    assert {event.kind for event in sink.events} == {"no agreement"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upload": "activations"},
        {"method": "inverse"},
        {"tiling": True, "part": {"cells": 40, "resistors": 1600}},
    ],
)
def test_refinement_passes_the_resolution_of_resistors_and_converters(changes):
    changes = dict(changes)
    device = {"inputs": 6, "bits": 6, "part": changes.pop("part", None)}
    coarse, _ = error(changes, **device)
    fine, sink = error({**changes, "refinement": 8}, **device)
    assert coarse > 1e-2 and fine < 1e-4
    assert not sink.events


@settings(max_examples=4, deadline=None)
@given(
    refinement=st.integers(0, 2),
    programmes=st.integers(1, 3),
    rule=st.sampled_from(["fixed", "agreement", "budget"]),
)
def test_time_on_the_spu_is_as_predicted(refinement, programmes, rule):
    asked = {"settling": rule, "refinement": refinement, "programmes": programmes}
    made, sink = run({**asked, "rounding": "stochastic"}, live=False, bits=8, inputs=8)
    predicted = sum(row["device_s"] for row in made.notes["placement"]) * 1e12
    assert duration_ps(sink, "array", "dac", "core", "adc") == pytest.approx(predicted, rel=1e-6)
    settles = sum(s["kind"].startswith("settle") for s in sink.spans)
    readings = {"agreement": 8}.get(rule, 1)  # 1, 2, 4, ..., 64, 100 tau
    assert settles == 4 * programmes * (1 + refinement) * readings


def test_programmes_are_written_sent_and_averaged():
    asked = {"rounding": "stochastic", "damping": 0.5}
    one, _ = error({**asked, "programmes": 1}, inputs=6, bits="ideal")
    several, sink = error({**asked, "programmes": 16}, inputs=6, bits="ideal")
    assert several < 0.5 * one
    for kind in ("program g", "program a", "settle g", "measure a"):
        assert sum(s["kind"] == kind for s in sink.spans) == 2 * 16
    assert sum(s["kind"] == "average answers g" for s in sink.spans) == 2
