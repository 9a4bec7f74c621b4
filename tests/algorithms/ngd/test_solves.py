"""Cholesky, Woodbury, conjugate gradients at convergence, and an SPU at rest give one answer."""

from __future__ import annotations

import math

import pytest
import torch
from harness import document, execute, session
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from small_tasks import random_task
from torch import nn

from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.loop import train
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.ngd import conjugate_gradients, direct, program
from hybridsim.algorithms.ngd.program import Ngd
from hybridsim.errors import InputError

LOSSES = st.sampled_from(["cross_entropy", "mse"])
CURVATURES = st.sampled_from(["ggn", "empirical_fisher"])
SEEDS = st.integers(0, 10_000)
DAMPINGS = st.floats(1e-3, 1.0)
NGD = {"kind": "ngd", "learning_rate": 0.3, "damping": 0.1}
CG = {**NGD, "method": "cg", "iterations": 400, "tolerance": 1e-13}
ALONE = {"link": None, "spus": None}


def network():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def converged(task, theta, batch, damping, gradient, curvature, most=400):
    """The iterate at which the recurrence's residual is rounding."""
    system = (task, theta, batch, damping)
    state, facts = conjugate_gradients.start(gradient)
    for _ in range(most):
        if facts["residual"] < 1e-14:
            break
        state, facts = conjugate_gradients.iterate(*system, state, curvature=curvature)
        assert facts["curvature"] >= damping * (1 - 1e-9)
    return state


@run(max_examples=25)
@given(LOSSES, CURVATURES, SEEDS, DAMPINGS)
def test_woodbury_is_cholesky_is_cg_at_convergence(loss, curvature, seed, damping):
    task, theta, batch = random_task(network, loss, seed, (4,), (3,))
    lin, shift = linearize(task, theta, batch, curvature=curvature).value, number(damping)
    exact = direct.cholesky(lin, shift).value
    other = direct.woodbury(lin, shift).value
    state = converged(task, theta, batch, shift, lin.gradient, curvature)
    for found in (other, state.solution):
        assert (found - exact).norm() <= 1e-8 * exact.norm()


@run(max_examples=10)
@given(LOSSES, CURVATURES, SEEDS, DAMPINGS)
def test_the_answer_solves_the_explicit_system(loss, curvature, seed, damping):
    """An LU solve of a matrix that is summed example by example."""
    task, theta, batch = random_task(network, loss, seed, (4,), (3,))
    lin = linearize(task, theta, batch, curvature=curvature).value
    matrix = damping * torch.eye(len(theta), dtype=torch.float64)
    if lin.hessian is None:
        matrix += lin.jacobian.T @ lin.jacobian / len(lin.jacobian)
    else:
        hessians = torch.block_diag(*lin.hessian)
        matrix += lin.jacobian.T @ hessians @ lin.jacobian / len(lin.hessian)
    expected = torch.linalg.solve(matrix, lin.gradient)
    for solve in (direct.cholesky, direct.woodbury):
        found = solve(lin, number(damping)).value
        assert (found - expected).norm() <= 1e-8 * expected.norm()


@run(max_examples=10)
@given(LOSSES, CURVATURES, SEEDS)
def test_iterates_are_those_of_textbook_cg(loss, curvature, seed):
    """Minimisers over Krylov spaces: x_k = V (Vᵀ A V)⁻¹ Vᵀ g, V an orthonormal basis of g, A g, ...
    A^(k-1) g."""
    task, theta, batch = random_task(network, loss, seed, (4,), (3,))
    lin, shift = linearize(task, theta, batch, curvature=curvature).value, number(0.1)
    rooted = direct.rooted_jacobian(lin)
    matrix = rooted.T @ rooted + 0.1 * torch.eye(len(theta), dtype=torch.float64)
    state = conjugate_gradients.start(lin.gradient).value
    powers = [lin.gradient / lin.gradient.norm()]
    for _ in range(3):
        basis = torch.linalg.qr(torch.stack(powers, dim=1)).Q
        inner = torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ lin.gradient)
        system = (task, theta, batch, shift, state)
        state, facts = conjugate_gradients.iterate(*system, curvature=curvature)
        expected = basis @ inner
        assert (state.solution - expected).norm() <= 1e-7 * expected.norm()
        residual = lin.gradient - matrix @ state.solution
        assert facts["residual"] == pytest.approx(
            float(residual.norm() / lin.gradient.norm()), rel=1e-5, abs=1e-11
        )
        powers.append(matrix @ powers[-1] / (matrix @ powers[-1]).norm())


