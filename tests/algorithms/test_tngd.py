"""TNGD's limits (T8), its circuit's size (T11), its asynchronous machine (T7, T15): arXiv
2405.13817."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from forbid import NoSolver, SolverUsed
from harness import IDEAL, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.circuits.low_rank import LowRank
from hybridsim.errors import InputError
from hybridsim.operations.backend import Live
from hybridsim.tasks.task import batch, batch_indices

SEEDS = st.integers(0, 10_000)
TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "50 tau"}
ASYNCHRONOUS = {**TNGD, "mode": "asynchronous", "state": "kept"}
FAST = {"bandwidth": "100000 Gb/s", "latency": "1 ns"}


def batches(made, steps):
    for step in range(steps):
        indices = batch_indices(made.seed, len(made.task.data.train_x), made.batch_size, step)
        yield batch(made.task.data, indices)


def exact_step(task, theta, data, damping, rate):
    """theta - eta (JᵀHJ/b + lambda I)⁻¹ g with a dense float64 solve."""
    lin = linearize(task, theta, data).value
    b, d = lin.residual.shape
    j = lin.jacobian.double().reshape(b, d, -1)
    a = torch.einsum("icn,icd,idm->nm", j, lin.hessian.double(), j) / b
    a += damping * torch.eye(len(theta), dtype=torch.float64)
    g = torch.einsum("icn,ic->n", j, lin.residual) / b
    return theta - rate * torch.linalg.solve(a, g)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_no_time_is_sgd(seed):
    thermal, _ = execute(document({**TNGD, "settle": "0 tau"}, seed=seed))
    plain, _ = execute(document({"kind": "sgd", "learning_rate": 0.1}, seed=seed))
    scale = (plain.theta.value - plain.parameters().value).abs().max()
    assert (thermal.theta.value - plain.theta.value).abs().max() <= 1e-5 * scale + 2e-7


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, damping=st.floats(0.02, 1.0))
def test_long_time_is_natural_gradient_descent(seed, damping):
    made, _ = execute(
        document({**TNGD, "damping": damping, "settle": "10000 tau"}, seed=seed, steps=1)
    )
    theta = made.parameters().value
    x, y = next(batches(made, 1))
    exact = exact_step(made.task, theta.double(), (x.double(), y), damping, 0.1)
    moved, expected = made.theta.value.double() - theta.double(), exact - theta.double()
    assert (moved - expected).norm() <= 1e-5 * expected.norm() + 1e-6 * theta.double().norm()


def test_three_steps_of_long_time_follow_the_exact_path():
    made, _ = execute(document({**TNGD, "settle": "10000 tau"}, steps=3))
    theta = made.parameters().value
    for data in batches(made, 3):
        theta = exact_step(made.task, theta, data, 0.1, 0.1).float()
    expected = theta - made.parameters().value
    assert (made.theta.value - theta).norm() <= 1e-5 * expected.norm() + 1e-6 * theta.norm()


@settings(max_examples=8, deadline=None)
@given(size=st.integers(1, 6), hidden=st.integers(2, 7))
def test_resistors_of_the_papers_circuit(size, hidden):
    """T11: b d_z (b d_z + 2 N) resistors are written when H is uploaded in full."""
    workload = {"source": "digits_mlp", "options": {"hidden": hidden, "depth": 1}}
    algorithm = {**TNGD, "hessian_upload": "full", "jacobian_upload": "twice"}
    made, sink = execute(
        document(algorithm, workload=workload, batch_size=size, steps=1), live=False
    )
    parameters = 64 * hidden + hidden + hidden * 10 + 10
    written = next(s for s in sink.spans if s["kind"] == "program")
    assert written["writes"] == 10 * size * (10 * size + 2 * parameters)
    assert made.machine.spus[0].load.resistors == written["writes"]
    sent = [
        s["bits"]
        for s in sink.spans
        if s["kind"] in ("upload jacobian", "upload hessian") and s["bits"]
    ]
    assert sum(sent) == 16 * written["writes"]


def test_the_asynchronous_machine_idles_nowhere_when_the_delay_is_the_settling_time():
    """T15: with t_d = t (no wait) and a link that is fast enough, GPU and SPU are both busy 95 % of
    the time."""
    machine = {"link": FAST, "spus": {**IDEAL, "buffering": "double"}}
    _, sink = execute(document(ASYNCHRONOUS, steps=60, machine=machine), live=False)
    end = max(s["end_ps"] for s in sink.spans)
    gpu = sum(s["end_ps"] - s["start_ps"] for s in sink.spans if s["lane"] == "compute")
    relaxing = sum(s["end_ps"] - s["start_ps"] for s in sink.spans if s["role"] == "background")
    assert gpu / end >= 0.95
    assert relaxing / end >= 0.95


def test_a_double_buffer_relaxes_without_pause_and_a_single_one_is_held_while_written():
    """So does a circuit that is written in pairs of rows, in as many bits."""
    relaxing, sent = {}, set()
    for buffering in ("single", "double", "row_pairs"):
        machine = {"spus": {**IDEAL, "buffering": buffering}}
        _, sink = execute(document(ASYNCHRONOUS, steps=5, machine=machine), live=False)
        spans = [s for s in sink.spans if s["role"] == "background"]
        relaxing[buffering] = sum(s["end_ps"] - s["start_ps"] for s in spans)
        first = min(s["start_ps"] for s in spans)
        end = max(s["end_ps"] for s in sink.spans)
        written = 0
        for step in range(2, 6):
            given = [
                s
                for s in sink.spans
                if s["step"] == step
                and (s["kind"].startswith("upload") or s["kind"] == "convert gradient")
            ]
            written += max(s["end_ps"] for s in given) - min(s["start_ps"] for s in given)
        held = written if buffering == "single" else 0
        sent.add(sum(s["bits"] for s in sink.spans if s["kind"].startswith("upload")))
        assert relaxing[buffering] == end - first - held
    assert relaxing["single"] < relaxing["double"] and len(sent) == 1


@pytest.mark.parametrize("delay", [0.0, 0.2, 1.0, 5.0])
def test_a_forced_delay_splits_the_settling_time(delay):
    """T7: t - t_d under the new system before the reading, t_d under the old one after it."""
    algorithm = {**ASYNCHRONOUS, "settle": "5 tau", "delay": f"{delay} tau"}
    machine = {"spus": {**IDEAL, "buffering": "double"}}
    _, sink = execute(document(algorithm, steps=4, machine=machine), live=False)
    lengths = [(s["end_ps"] - s["start_ps"]) / 1e6 for s in sink.spans if s["role"] == "background"]
    cycle = [length for length in (5.0 - delay, delay) if length]
    assert lengths == pytest.approx((cycle * 4)[: len(lengths)])
    assert len(lengths) == (4 + 3 if delay else 4) - (4 if delay == 5.0 else 0)
    columns = [row["delay_ps"] for row in sink.steps[:-1]]
    assert all(value >= delay * 1e6 for value in columns)


def test_the_delay_that_emerges_is_what_gpu_and_link_take():
    _, sink = execute(document(ASYNCHRONOUS, steps=4), live=False)
    for step in (1, 2, 3):
        start = next(
            s["start_ps"] for s in sink.spans if s["kind"] == "measure" and s["step"] == step
        )
        end = max(
            s["end_ps"]
            for s in sink.spans
            if s["kind"] == "convert gradient" and s["step"] == step + 1
        )
        assert sink.steps[step - 1]["delay_ps"] == end - start


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_a_kept_state_starts_where_the_last_reading_was(seed):
    """With no time at all a kept state never moves: every update repeats the first gradient."""
    made, _ = execute(document({**TNGD, "settle": "0 tau", "state": "kept"}, seed=seed, steps=3))
    theta = made.parameters().value
    first = linearize(made.task, theta, next(batches(made, 1))).value.gradient
    moved = made.theta.value - theta
    assert (moved + 3 * 0.1 * first).norm() <= 1e-4 * moved.norm()


def test_readings_that_are_averaged_take_time_and_conversions():
    readout = {"samples": 3, "spacing": "2 tau"}
    _, sink = execute(document({**TNGD, "readout": readout, "noise": 1e-3}, steps=1))
    kinds = [
        s["kind"] for s in sink.spans if s["part"] == "spu0" and s["kind"] in ("settle", "measure")
    ]
    assert kinds == ["settle", "measure"] * 3
    settles = [s["end_ps"] - s["start_ps"] for s in sink.spans if s["kind"] == "settle"]
    assert settles == [50_000_000, 2_000_000, 2_000_000]


@pytest.fixture
def _no_solver_on_an_spu(monkeypatch):
    """While an SPU computes (functions of its algorithm), no solver may run; diagnostics may use
    one."""
    evaluate = Live.evaluate

    def watched(self, computation, args, shape=None, **exact):
        if not computation.function.__module__.startswith("hybridsim.algorithms.tngd"):
            return evaluate(self, computation, args, shape, **exact)
        with NoSolver():
            return evaluate(self, computation, args, shape, **exact)

    monkeypatch.setattr(Live, "evaluate", watched)


@pytest.mark.usefixtures("_no_solver_on_an_spu")
@pytest.mark.parametrize("curvature", ["ggn", "empirical_fisher"])
@pytest.mark.parametrize("bits", ["ideal", 8])
def test_no_solver_runs_while_an_spu_works(curvature, bits):
    spus = {
        "count": 1,
        "part": "rc-1us",
        "input_bits": bits,
        "bias_bits": bits,
        "output_bits": bits,
        "imperfections": "ideal",
    }
    execute(document({**TNGD, "curvature": curvature, "noise": 1e-4}, machine={"spus": spus}))


@pytest.mark.usefixtures("_no_solver_on_an_spu")
@pytest.mark.parametrize(
    "solver", [torch.linalg.solve, torch.linalg.inv, torch.linalg.pinv, torch.cholesky_solve]
)
def test_the_prohibition_would_catch_a_solver_on_the_spus_path(monkeypatch, solver):
    eye = torch.eye(2)
    needs_two = solver in (torch.linalg.solve, torch.cholesky_solve)
    monkeypatch.setattr(
        LowRank, "relax", lambda *_, **__: solver(eye, eye) if needs_two else solver(eye)
    )
    with pytest.raises(SolverUsed):
        execute(document(TNGD, steps=1))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_fidelity_tells_how_far_the_reading_is_from_the_exact_solution(seed):
    """Against a dense float64 solve; the answer of a long settle is exact, that of none is the
    gradient's."""
    errors = {}
    for settle in ("0 tau", "10000 tau"):
        made, sink = execute(document({**TNGD, "settle": settle}, seed=seed, steps=1))
        errors[settle] = sink.steps[0]["solver_relative_error"]
        theta = made.parameters().value
        x, y = next(batches(made, 1))
        exact = (theta.double() - exact_step(made.task, theta, (x, y), 0.1, 0.1)) / 0.1
        given = (theta.double() - made.theta.value.double()) / 0.1
        assert errors[settle] == pytest.approx(
            float((given - exact).norm() / exact.norm()), abs=1e-4
        )
        cosine = float(given @ exact / given.norm() / exact.norm())
        assert sink.steps[0]["solver_cosine"] == pytest.approx(cosine, abs=1e-5)
    assert errors["10000 tau"] < 1e-5 < errors["0 tau"]


