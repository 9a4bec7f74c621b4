"""K-FAC on devices that are not ideal: ranges from the past, what is paid, and that ideal parts
give what ideal devices give.
"""

from __future__ import annotations

import pytest
import torch
from harness import IDEAL, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.kfac import built, device
from hybridsim.circuits.imperfections.device import Device

KFAC = {"kind": "kfac", "learning_rate": 0.05, "damping": 0.1, "settle": "10 tau"}
METHODS = {
    "solves": {},
    "activations": {"upload": "activations"},
    "inverse": {"method": "inverse"},
    "noise": {"method": "noise", "noise": 1e-3, "covariance": {"samples": 40}},
}
REAL = {"base": "realistic", "offset": False}


def train(method, imperfections, live=True, steps=2, **spus):
    machine = {"spus": {**IDEAL, "count": 2, "imperfections": imperfections} | spus}
    made = document(
        {**KFAC, **METHODS[method]}, machine=machine, precision="float64", steps=steps, seed=3
    )
    return execute(made, live, False)


def counted(sink, kind):
    return [
        sum(row["kind"].startswith(kind) and row["step"] == step for row in sink.spans)
        for step in (1, 2)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_first_solve_of_a_factor_finds_its_range_and_is_paid_twice(method) -> None:
    made, sink = train(method, REAL)
    first, second = counted(sink, "settle")
    assert first == 2 * second > 0
    assert made.theta.value.isfinite().all()
    timing, timed = train(method, REAL, live=False)
    assert timing.theta.key == made.theta.key
    assert [row["start_ps"] for row in timed.spans] == [row["start_ps"] for row in sink.spans]
    other, _ = train(method, REAL, instance=7)
    assert not torch.equal(other.theta.value, made.theta.value)
    _, sink = train(method, REAL | {"full_scales": False}, steps=2)
    assert counted(sink, "settle")[0] == counted(sink, "settle")[1]


@pytest.mark.parametrize("method", ["solves", "activations", "inverse"])
def test_load_current_alone_changes_no_number(method) -> None:
    plain, _ = train(method, {"base": "ideal"})
    loaded, _ = train(method, {"base": "ideal", "load_current": True})
    difference = plain.theta.value - loaded.theta.value
    assert float(difference.abs().max()) <= 1e-10


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from(["factor", "rows"]))
def test_a_device_of_ideal_parts_computes_what_an_ideal_one_does(seed, n, form) -> None:
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(n + 1, n, generator=g, dtype=torch.float64)
    b = torch.randn(n, 3, generator=g, dtype=torch.float64)
    shift = torch.tensor(0.3, dtype=torch.float64)
    made = "program" if form == "factor" else "program_roots"
    held = rows.T @ rows if form == "factor" else rows
    run = {"tau": 4.0, "kappa0": 0.0, "noise_seed": 0}
    ideal = getattr(device, made)(held, shift, input_bits=8)
    expected = device.settle(ideal.value, None, device.convert(b, bias_bits=9).value, **run)
    parts = Device(headroom=2.0, gain_step=2.0)
    real = getattr(built, made)(held, shift, input_bits=8, device=parts)
    peak = None
    for turn in range(2):
        driven = built.convert(b, peak, bias_bits=9, device=parts).value
        found = built.settle(real.value, None, driven, **run, device=parts)
        torch.testing.assert_close(found.value["x"], expected.value, rtol=1e-8, atol=1e-9)
        assert set(found.facts) >= {"dissipation", "saturation", "charge", "nonfinite"}
        peak = found.value["peak"]
        assert (driven.gain is None) == (turn == 0)
    share = float(driven.gain / peak)
    assert share * (1 + 1e-9) >= 2 and share < 4, "headroom, up to a power of two"
    read = built.read(found.value, output_bits=10, dtype="float64", device=parts).value
    step = found.value["x_fs"] / 511
    assert ((read - found.value["x"]).abs() <= step / 2 * (1 + 1e-9)).all()


def test_a_range_that_was_too_small_clips_and_then_grows() -> None:
    parts = Device(headroom=2.0)
    system = built.program(torch.eye(2), torch.tensor(1.0), input_bits=None, device=parts).value
    run = {"tau": 30.0, "kappa0": 0.0, "noise_seed": 0, "device": parts}
    peak, b = torch.tensor(0.1, dtype=torch.float64), torch.tensor([[4.0], [1.0]])
    ranges = []
    for _ in range(3):
        driven = built.convert(b, peak, bias_bits=None, device=parts).value
        found = built.settle(system, None, driven, **run)
        peak = found.value["peak"]
        ranges.append(float(driven.gain))
        assert float(found.value["x"].max()) == pytest.approx(min(2.0, 4 * ranges[-1]), rel=1e-6)
    assert ranges == pytest.approx([0.2, 0.4, 0.8])
    lost = built.convert(b, torch.tensor(torch.inf), bias_bits=None, device=parts).value
    assert lost.gain is None, "nothing is known of a solve that ran away"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from(["factor", "rows"]))
def test_a_column_of_zeros_takes_offsets_off(seed, n, form) -> None:
    """Exactly, where one range serves all columns; columns of zeros answer zero in any case."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(n + 1, n, generator=g, dtype=torch.float64)
    b = torch.randn(n, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 1e-3, 0.0])
    shift, peak = torch.tensor(0.3, dtype=torch.float64), torch.tensor(50.0, dtype=torch.float64)
    made = built.program if form == "factor" else built.program_roots
    held = rows.T @ rows if form == "factor" else rows
    answers = {}
    for offset, zero in ((0.0, False), (0.01, False), (0.01, True)):
        parts = Device(instance=seed, offset=offset, headroom=2.0, mismatch=0.05)
        run = {"device": parts, "auto_zero": zero}
        system = made(held, shift, input_bits=None, device=parts).value
        driven = built.convert(b, peak, bias_bits=None, **run).value
        times = {"tau": 4.0, "kappa0": 0.0, "noise_seed": 0}
        settled = built.settle(system, None, driven, **times, **run).value
        read = built.read(settled, output_bits=None, dtype="float64", **run).value
        answers[offset, zero] = read
        assert read.shape == (n, 3) and not bool(read[:, 2].any())
    exact = answers[0.0, False]
    torch.testing.assert_close(answers[0.01, True], exact, rtol=1e-8, atol=1e-10)
    assert float((answers[0.01, False] - exact).abs().max()) > 1e-6


def test_a_column_of_zeros_is_settled_and_read_as_any() -> None:
    spans = {}
    for zero in (False, True):
        machine = {"spus": {**IDEAL, "count": 1}}
        made = document({**KFAC, "auto_zero": zero}, machine=machine, steps=1)
        done, sink = execute(made, True, False)
        length = {
            kind: sum(r["end_ps"] - r["start_ps"] for r in sink.spans if r["kind"].startswith(kind))
            for kind in ("settle", "measure", "download")
        }
        spans[zero] = length, done.theta.value
    per_column_ps, pieces = 10 * 10**6, 4  # 10 RC; G and A of two layers
    assert spans[True][0]["settle"] - spans[False][0]["settle"] == pieces * per_column_ps
    assert spans[True][0]["measure"] > spans[False][0]["measure"]
    assert spans[True][0]["download"] == spans[False][0]["download"]
    torch.testing.assert_close(spans[True][1], spans[False][1], rtol=1e-5, atol=1e-6)
