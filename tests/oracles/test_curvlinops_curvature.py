"""GGN and empirical Fisher against curvlinops (Dangel et al.), independently implemented."""

from __future__ import annotations

import pytest
import torch
from curvlinops import EFLinearOperator, GGNLinearOperator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.natural_gradient.products import curvature_product
from hybridsim.tasks.task import Data, Workload, as_task


def network():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def random_task(loss, seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=generator)
    labels = torch.randint(3, (size,), generator=generator)
    y = labels if loss == "cross_entropy" else torch.randn(size, 3, generator=generator)
    task = as_task("oracle", Workload(network, Data(x, y, x, y), loss))
    theta = task.initial_parameters(seed)
    model = network()
    model.load_state_dict(task.layout.unflatten(theta))
    criterion = nn.CrossEntropyLoss() if loss == "cross_entropy" else nn.MSELoss()
    return task, theta, (x, y), (model, criterion, list(model.parameters()), [(x, y)])


def dense(operator):
    return operator @ torch.eye(operator.shape[1])


def close(found, expected, tolerance=1e-5):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


cases = st.tuples(st.sampled_from(["cross_entropy", "mse"]), st.integers(0, 2**31))


@settings(deadline=None, max_examples=8)
@given(cases)
def test_generalised_gauss_newton(case):
    task, theta, batch, parts = random_task(*case)
    lin = linearize(task, theta, batch, curvature="ggn").value
    ours = lin.jacobian.T @ torch.block_diag(*lin.hessian) @ lin.jacobian / len(batch[0])
    close(ours, dense(GGNLinearOperator(*parts)))


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**31))
def test_empirical_fisher(seed):
    task, theta, batch, parts = random_task("cross_entropy", seed)
    lin = linearize(task, theta, batch, curvature="empirical_fisher").value
    close(lin.jacobian.T @ lin.jacobian / len(batch[0]), dense(EFLinearOperator(*parts)))


@settings(deadline=None, max_examples=8)
@given(cases, st.sampled_from([("ggn", GGNLinearOperator), ("empirical_fisher", EFLinearOperator)]))
def test_products_without_a_matrix(case, form):
    """In float64, to 1e-8. Under mse curvlinops' Fisher is d_z times ours: its mean over outputs
    stands before the square of the gradient of their sum."""
    curvature, operator = form
    (loss, seed), size = case, 6
    task, theta, (x, y), (model, criterion, parameters, _) = random_task(loss, seed, size)
    task, theta, model = task.to("cpu", torch.float64), theta.double(), model.double()
    x, y = x.double(), y.double() if loss == "mse" else y
    vector = torch.randn(len(theta), dtype=torch.float64)
    parameters = list(model.parameters())
    expected = operator(model, criterion, parameters, [(x, y)]) @ vector
    if loss == "mse" and curvature == "empirical_fisher":
        expected = expected / y.shape[1]
    found = curvature_product(task, theta, (x, y), vector, curvature=curvature)
    close(found, expected, 1e-8)


def test_the_oracle_model_is_the_tasks():
    task, theta, (x, _), (model, *_) = random_task("mse", 0)
    assert torch.equal(
        functional_call(model, {}, (x,)), task.apply(task.layout.unflatten(theta), x)
    )
    with pytest.raises(AssertionError):
        close(torch.zeros(2), torch.ones(2))