def relaxing(sink):
    """(start, end) of everything in which the state moves, in order."""
    found = [(s["start_ps"], s["end_ps"]) for s in sink.spans if s["lane"] in ("relax", "core")]
    return sorted(found)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("channels", [0, 1])
def test_a_free_running_state_moves_exactly_by_the_clock(samples, channels):
    """No time is lost and none counted twice, however slow the converter and however many the
    readings."""
    readout = {"samples": samples, "spacing": "1 tau"}
    machine = {"spus": {**IDEAL, "buffering": "double", "adc_channels": channels}}
    _, sink = execute(
        document({**ASYNCHRONOUS, "readout": readout}, steps=3, machine=machine), live=False
    )
    moved = relaxing(sink)
    assert all(before[1] == after[0] for before, after in pairwise(moved))
    assert moved[-1][1] == max(s["end_ps"] for s in sink.spans)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("delay", "link"), [("0.9 tau", {}), ("300 tau", FAST), ("5 tau", FAST)])
def test_with_a_forced_delay_the_state_moves_by_the_settling_time_and_never_ahead_of_the_clock(
    samples, delay, link
):
    algorithm = {
        **ASYNCHRONOUS, "settle": "800 tau", "delay": delay, "readout": {"samples": samples,
            "spacing": "0.4 tau"}
    }  # fmt: skip
    machine = {"link": {"part": "paper-50gbps", **link}, "spus": {**IDEAL, "buffering": "double"}}
    _, sink = execute(document(algorithm, steps=3, machine=machine), live=False)
    moved = relaxing(sink)
    assert all(before[1] <= after[0] for before, after in pairwise(moved))
    per_step = sum(end - start for start, end in moved if start >= moved[0][0]) / 1e6
    unread = 800.0 - float(delay.split()[0]) + 0.4 * (samples - 1)  # the last step has no answer
    assert per_step == pytest.approx(2 * 800.0 + unread, rel=1e-9)


