"""Inverses by Newton–Schulz and by Cholesky, one by one and batched: algebra, then whole runs."""

from __future__ import annotations

import math

import pytest
import torch
from forbid import NoSolver
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_program import CONVOLUTION, DENSE, relative, train

import hybridsim
from hybridsim.algorithms.kfac.inverses import begin, cholesky_inverses, iterate, resume
from hybridsim.errors import InputError
from hybridsim.operations.arithmetic import Arithmetic
from hybridsim.operations.count import count
from hybridsim.operations.rounding import rounding

seeds = st.integers(0, 2**31)
DIGITAL = {"method": "digital"}
EXACT = {"kind": "newton_schulz", "tolerance": 1e-11, "iterations": 200}


def spd(seed, sizes, kappa, dtype=torch.float64):
    """Random matrices with eigenvalues from 1 to 1/kappa, evenly spread in the logarithm."""
    generator, found = torch.Generator().manual_seed(seed), []
    for n in sizes:
        q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
        found.append((q * torch.logspace(0, -math.log10(kappa), n, dtype=torch.float64)) @ q.T)
    return [matrix.to(dtype) for matrix in found]


def error(found, matrix):
    exact = matrix.double().inverse()
    return float((found.double() - exact).norm() / exact.norm())


def forty_iterations(matrix):
    state = begin(matrix)
    for _ in range(40):
        state = iterate(state.value)
    return state


@given(seeds, st.integers(1, 3), st.integers(1, 20), st.floats(1, 1e3))
def test_the_residual_is_squared_by_every_iteration(seed, number, n, kappa):
    """R <- -R²: the closed form, from I / ‖A‖_F on; and the fact is ‖A X - I‖_F/√n of the worst."""
    matrices = spd(seed, [n] * number, kappa)
    stacked, identity = torch.stack(matrices), torch.eye(n, dtype=torch.float64)
    state = begin(*matrices)
    expected = stacked / stacked.flatten(1).norm(dim=1)[:, None, None] - identity
    for _ in range(4):
        assert torch.allclose(state.value.r, expected, atol=1e-12)
        residual = (stacked @ state.value.x - identity).flatten(1).norm(dim=1).max() / n**0.5
        assert float(state.facts["residual"]) == pytest.approx(float(residual), abs=1e-12)
        expected, state = -expected @ expected, iterate(state.value)


@settings(max_examples=8)
@given(seeds, st.sampled_from([30, 64]), st.sampled_from([1e3, 1e4]))
def test_the_error_in_single_precision_is_that_of_the_condition(seed, n, kappa):
    """1e-5 to 1e-4 at κ = 1e3 to 1e4, in proportion to κ; Cholesky's is alike."""
    (matrix,) = spd(seed, [n], kappa, torch.float32)
    state = forty_iterations(matrix)
    expected = 1e-8 * kappa
    assert expected / 5 < error(state.value.x[0], matrix) < 5 * expected
    assert error(state.value.x[0], matrix) < 10 * error(
        cholesky_inverses(matrix, damping=0.0).value[0], matrix
    )


@settings(max_examples=8)
@given(seeds, st.sampled_from([30, 64]), st.sampled_from([1e2, 1e3, 1e4]))
def test_the_error_in_tf32_is_a_thousand_times_that(seed, n, kappa):
    """1e-2 to 1e-1 at κ = 1e3 to 1e4: operands are rounded to 2^-11 in place of 2^-24. What remains
    as residual says so."""
    (matrix,) = spd(seed, [n], kappa, torch.float32)
    with rounding(Arithmetic(tf32_matmul=True)):
        state = forty_iterations(matrix)
    found, expected = error(state.value.x[0], matrix), 1.5e-5 * kappa
    assert expected / 5 < found < 5 * expected
    assert found / 3 < float(state.facts["residual"]) < 10 * found


@given(seeds, st.integers(1, 3), st.integers(1, 12), st.floats(1, 100))
def test_batched_inverses_are_the_single_ones(seed, number, n, kappa):
    matrices = spd(seed, [n] * number, kappa)
    together = cholesky_inverses(*matrices, damping=0.1).value
    for one, matrix in zip(together, matrices, strict=True):
        alone = cholesky_inverses(matrix, damping=0.1).value[0]
        assert (one - alone).norm() <= 1e-12 * alone.norm()
        assert error(one, matrix) < 1e-11


