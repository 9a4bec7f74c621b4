"""Levenberg-Marquardt damping: the rule of Martens & Grosse (2015, section 6.5), and its cost."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import assume, given
from hypothesis import settings as run
from hypothesis import strategies as st
from small_tasks import random_task
from torch import nn
from torch.nn import functional as F

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.ngd import direct
from hybridsim.algorithms.ngd.damping import adapt
from hybridsim.operations.count import count
from hybridsim.outcome import Outcome

SEEDS = st.integers(0, 2**31)
DAMPINGS = st.floats(1e-3, 1.0)
NGD = {"kind": "ngd", "learning_rate": 0.5, "damping": 0.1}
ALONE = {"link": None, "spus": None}


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def quadratic(seed):
    """A linear network under mse: its loss is its own quadratic model."""
    task, theta, batch = random_task(lambda: nn.Linear(4, 3), "mse", seed, (4,), (3,))
    return task, theta, batch, linearize(task, theta, batch, curvature="ggn").value


def adapted(task, theta, step, batch, damping):
    options = {"curvature": "ggn", "factor": 0.8}
    value, facts = adapt(task, theta, theta + step, batch, number(damping), **options)
    assert float(value) == float(facts["damping"])
    return float(value), float(facts["reduction_ratio"])


@run(max_examples=20)
@given(SEEDS, DAMPINGS)
def test_a_whole_step_on_a_quadratic_loss_does_better_than_foretold(seed, damping):
    """Then rho = 1 + lambda |d|^2/|g'd| and lambda falls: the model has the damping, the loss has
    none."""
    task, theta, batch, lin = quadratic(seed)
    step = -direct.cholesky(lin, number(damping)).value
    value, ratio = adapted(task, theta, step, batch, damping)
    expected = 1 + damping * step.square().sum() / (lin.gradient @ step).abs()
    assert ratio == pytest.approx(float(expected), rel=1e-6)
    assert value == pytest.approx(0.8 * damping)


@run(max_examples=20)
@given(SEEDS, DAMPINGS, st.floats(1.01, 3.0))
def test_lambda_follows_the_ratio(seed, damping, length):
    """The ratio of a longer step, by the explicit matrix; lambda by its three ranges."""
    task, theta, batch, lin = quadratic(seed)
    rooted = direct.rooted_jacobian(lin)
    step = -length * direct.cholesky(lin, number(damping)).value
    actual = lin.gradient @ step + (rooted @ step).square().sum() / 2
    predicted = actual + damping * step.square().sum() / 2
    assume(abs(predicted) > 1e-3 * abs(lin.gradient @ step))
    value, ratio = adapted(task, theta, step, batch, damping)
    assert ratio == pytest.approx(float(actual / predicted), rel=1e-6)
    trusted = predicted < 0
    expected = 0.8 if trusted and ratio > 0.75 else 1 if trusted and ratio >= 0.25 else 1 / 0.8
    assert value == pytest.approx(expected * damping)


@run(max_examples=10)
@given(SEEDS, DAMPINGS)
def test_a_step_uphill_raises_lambda_though_the_model_foretold_the_rise(seed, damping):
    task, theta, batch, lin = quadratic(seed)
    value, ratio = adapted(task, theta, 0.1 * lin.gradient, batch, damping)
    assert ratio > 0.75 and value == pytest.approx(damping / 0.8)


def test_a_loss_that_is_no_number_raises_lambda():
    task, theta, batch, _ = quadratic(0)
    value, ratio = adapted(task, theta, torch.full_like(theta, torch.nan), batch, 0.1)
    assert ratio != ratio and value == pytest.approx(0.1 / 0.8)


def reference(made, steps, every, decay, rate, damping):
    """Parameters and lambdas of a dense loop in float64, with derivatives by autograd alone."""
    task, theta, found = made.task, made.parameters().value, []

    def outputs(flat, x):
        return task.apply(task.layout.unflatten(flat), x)

    for step in range(1, steps + 1):
        x, y = made.batch(step).value
        jacobian = torch.autograd.functional.jacobian(lambda t, x=x: outputs(t, x), theta)
        p = outputs(theta, x).softmax(1)
        matrix = sum(
            j.T @ (torch.diag(q) - torch.outer(q, q)) @ j / len(x)
            for j, q in zip(jacobian, p, strict=True)
        )
        matrix += damping * torch.eye(len(theta), dtype=torch.float64)
        target = F.one_hot(y, p.shape[1])
        gradient = torch.einsum("icn,ic->n", jacobian, p - target) / len(x)
        moved = -rate * torch.linalg.solve(matrix, gradient)
        before, after = (F.cross_entropy(outputs(t, x), y) for t in (theta, theta + moved))
        if step % every == 0:
            ratio = (after - before) / (gradient @ moved + moved @ matrix @ moved / 2)
            damping *= decay**every if ratio > 0.75 else decay**-every if ratio < 0.25 else 1
        theta = theta + moved
        found.append(damping)
    return theta, found


@pytest.mark.parametrize("every", [1, 2])
@run(max_examples=2)
@given(seed=st.integers(0, 1000), rate=st.floats(0.5, 1.5))
def test_training_follows_a_dense_loop(every, seed, rate):
    rule = {"every": every, "decay": 0.7}
    common = {"seed": seed, "precision": "float64", "machine": ALONE, "steps": 5}
    iterative = {"method": "cg", "tolerance": 1e-13, "iterations": 300}
    expected = None
    for method in ({"method": "cholesky"}, {"method": "woodbury"}, iterative):
        algorithm = {**NGD, **method, "learning_rate": rate, "levenberg_marquardt": rule}
        made, sink = execute(document(algorithm, **common))
        expected = expected or reference(made, 5, every, 0.7, rate, 0.1)
        theta, dampings = expected
        assert (made.theta.value - theta).norm() <= 1e-8 * (theta - made.parameters().value).norm()
        shown = {row["step"]: row["damping"] for row in sink.steps if "damping" in row}
        assert shown == pytest.approx(
            {step: value for step, value in enumerate(dampings, 1) if step % every == 0}, rel=1e-6
        )


def forward(task, theta, batch):
    return Outcome(task.apply(task.layout.unflatten(theta), batch[0]))


def test_the_ratio_costs_a_forward_pass_beside_the_models_and_is_priced():
    rule = {"every": 2, "decay": 0.9}
    algorithm = {**NGD, "levenberg_marquardt": rule}
    made, sink = execute(document(algorithm, machine=ALONE, steps=5), live=False)
    spans = [s for s in sink.spans if s["kind"] == "adapt damping"]
    assert [s["step"] for s in spans] == [2, 4]
    operands = (made.task, made.parameters().value, made.batch(1).value)
    alone = count(forward, operands, {})[0]
    size = made.task.layout.size
    # tangents are another pass, with two products for each layer but the first
    assert 3 * alone.flop <= spans[0]["flop"] <= 4 * alone.flop + 20 * size
    assert spans[0]["energy_j"] > 0