def test_readings_spread_beyond_the_forced_delay_are_refused():
    algorithm = {**ASYNCHRONOUS, "delay": "1 tau", "readout": {"samples": 4, "spacing": "1 tau"}}
    with pytest.raises(InputError, match=r"delay: expected at least the 3 tau"):
        execute(document(algorithm), live=False)


def test_a_reset_state_read_at_once_is_fresh_and_is_sgd():
    _, sink = execute(document({**ASYNCHRONOUS, "state": "reset"}, steps=3))
    assert [row["staleness_steps"] for row in sink.steps] == [0, 0, 0]
    _, plain = execute(document({"kind": "sgd", "learning_rate": 0.1}, steps=3))
    assert [r["train_loss"] for r in sink.steps] == pytest.approx(
        [r["train_loss"] for r in plain.steps], rel=1e-5
    )


def relaxed_for(sink, state):
    """By step, the ages of its readings as the trace tells: updates since the parameters of the
    system in force when the state last moved, or at which it was reset."""
    switches = sorted(
        (s["end_ps"], s["step"] - 1) for s in sink.spans if s["kind"] == "convert gradient"
    )
    forced = [(s["end_ps"], s["step"]) for s in sink.spans if s["kind"] == "forced delay"]
    if forced:  # the switch comes when the pause ends, if it is still to come
        ends = {step: end for end, step in forced}
        switches = [(max(at, ends.get(updates, 0)), updates) for at, updates in switches]
    moves = [
        s for s in sink.spans if s["lane"] in ("relax", "core") and s["start_ps"] < s["end_ps"]
    ]

    def in_force(time_ps):
        return max(updates for at, updates in switches if at <= time_ps)

    found = {}
    for reading in (s for s in sink.spans if s["kind"] == "measure"):
        start = reading["start_ps"]
        last = max((s["start_ps"] for s in moves if s["end_ps"] <= start), default=None)
        age = 0 if last is None else reading["step"] - 1 - in_force(last)
        if state == "reset" and in_force(start) == reading["step"] - 1:
            age = 0
        found.setdefault(reading["step"], []).append(age)
    return found


