"""Asynchronous TNGD whose GPU goes on while an upload is in flight: who waits for what, and what it
gains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import IDEAL, Memory, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import InputError
from hybridsim.units import to_ps

STEPS = 6
SYNCHRONOUS = {"kind": "tngd", "learning_rate": 0.05}
WAITING = {**SYNCHRONOUS, "mode": "asynchronous", "state": "kept"}
PIPELINED = {**WAITING, "pipeline": "upload"}


def machines() -> st.SearchStrategy[dict[str, Any]]:
    """The same parts, from links that decide everything to links that decide nothing."""
    return st.builds(
        lambda gbps, latency_us, launch_us, rate, bits, channels: {
            "gpu": {"part": "a100-sxm4-80gb", "launch_interval": f"{launch_us} us"},
            "link": {"bandwidth": f"{gbps} Gb/s", "latency": f"{latency_us} us"},
            "spus": {
                **IDEAL,
                "buffering": "double",
                "input_bits": bits,
                "adc_rate": f"{rate} MHz",
                "dac_rate": f"{rate} MHz",
                "adc_channels": channels,
            },
        },
        st.sampled_from([0.5, 5, 50, 5000]),
        st.floats(0, 100),
        st.floats(0.1, 20),
        st.sampled_from([1, 100]),
        st.sampled_from([8, 16]),
        st.sampled_from([0, 4]),
    )


def run(algorithm: dict[str, Any], machine: dict[str, Any], **changes: Any) -> Memory:
    made = document(algorithm, machine=machine, **{"steps": STEPS, "live": False} | changes)
    return execute(made, live=made["training"].pop("live"))[1]


def ends(memory: Memory) -> list[int]:
    return [row["end_ps"] for row in memory.steps]


def of_kind(memory: Memory, kind: str) -> Iterator[dict[str, Any]]:
    return (span for span in memory.spans if span["kind"] == kind)


@settings(max_examples=12)
@given(machine=machines(), tau=st.sampled_from([0, 20, 400]), samples=st.integers(1, 2))
def test_no_mode_is_slower_than_the_one_that_waits_more(machine, tau, samples):
    """With the same analog time before each reading: pipelined <= asynchronous <= synchronous."""
    common = {"readout": {"samples": samples, "spacing": "3 tau"}}
    waited = {**common, "wait": f"{tau} tau"}
    together = run({**SYNCHRONOUS, **common, "settle": f"{tau} tau"}, machine)
    waiting, pipelined = run({**WAITING, **waited}, machine), run({**PIPELINED, **waited}, machine)
    assert ends(waiting)[-1] <= ends(together)[-1]
    assert ends(pipelined)[-1] <= ends(waiting)[-1]
    for found in (waiting, pipelined):
        before = min(s["start_ps"] for s in found.spans if s["kind"] == "measure")
        periods = [b - a for a, b in zip(ends(found)[1:-2], ends(found)[2:-1], strict=True)]
        assert before > 0 and max(periods) <= ends(together)[1] - ends(together)[0]


@settings(max_examples=12)
@given(machine=machines(), tau=st.sampled_from([0, 30, 100, 1000]))
def test_a_step_takes_what_its_longest_stage_takes(machine, tau):
    """On average max(T_g, T_u, w, (T_g + T_u + w)/2), from the stages of one that waits: T_g from a
    reading to the packed system, T_u the upload, w the wait, which here has the reading in it."""
    algorithm = {**WAITING, "wait": f"{tau} tau"}
    alone = run(algorithm, machine)
    at = [[row["start_ps"], row["end_ps"]] for row in alone.steps]
    first = next(s for s in alone.spans if s["kind"].startswith("upload") and s["step"] == 3)
    measured = next(s for s in of_kind(alone, "measure") if s["step"] == 2)
    wait = to_ps(tau * 1e-6)
    gpu = first["start_ps"] - measured["start_ps"]
    upload = at[1][1] - first["start_ps"]
    held = wait + measured["end_ps"] - measured["start_ps"]  # the state is read, then replaced
    assert at[2][1] - at[1][1] == wait + gpu + upload

    steps = 24
    found = ends(run({**PIPELINED, "wait": f"{tau} tau"}, machine, steps=steps))
    period = (found[-2] - found[-12]) / 10
    assert period == pytest.approx(max(gpu, upload, held, (wait + gpu + upload) / 2), rel=1e-6)


def test_one_upload_is_in_flight_and_every_system_has_its_time():
    """Reading k comes after ``wait`` of system k - 1, which no switch cuts short."""
    machine = {"link": {"bandwidth": "5 Gb/s"}, "spus": {**IDEAL, "buffering": "double"}}
    memory = run({**PIPELINED, "wait": "40 tau"}, machine, steps=8)
    uploads = [
        (
            min(s["start_ps"] for s in memory.spans if s["step"] == k and "upload" in s["kind"]),
            max(s["end_ps"] for s in of_kind(memory, "convert gradient") if s["step"] == k),
        )
        for k in range(2, 8)
    ]
    readings = {s["step"]: s["start_ps"] for s in of_kind(memory, "measure")}
    relaxed = {s["step"]: s["end_ps"] - s["start_ps"] for s in of_kind(memory, "relax")}
    for (_, end), (start, _) in zip(uploads, uploads[1:], strict=False):
        assert start >= end
    for k, (start, end) in enumerate(uploads, 2):
        assert start <= readings[k] <= max(end, readings[k])
        assert k == 2 or readings[k] >= uploads[k - 3][1] + to_ps(40e-6)
    assert relaxed[5] > 0
    linearizing = [s for s in of_kind(memory, "linearize") if s["step"] == 4]
    assert uploads[1][0] < linearizing[0]["start_ps"] < uploads[1][1], "nothing overlaps"


@pytest.mark.parametrize(("wait", "expected"), [("0 tau", 2), ("100 tau", 1)])
def test_staleness_and_delay_are_reported(wait, expected):
    """On a slow link: one update more than without the pipeline."""
    machine = {"link": {"bandwidth": "0.02 Gb/s"}, "spus": {**IDEAL, "buffering": "double"}}
    memory = run({**PIPELINED, "wait": wait}, machine, live=True)
    assert [row["staleness_steps"] for row in memory.steps][2:] == [expected] * (STEPS - 2)
    plain = run({**WAITING, "wait": wait}, machine, live=True)
    assert [row["staleness_steps"] for row in plain.steps][2:] == [expected - 1] * (STEPS - 2)
    readings = {s["step"]: s["start_ps"] for s in of_kind(memory, "measure")}
    converted = {s["step"]: s["end_ps"] for s in of_kind(memory, "convert gradient")}
    delays = [row["delay_ps"] for row in memory.steps]
    assert delays[0] is None and delays[-1] is None
    for step in range(2, STEPS):
        assert delays[step - 1] == converted[step] - readings[step - 1]


@pytest.mark.parametrize(
    ("algorithm", "field"),
    [
        ({**SYNCHRONOUS, "pipeline": "upload"}, "pipeline: expected none in synchronous mode"),
        ({**PIPELINED, "delay": "1 tau"}, "delay: expected no delay under pipeline: upload"),
    ],
)
def test_what_a_pipeline_contradicts_is_refused(algorithm, field):
    with pytest.raises(InputError, match=field):
        hybridsim.load(document(algorithm))


def test_a_pipeline_needs_a_second_buffer():
    with pytest.raises(InputError, match="pipeline: expected none without a second set"):
        hybridsim.load(document(PIPELINED))


def test_what_is_in_flight_takes_memory_of_the_gpu():
    """The packed system, while the next one is made."""
    machine = {"spus": {**IDEAL, "buffering": "double", "input_bits": 8, "bias_bits": 12}}
    alone, both = (
        execute(document(algorithm, machine=machine), live=False)[0]
        for algorithm in (WAITING, PIPELINED)
    )
    size, rows, outputs = alone.task.layout.size, 4 * 10, 10
    packed = (8 * (rows * size + rows * outputs) + 12 * size) / 8
    peaks = [made.machine.gpus[0].peak_bytes for made in (alone, both)]
    assert peaks[1] - peaks[0] == -(-packed // 1)