@given(seeds, st.floats(0, 0.5), st.integers(2, 12))
def test_only_an_inverse_that_still_contracts_is_resumed(seed, change, n):
    """Each matrix of a batch for itself: A near the old one goes on, one far away starts anew."""
    assume(abs(change * n**0.5 - 1) > 1e-6)
    near, far = spd(seed, [n, n], 10.0)
    old = torch.stack([near.inverse(), near.inverse()])
    moved = near * (1 + change)
    state = resume(old, moved, 50 * far)
    contracts = change * n**0.5 < 1
    fresh = begin(moved, 50 * far).value
    assert torch.equal(state.value.x[0], old[0] if contracts else fresh.x[0])
    assert torch.allclose(state.value.x[1], fresh.x[1])
    for _ in range(60):
        state = iterate(state.value)
    assert error(state.value.x[0], moved) < 1e-10 and error(state.value.x[1], 50 * far) < 1e-10


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(1, 30))
def test_an_iteration_costs_two_products(number, n):
    state = begin(*spd(0, [n] * number, 10.0)).value
    work, _ = count(iterate, (state,), {})
    products = [kernel for kernel in work.kernels if kernel.matrix]
    assert sum(kernel.flop * kernel.count for kernel in products) == 2 * number * 2 * n**3
    assert sum(kernel.count for kernel in products) == 2


def test_a_matrix_without_an_inverse_asks_for_damping():
    singular = torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="enough damping for factors of order 3 in float64"):
        cholesky_inverses(singular, singular, damping=1e-30)


# ---------------------------------------------------------------- runs

WAYS = {
    "newton-schulz": EXACT,
    "cold": {**EXACT, "warm_start": False},
    "batched": {"batched": True},
    "both": {**EXACT, "batched": True},
}


@pytest.mark.parametrize("changes", [{}, {"stale": True, "inverses_every": 2}])
@pytest.mark.parametrize("workload", [DENSE, CONVOLUTION])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_invert_trains_alike(way, workload, changes):
    digital, _ = train(DIGITAL | changes, workload=workload)
    made, sink = train(DIGITAL | changes | {"inversion": WAYS[way]}, workload=workload)
    limit = 1e-11 if way == "batched" else 1e-8
    assert relative(made.theta.value, digital.theta.value, made.parameters().value) < limit
    assert not [event for event in sink.events if event.kind == "fallback"]


def test_newton_schulz_needs_no_solver_and_fewer_iterations_when_warm():
    with NoSolver():
        slow = DIGITAL | {"ema": 0.95}
        _, cold = train(slow | {"inversion": {**EXACT, "warm_start": False}}, batch_size=32)
        _, warm = train(slow | {"inversion": EXACT}, batch_size=32)
    taken = [[line["inverse_iterations"] for line in sink.steps] for sink in (cold, warm)]
    assert taken[0][0] == taken[1][0] and 2 * sum(taken[1]) < sum(taken[0])
    for line in warm.steps:
        assert 0 < line["inverse_residual"] <= EXACT["tolerance"]
        assert line["inverse_fallbacks"] == 0


def test_what_does_not_converge_in_time_is_inverted_by_cholesky_and_said():
    """Counted, priced after the iterations that were in vain, and the result is Cholesky's."""
    digital, _ = train(DIGITAL)
    slow = {"kind": "newton_schulz", "iterations": 2, "warm_start": False, "tolerance": 1e-6}
    made, sink = train(DIGITAL | {"inversion": slow})
    assert relative(made.theta.value, digital.theta.value, made.parameters().value) < 1e-8
    kinds = [span["kind"] for span in sink.spans]
    fallbacks = [event for event in sink.events if event.kind == "fallback"]
    assert len(fallbacks) == sum(line["inverse_fallbacks"] for line in sink.steps) > 0
    assert sum(kind.startswith("invert") for kind in kinds) == len(fallbacks)
    assert all(event.value > 1e-6 and event.layer for event in fallbacks)