@settings(deadline=None, max_examples=30)
@given(
    samples=st.integers(1, 3),
    state=st.sampled_from(["kept", "reset"]),
    timing=st.sampled_from(
        [{}, {"wait": "2 tau"}, {"delay": "20 tau"}, {"delay": "300 tau"}, {"delay": "600 tau"}]
    ),
    buffering=st.sampled_from(["single", "double"]),
    link=st.sampled_from([{}, FAST]),
)
def test_staleness_is_what_the_trace_tells_and_the_delay_what_the_clock_shows(
    samples, state, timing, buffering, link
):
    algorithm = {**ASYNCHRONOUS, "settle": "600 tau", "state": state, **timing,
                 "readout": {"samples": samples, "spacing": "3 tau"}}  # fmt: skip
    machine = {
        "link": {"part": "paper-50gbps", **link},
        "spus": {**IDEAL, "buffering": buffering},
    }
    _, sink = execute(document(algorithm, steps=4, machine=machine), live=False)
    ages = relaxed_for(sink, state)
    for row in sink.steps:
        expected = ages[row["step"]]
        assert row["staleness_steps"] == pytest.approx(sum(expected) / len(expected))
    for row in sink.steps[:-1]:
        read, following = (
            [s for s in sink.spans if s["step"] == row["step"] + k and s["kind"] == kind]
            for k, kind in ((0, "measure"), (1, "convert gradient"))
        )
        pauses = [s["end_ps"] for s in sink.spans
                  if s["step"] == row["step"] and s["kind"] == "forced delay"]  # fmt: skip
        end = max([s["end_ps"] for s in following] + pauses)
        assert row["delay_ps"] == end - min(s["start_ps"] for s in read)
    if "delay" in timing:
        forced_ps = float(timing["delay"].split()[0]) * 1e6
        assert all(row["delay_ps"] >= forced_ps for row in sink.steps[:-1])


def test_a_state_that_never_moves_grows_older_with_every_step():
    """No time at all, and the state kept: what is read answers the first gradient."""
    for changes in ({"settle": "0 tau", "state": "kept"},
                    {**ASYNCHRONOUS, "settle": "0 tau", "delay": "0 tau"}):  # fmt: skip
        _, sink = execute(document({**TNGD, **changes}, steps=4), live=False)
        assert [row["staleness_steps"] for row in sink.steps] == [0, 1, 2, 3]


def test_averaged_readings_carry_more_bits():
    spus = {"count": 1, "part": "rc-1us", "output_bits": 4}
    algorithm = {**TNGD, "readout": {"samples": 5, "spacing": "1 tau"}}
    made, sink = execute(document(algorithm, steps=1, machine={"spus": spus}), live=False)
    sent = next(s["bits"] for s in sink.spans if s["kind"] == "download")
    assert sent == made.task.layout.size * (4 + 3)