@run(max_examples=10)
@given(LOSSES, CURVATURES, SEEDS)
def test_a_warm_start_has_the_residual_of_where_it_starts(loss, curvature, seed):
    task, theta, batch = random_task(network, loss, seed, (4,), (3,))
    lin, shift = linearize(task, theta, batch, curvature=curvature).value, number(0.1)
    exact = direct.cholesky(lin, shift).value
    system = (task, theta, batch, shift, lin.gradient)
    found = conjugate_gradients.resume(*system, exact, curvature=curvature)
    assert found.facts["residual"] <= 1e-12
    cold = conjugate_gradients.resume(*system, torch.zeros_like(theta), curvature=curvature)
    torch.testing.assert_close(cold.value, conjugate_gradients.start(lin.gradient).value)


def test_a_zero_gradient_is_solved_before_it_begins():
    assert conjugate_gradients.start(torch.zeros(3)).facts["residual"] == 0


@run(max_examples=4)
@given(SEEDS, CURVATURES)
def test_all_methods_train_alike_and_as_an_spu_at_rest(seed, curvature):
    """Three steps in float64; the SPU settles for 10^6 RC."""
    common = {"seed": seed, "precision": "float64"}
    spu = {"kind": "tngd", "learning_rate": 0.3, "damping": 0.1, "settle": "1000000 tau"}
    made, _ = execute(document({**spu, "curvature": curvature}, **common))
    rest, start = made.theta.value, made.parameters().value
    for algorithm in ({**NGD, "method": "cholesky"}, {**NGD, "method": "woodbury"}, CG):
        made, sink = execute(
            document({**algorithm, "curvature": curvature}, machine=ALONE, **common)
        )
        assert (made.theta.value - rest).norm() <= 1e-8 * (rest - start).norm()
        assert not sink.events


@pytest.mark.parametrize("update", ["sgd", "adam", "nesterov", "muon"])
def test_the_direction_is_handed_to_any_optimizer(update):
    common = {"update": update, "learning_rate": 0.02}
    found = {
        kind: execute(document({**settings, **common}, machine=machine, precision="float64"))[0]
        for kind, settings, machine in (
            ("woodbury", NGD, ALONE),
            ("cg", CG, ALONE),
            ("spu", {"kind": "tngd", "damping": 0.1, "settle": "1000000 tau"}, {}),
        )
    }
    rest = found["spu"].theta.value
    moved = (rest - found["spu"].parameters().value).norm()
    for kind in ("woodbury", "cg"):
        assert (found[kind].theta.value - rest).norm() <= 1e-6 * moved


@pytest.mark.parametrize("method", ["cholesky", "woodbury"])
def test_a_system_without_a_factor_ends_in_one_line(method):
    algorithm = {**NGD, "method": method, "damping": 1e-30}
    with pytest.raises(InputError, match=r"training.algorithm.damping: expected enough damping"):
        execute(document(algorithm, machine=ALONE, batch_size=32, steps=60))


# ---------------------------------------------------------------- the loop of iterations


def iterations(sink, step):
    return [s for s in sink.spans if s["kind"] == "cg iteration" and s["step"] == step]