def test_iterations_end_where_rounding_does_not_let_the_residual_fall():
    out_of_reach = {"kind": "newton_schulz", "tolerance": 1e-12, "iterations": 1000}
    _, sink = train(DIGITAL | {"inversion": out_of_reach}, precision="float32", steps=3)
    assert all(line["inverse_iterations"] < 60 for line in sink.steps)
    assert all(line["inverse_fallbacks"] > 0 for line in sink.steps)


@pytest.mark.parametrize("kind", ["cholesky", "newton_schulz"])
def test_blocks_wait_for_their_batch(kind):
    """Equal orders on one GPU are one operation, which starts when the last factor is damped."""
    workload = {"source": "digits_mlp", "options": {"hidden": 5, "depth": 3}}
    inversion = {"kind": kind, "batched": True}
    made, sink = train(DIGITAL | {"inversion": inversion}, workload=workload, steps=2)
    first = "invert" if kind == "cholesky" else "Newton-Schulz start"
    batches = [s for s in sink.spans if s["step"] == 2 and s["kind"].startswith(first)]
    # A of orders 65, 6, 6, 6 and G of orders 5, 5, 5, 10
    assert sorted(span["layer"] for span in batches)[:2] == ["", ""] and len(batches) == 4
    damped = [s["end_ps"] for s in sink.spans if s["step"] == 2 and s["kind"] == "damping"]
    together = [span for span in batches if not span["layer"]]
    assert len(damped) == 4 and all(s["start_ps"] >= max(damped) for s in together[-1:])
    producers = {span["id"]: span["kind"] for span in sink.spans}
    for span in together:
        assert sum(producers[p] == "damping" for p in span["parents"]) >= 3


def test_each_gpu_inverts_the_factors_of_its_own_blocks():
    workload = {"source": "digits_mlp", "options": {"hidden": 5, "depth": 4}}
    inversion = {"kind": "newton_schulz", "batched": True, "tolerance": 1e-11}
    several = {"gpu": {"part": "a100-sxm4-80gb", "count": 2, "interconnect": "nvlink3"}}
    alone, _ = train(DIGITAL | {"inversion": inversion}, workload=workload)
    made, sink = train(DIGITAL | {"inversion": inversion}, workload=workload, machine=several)
    assert relative(made.theta.value, alone.theta.value, made.parameters().value) < 1e-8
    starts = [s for s in sink.spans if s["step"] == 2 and "start" in s["kind"]]
    damped = {s["layer"]: s["part"] for s in sink.spans if s["kind"] == "damping"}
    assert len(set(damped.values())) == 2
    producers = {span["id"]: span for span in sink.spans}
    for span in starts:
        of = [producers[p] for p in span["parents"] if producers[p]["kind"] == "damping"]
        assert of and {one["part"] for one in of} == {span["part"]}


def test_without_numbers_all_iterations_are_priced():
    inversion = {"kind": "newton_schulz", "iterations": 7}
    _, sink = train(DIGITAL | {"inversion": inversion}, live=False, steps=2)
    assert not any("inverse_residual" in line for line in sink.steps)
    found = [s for s in sink.spans if s["kind"].startswith("Newton-Schulz ") and s["step"] == 2]
    assert sum("start" not in span["kind"] for span in found) == 7 * 4  # A and G of two layers


def test_eigendecompositions_are_not_inverted():
    document = {
        "extends": "kfac-digits-digital",
        "training": {"algorithm": {"damping_rule": "exact", "inversion": "newton_schulz"}},
    }
    with pytest.raises(InputError, match=r"damping_rule: expected plain or pi .*, got 'exact'"):
        hybridsim.load(document)


def test_in_tf32_tight_tolerances_end_in_cholesky():
    """Cholesky stays in FP32, so what falls back is as exact as a run without rounding."""
    document = {"inversion": {"kind": "newton_schulz", "tolerance": 1e-5}, "damping": 1e-3}
    runs = {
        tf32: train(DIGITAL | document, precision="float32", steps=3, tf32={"matmul": tf32})[1]
        for tf32 in (False, True)
    }
    fallbacks = {
        tf32: sum(s["inverse_fallbacks"] for s in sink.steps) for tf32, sink in runs.items()
    }
    assert fallbacks[True] > fallbacks[False]
