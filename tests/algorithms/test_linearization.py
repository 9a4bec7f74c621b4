from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, hessian, jacrev

from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.natural_gradient.linearization import (
    Linearization,
    linearize,
    out_of_range,
    range_coordinates,
)
from hybridsim.tasks.task import Data, Workload, as_task, batch_loss


def small_task(loss, seed, terms=None, size=5, outputs=3, dtype=torch.float32):
    """A small CNN with random data; its batch is the training data. Outputs (b, 3), or (b, terms,
    3)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, 5, 5, generator=generator)
    places = () if terms is None else (terms,)
    labels = torch.randint(outputs, (size, *places), generator=generator)
    y = (
        labels
        if loss == "cross_entropy"
        else torch.randn(size, *places, outputs, generator=generator)
    )

    def network():
        return nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2, 4),
            nn.Tanh(),
            nn.Linear(4, (terms or 1) * outputs),
            nn.Unflatten(1, (*places, outputs)),
        )

    task = as_task("small", Workload(network, Data(x, y, x, y), loss)).to("cpu", dtype)
    return task, task.initial_parameters(seed), (task.data.train_x, task.data.train_y)


def doubled(task):
    """z(theta, x) in float64, for references."""
    network = task.workload.network().double()

    def outputs(theta, x):
        return functional_call(network, task.layout.unflatten(theta), (x.double(),))

    return outputs


def close(found, expected, tolerance=2e-6):
    scale = expected.abs().max().clamp(min=1e-30)
    assert (found.double() - expected).abs().max() <= tolerance * scale


def rooted(lin, root):
    """J̃ = blockdiag(rootᵀ) J/√b as a dense float64 matrix."""
    size, outputs = lin.residual.shape
    if root is None:
        return lin.jacobian.double() / len(lin.jacobian) ** 0.5
    blocks = lin.jacobian.double().reshape(size, outputs, -1)
    return (root.mT @ blocks).reshape(size * outputs, -1) / size**0.5


cases = st.tuples(
    st.sampled_from(["cross_entropy", "mse"]), st.integers(0, 2**31), st.none() | st.integers(1, 4)
)  # loss, seed, positions


@settings(deadline=None, max_examples=15)
@given(cases)
def test_gradient_and_linearization_against_float64_autograd(case):
    task, theta, batch = small_task(*case)
    outputs, (x, y) = doubled(task), batch
    y64 = y.double() if task.loss == "mse" else y

    def mean_loss(t):
        return batch_loss(task.loss, outputs(t, x), y64)

    expected = jacrev(mean_loss)(theta.double())
    close(gradient(task, theta, batch).value, expected, 1e-5)
    lin, facts = linearize(task, theta, batch, curvature="ggn")
    close(lin.gradient, expected, 1e-5)
    close(
        lin.jacobian,
        jacrev(lambda t: outputs(t, x))(theta.double()).reshape(len(x) * task.terms * 3, -1),
    )
    z = outputs(theta.double(), x).reshape(-1, 3)
    targets = y64.reshape(-1, 3) if task.loss == "mse" else y.flatten()
    blocks = torch.stack(
        [
            hessian(lambda v, i=i: batch_loss(task.loss, v[None], targets[i : i + 1]))(z[i])
            for i in range(len(z))
        ]
    )
    close(lin.hessian, blocks, 1e-5)
    assert torch.isclose(facts["train_loss"].double(), mean_loss(theta.double()), rtol=1e-5)
    one = gradient(task, theta, batch).facts["train_loss"].double()
    assert torch.isclose(facts["train_loss"], one, rtol=1e-6)


@settings(deadline=None, max_examples=10)
@given(cases)
def test_empirical_fisher_rows_are_the_examples_own_gradients(case):
    task, theta, (x, y) = small_task(*case)
    lin, facts = linearize(task, theta, (x, y), curvature="empirical_fisher")
    assert lin.hessian is None and lin.jacobian.shape == (len(x), task.layout.size)
    for i, row in enumerate(lin.jacobian):
        alone = gradient(task, theta, (x[i : i + 1], y[i : i + 1]))
        close(row, alone.value.double(), 1e-5)
    close(lin.gradient, gradient(task, theta, (x, y)).value.double(), 1e-5)
    assert torch.isclose(
        facts["train_loss"].double(), gradient(task, theta, (x, y))[1]["train_loss"].double()
    )


@settings(deadline=None, max_examples=15)
@given(cases, st.sampled_from(["ggn", "empirical_fisher"]))
def test_root_and_coordinates_give_curvature_and_gradient(case, curvature):
    task, theta, batch = small_task(*case)
    lin = linearize(task, theta, batch, curvature=curvature).value
    root, beta = range_coordinates(lin)
    wide, size = rooted(lin, root), lin.size
    assert size == len(batch[0]) * (task.terms if curvature == "ggn" else 1)
    close(lin.gradient, wide.T @ beta, 1e-5)
    if lin.hessian is not None:
        blocks = torch.block_diag(*lin.hessian.double())
        close(wide.T @ wide, lin.jacobian.double().T @ blocks @ lin.jacobian.double() / size, 1e-6)
    assert out_of_range(lin, root, beta).abs().max() <= 1e-7 * lin.gradient.abs().max()


@settings(deadline=None, max_examples=10)
@given(cases)
def test_float64_goes_all_the_way(case):
    task, theta, batch = small_task(*case, dtype=torch.float64)
    outputs = doubled(task)
    reference = jacrev(lambda t: batch_loss(task.loss, outputs(t, batch[0]), batch[1]))(theta)
    assert torch.equal(theta.float().double(), theta)  # drawn in float32
    slope = gradient(task, theta, batch).value
    lin = linearize(task, theta, batch).value
    assert {
        theta.dtype,
        slope.dtype,
        lin.jacobian.dtype,
        lin.hessian.dtype,
        lin.gradient.dtype,
    } == {torch.float64}
    for found in (
        slope,
        lin.gradient,
        linearize(task, theta, batch, curvature="empirical_fisher").value.gradient,
    ):
        close(found, reference, 1e-12)
    root, beta = range_coordinates(lin)
    close(rooted(lin, root).T @ beta, reference, 1e-10)


def linearization_at(z, labels, seed=0):
    """What linearize returns for outputs z (b, d_z), with a random Jacobian."""
    size, outputs = z.shape
    p = torch.softmax(z, dim=1)
    residual = p - torch.eye(outputs, dtype=torch.float64)[labels]
    jacobian = torch.randn(size * outputs, 9, generator=torch.Generator().manual_seed(seed))
    slope = (residual.reshape(-1) @ jacobian.double() / size).float()
    h = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return Linearization(jacobian, h.float(), slope, residual, p)


@pytest.mark.parametrize("margin", [0.0, 10.0, 40.0, 200.0, 1000.0])
def test_coordinates_hold_when_a_probability_underflows(margin):
    z = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    z[:, 2] += margin
    for label in (2, 0):  # sure and right, sure and wrong
        lin = linearization_at(z, torch.full((4,), label))
        root, beta = range_coordinates(lin)
        assert torch.isfinite(beta).all() and torch.isfinite(root).all()
        reached = rooted(lin, root).T @ beta
        assert (reached - lin.gradient).abs().max() <= 1e-6 * lin.gradient.abs().max() + 1e-14
        assert (root @ root.mT - lin.hessian.double()).abs().max() < 1e-7


@given(st.integers(0, 2**31), st.integers(0, 3))
def test_coordinates_of_a_given_hessian(seed, lost):
    """A given Hessian of any rank: its root squares to it, and what it cannot reach is out of
    range."""
    generator = torch.Generator().manual_seed(seed)
    lin = linearization_at(
        torch.randn(3, 4, dtype=torch.float64, generator=generator), torch.tensor([0, 3, 1])
    )
    half = torch.randn(3, 4, 4 - lost, dtype=torch.float64, generator=generator)
    given_hessian = half @ half.mT
    root, beta = range_coordinates(lin, hessian=given_hessian)
    close(root @ root.mT, given_hessian, 1e-12)
    rest = out_of_range(lin, root, beta)
    close((rooted(lin, root).T @ beta).float() + rest, lin.gradient.double(), 1e-5)
    if lost == 0:
        assert rest.abs().max() <= 1e-5 * lin.gradient.abs().max()


def test_a_hessian_rounded_to_zero_leaves_the_whole_gradient_out_of_range():
    lin = linearization_at(torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1]))
    root, beta = range_coordinates(lin, hessian=torch.zeros(3, 4, 4))
    assert not beta.any() and not root.any()
    close(out_of_range(lin, root, beta), lin.gradient.double(), 1e-5)


def test_the_unrounded_hessian_given_is_the_closed_form():
    lin = linearization_at(torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1]))
    closed, by_eigh = range_coordinates(lin), range_coordinates(lin, hessian=lin.hessian)
    for root, beta in (closed, by_eigh):
        close(rooted(lin, root).T @ beta, lin.gradient.double(), 1e-5)