@run(max_examples=5)
@given(SEEDS, st.sampled_from([1e-1, 1e-3, 1e-6]))
def test_every_iteration_is_a_computation_and_the_last_one_is_at_the_tolerance(seed, tolerance):
    algorithm = {**CG, "tolerance": tolerance}
    made, sink = execute(document(algorithm, machine=ALONE, seed=seed, precision="float64"))
    for row in sink.steps:
        assert row["cg_residual"] <= tolerance
        assert row["cg_iterations"] == len(iterations(sink, row["step"]))
    shorter = max(row["cg_iterations"] for row in sink.steps) - 1
    _, cut = execute(
        document({**algorithm, "iterations": shorter}, machine=ALONE, seed=seed,
                 precision="float64")
    )  # fmt: skip
    assert max(row["cg_residual"] for row in cut.steps) > tolerance
    assert max(row["cg_iterations"] for row in cut.steps) == shorter


def test_where_nothing_is_computed_a_solve_takes_all_iterations():
    algorithm = {**CG, "iterations": 7}
    _, sink = execute(document(algorithm, machine=ALONE, steps=3), live=False)
    assert [len(iterations(sink, step)) for step in (1, 2, 3)] == [7, 7, 7]


def test_a_warm_start_takes_fewer_iterations_on_the_same_batch():
    """All examples in every batch, at parameters that hardly move: the last solution is nearly that
    of this step."""
    common = {"machine": ALONE, "batch_size": 1500, "steps": 4, "precision": "float64"}
    taken = {}
    for warm in (False, True):
        algorithm = {**CG, "learning_rate": 1e-3, "tolerance": 1e-2, "warm_start": warm}
        _, sink = execute(document(algorithm, **common))
        taken[warm] = [row["cg_iterations"] for row in sink.steps]
    assert taken[True][0] == taken[False][0]
    assert sum(taken[True][1:]) < sum(taken[False][1:]) / 2


def damped(value, algorithm):
    """One step at a damping that the schema forbids."""
    made, sink = session(document(algorithm, machine=ALONE, steps=1, precision="float64"))
    ngd = Ngd(made)
    ngd.damping = made.backend.root(number(value), "damping", value)
    env = made.machine.context.env
    env.run(env.process(train(ngd)))
    made.trace.close()
    return made, sink


def test_an_indefinite_system_is_an_event_and_the_best_iterate_is_taken():
    """Curvature along a search direction is not positive: the iterate with the smallest residual
    before that moves the parameters."""
    damping = -0.05
    made, sink = damped(damping, CG)
    (event,) = sink.events
    assert (event.kind, event.part, event.step) == ("cg breakdown", "gpu0", 1)
    assert event.value <= 0 and "the iterate with the smallest residual is taken" in event.note
    theta, task = made.parameters().value, made.task
    system = (task, theta, made.batch(1).value, number(damping))
    state = conjugate_gradients.start(gradient(*system[:3]).value)
    tried = [state]
    while len(tried) == 1 or tried[-1].facts["curvature"] > 0:
        tried.append(conjugate_gradients.iterate(*system, tried[-1].value, curvature="ggn"))
    assert sink.steps[0]["cg_iterations"] == len(tried) - 1 > 2
    best = min(tried[:-1], key=lambda found: found.facts["residual"])
    assert sink.steps[0]["cg_residual"] == pytest.approx(float(best.facts["residual"]))
    torch.testing.assert_close(made.theta.value, theta - 0.3 * best.value.solution)


def test_numbers_that_are_not_finite_leave_the_parameters_where_they_are():
    made, sink = damped(math.nan, CG)
    assert [event.kind for event in sink.events] == ["cg breakdown"]
    assert sink.steps[0]["cg_iterations"] == 1 and sink.steps[0]["cg_residual"] == 1
    assert torch.equal(made.theta.value, made.parameters().value)


def test_a_residual_that_grows_without_bound_is_an_event(monkeypatch):
    monkeypatch.setattr(program, "_MOST_GROWTH", 0.0)
    made, sink = damped(0.1, CG)
    assert [event.kind for event in sink.events] == ["cg divergence"]
    assert torch.equal(made.theta.value, made.parameters().value)
