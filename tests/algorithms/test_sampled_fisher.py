"""The sampled Fisher: in the mean over labels it is the GGN, and both programs solve its system."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev

import hybridsim
from hybridsim.algorithms.natural_gradient import sampled_fisher as module
from hybridsim.algorithms.natural_gradient.exact import natural_gradient
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.natural_gradient.sampled_fisher import sampled_fisher
from hybridsim.algorithms.ngd.direct import cholesky, woodbury
from hybridsim.errors import InputError
from hybridsim.rng import Draw
from hybridsim.scenario.unused import unused_fields
from hybridsim.tasks.task import Data, Workload, as_task

SEEDS = st.integers(0, 10_000)
SAMPLED = {"curvature": "sampled_fisher", "fisher_samples": 3}
TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, **SAMPLED}


def small(loss: str, seed: int, terms: tuple[int, ...] = (), size: int = 4):
    """A dense network in float64; its batch is the training data. Outputs (b, *terms, 3)."""
    generator = torch.Generator().manual_seed(seed)
    x, shape = torch.randn(size, 5, generator=generator), (*terms, 3)
    classes = torch.randint(3, (size, *terms), generator=generator)
    y = classes if loss == "cross_entropy" else torch.randn(size, *shape, generator=generator)
    count = torch.Size(shape).numel()

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, count), nn.Unflatten(1, shape)
        )

    task = as_task("small", Workload(network, Data(x, y, x, y), loss)).to("cpu", torch.float64)
    return task, task.initial_parameters(seed), (task.data.train_x, task.data.train_y)


def ggn(task, theta, data):
    lin = linearize(task, theta, data).value
    blocks = lin.jacobian.reshape(*lin.residual.shape, -1)
    return torch.einsum("icn,icd,idm->nm", blocks, lin.hessian, blocks) / len(blocks)


@settings(max_examples=3)
@given(seed=SEEDS, terms=st.sampled_from([(), (2,)]))
def test_the_mean_over_all_labels_is_the_ggn(seed, terms):
    """Exactly: every label of every term with its probability, by the numbers it is drawn with."""
    task, theta, data = small("cross_entropy", seed, terms)
    size, found = len(data[0]), 0.0
    p = linearize(task, theta, data).value.probabilities.reshape(size, task.terms, 3)
    before = p.cumsum(dim=-1) - p
    given_numbers = module.random_numbers
    try:
        for labels in product(range(3), repeat=task.terms):
            chosen = torch.tensor(labels).expand(size, -1)[..., None]
            middle = (before + p / 2).gather(-1, chosen)[..., 0].reshape(1, size, *terms)
            module.random_numbers = lambda *_, middle=middle: middle
            lin = sampled_fisher(task, theta, data, Draw(0, 0, size), samples=1).value
            weight = p.gather(-1, chosen)[..., 0].prod(dim=-1)
            found = found + lin.jacobian.T @ (weight[:, None] * lin.jacobian) / lin.size
    finally:
        module.random_numbers = given_numbers
    torch.testing.assert_close(found, ggn(task, theta, data), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("terms", [(), (2, 3)])
def test_many_draws_come_near_to_it(loss, terms):
    """Within four standard errors, in the trace and along a fixed direction."""
    task, theta, data = small(loss, 7, terms)
    samples, size = 4000, len(data[0])
    lin = sampled_fisher(task, theta, data, Draw(3, 0, size), samples=samples).value
    assert lin.jacobian.shape == (size * samples, task.layout.size) and lin.hessian is None
    exact, rows = ggn(task, theta, data), lin.jacobian
    direction = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    for draws, expected in (
        (rows.square().sum(dim=1), exact.trace()),
        ((rows @ direction).square(), direction @ exact @ direction),
    ):
        error = draws.reshape(size, samples).std(dim=1).norm() / size / samples**0.5
        assert abs(draws.mean() - expected) <= 4 * error
    assert lin.gradient == pytest.approx(linearize(task, theta, data).value.gradient, abs=1e-12)


@given(seed=SEEDS)
@settings(max_examples=5)
def test_a_row_is_the_loss_gradient_at_a_label(seed):
    """Of some label; and shares of a batch draw as the whole does."""
    task, theta, (x, y) = small("cross_entropy", seed)
    lin = sampled_fisher(task, theta, (x, y), Draw(seed, 0, 4), samples=2).value
    network = task.workload.network().double()

    def losses(parameters):
        z = functional_call(network, task.layout.unflatten(parameters), (x,))
        return -torch.log_softmax(z, dim=-1)

    every = jacrev(losses)(theta)  # (b, labels, N)
    for example in range(4):
        for row in lin.jacobian[2 * example : 2 * example + 2]:
            distances = (every[example] - row).norm(dim=1)
            assert distances.min() <= 1e-10 * row.norm()
    halves = [
        sampled_fisher(task, theta, (x[s], y[s]), Draw(seed, s.start, 4), samples=2).value
        for s in (slice(0, 2), slice(2, 4))
    ]
    joined = torch.cat([half.jacobian for half in halves])
    torch.testing.assert_close(joined, lin.jacobian, rtol=1e-10, atol=1e-12)


@given(seed=SEEDS, damping=st.floats(0.01, 1.0))
@settings(max_examples=6)
def test_all_solvers_solve_the_same_system(seed, damping):
    task, theta, data = small("cross_entropy", seed)
    lin = sampled_fisher(task, theta, data, Draw(seed, 0, 4), samples=2).value
    matrix = lin.jacobian.T @ lin.jacobian / 8 + damping * torch.eye(len(theta)).double()
    expected = torch.linalg.solve(matrix, lin.gradient)
    given_damping = torch.tensor(damping, dtype=torch.float64)
    for found in (
        natural_gradient(lin, damping=damping),
        cholesky(lin, given_damping).value,
        woodbury(lin, given_damping).value,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_an_spu_settles_to_the_solution_and_ngd_agrees():
    """The gradient lies outside of what the rows span; numbers are drawn by seed and step alone."""
    thermal, memory = execute(document({**TNGD, "settle": "10000 tau"}))
    digital, _ = execute(document({"kind": "ngd", "method": "woodbury", "damping": 0.1, **SAMPLED}))
    moved = digital.theta.value - digital.parameters().value
    assert (thermal.theta.value - digital.theta.value).norm() <= 1e-4 * moved.norm()
    assert memory.steps[-1]["solver_relative_error"] <= 1e-4
    plain, _ = execute(document({**TNGD, "settle": "0 tau"}))
    sgd, _ = execute(document({"kind": "sgd", "learning_rate": 0.1}))
    torch.testing.assert_close(plain.theta.value, sgd.theta.value, rtol=1e-5, atol=1e-6)


def test_its_circuit_has_no_h_array():
    made, memory = execute(document({**TNGD, "fisher_samples": 2}, steps=1), live=False)
    assert made.machine.spus[0].load.resistors == 2 * (4 * 2) * made.task.layout.size
    assert not [span for span in memory.spans if span["kind"] == "upload hessian"]


def test_what_does_not_go_with_it():
    ngd = {"kind": "ngd", "curvature": "sampled_fisher"}
    with pytest.raises(InputError, match="method: expected cholesky or woodbury"):
        hybridsim.load(document({**ngd, "method": "cg"}))
    with pytest.raises(InputError, match="levenberg_marquardt: expected none"):
        hybridsim.load(document({**ngd, "method": "woodbury", "levenberg_marquardt": {}}))
    for kind in ("ngd", "tngd"):
        given_samples = hybridsim.load(document({"kind": kind, "fisher_samples": 2}))
        assert "training.algorithm.fisher_samples" in unused_fields(given_samples)
