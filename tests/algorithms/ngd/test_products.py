"""Curvature products against explicit matrices, in float64."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from small_tasks import random_task
from torch import nn
from torch.func import hessian

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.natural_gradient.products import along_step, curvature_product, losses
from hybridsim.algorithms.ngd.direct import rooted_jacobian
from hybridsim.tasks.task import batch_loss

LOSSES = st.sampled_from(["cross_entropy", "mse"])
CURVATURES = st.sampled_from(["ggn", "empirical_fisher"])
SEEDS = st.integers(0, 2**31)


def convolutional(positions=None, outputs=3):
    """Outputs (b, 3), or (b, positions, 3)."""
    places = () if positions is None else (positions,)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2, 4),
        nn.GELU(),
        nn.Linear(4, (positions or 1) * outputs),
        nn.Unflatten(1, (*places, outputs)),
    )


def task_of(loss, seed, positions=None):
    places = () if positions is None else (positions,)
    return random_task(lambda: convolutional(positions), loss, seed, (1, 5, 5), (*places, 3))


def explicit(lin):
    """A (N, N) from the Jacobian and the loss Hessians of a linearization, term by term."""
    if lin.hessian is None:
        return sum(torch.outer(row, row) for row in lin.jacobian) / len(lin.jacobian)
    blocks = lin.jacobian.reshape(*lin.residual.shape, -1)
    pairs = zip(blocks, lin.hessian, strict=True)
    return sum(j.T @ h @ j for j, h in pairs) / len(blocks)


@run(max_examples=25)
@given(LOSSES, CURVATURES, SEEDS, st.none() | st.integers(1, 3))
def test_products_are_those_of_the_explicit_matrix(loss, curvature, seed, positions):
    task, theta, batch = task_of(loss, seed, positions)
    matrix = explicit(linearize(task, theta, batch, curvature=curvature).value)
    vector = torch.randn(len(theta), dtype=torch.float64)
    found = curvature_product(task, theta, batch, vector, curvature=curvature)
    torch.testing.assert_close(found, matrix @ vector, rtol=1e-8, atol=1e-10)


@run(max_examples=15)
@given(LOSSES, CURVATURES, SEEDS)
def test_the_rooted_jacobian_is_a_root_of_the_curvature(loss, curvature, seed):
    task, theta, batch = task_of(loss, seed)
    lin = linearize(task, theta, batch, curvature=curvature).value
    rooted = rooted_jacobian(lin)
    assert rooted.shape == lin.jacobian.shape
    torch.testing.assert_close(rooted.T @ rooted, explicit(lin), rtol=1e-8, atol=1e-10)


@run(max_examples=15)
@given(LOSSES, SEEDS)
def test_the_gauss_newton_matrix_of_a_linear_network_is_its_hessian(loss, seed):
    """No second derivatives of the network are left out, as it has none: autograd's own Hessian of
    the loss."""
    task, theta, (x, y) = random_task(lambda: nn.Linear(4, 3), loss, seed, (4,), (3,))

    def mean_loss(flat):
        return batch_loss(task.loss, task.apply(task.layout.unflatten(flat), x), y)

    vector = torch.randn(len(theta), dtype=torch.float64)
    found = curvature_product(task, theta, (x, y), vector, curvature="ggn")
    torch.testing.assert_close(found, hessian(mean_loss)(theta) @ vector, rtol=1e-8, atol=1e-10)


@run(max_examples=20)
@given(LOSSES, CURVATURES, SEEDS, st.none() | st.integers(1, 3))
def test_loss_slope_and_curvature_along_a_step(loss, curvature, seed, positions):
    task, theta, (x, y) = task_of(loss, seed, positions)
    lin, facts = linearize(task, theta, (x, y), curvature=curvature)
    step = torch.randn(len(theta), dtype=torch.float64)
    found = along_step(task, theta, (x, y), step, curvature=curvature)
    expected = (facts["train_loss"], lin.gradient @ step, step @ explicit(lin) @ step)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-8, atol=1e-10)


@run(max_examples=10)
@given(LOSSES, SEEDS, st.none() | st.integers(1, 3))
def test_the_examples_losses_average_to_the_batchs(loss, seed, positions):
    task, theta, (x, y) = task_of(loss, seed, positions)
    z = task.apply(task.layout.unflatten(theta), x)
    torch.testing.assert_close(losses(task, z, y).mean(), batch_loss(loss, z, y))
