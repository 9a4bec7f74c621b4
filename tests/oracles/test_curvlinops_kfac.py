"""Kronecker factors against curvlinops 3 (Dangel et al.), independently implemented."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from curvlinops import KFACLinearOperator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.learning.kfac_factors import Draw, factors
from hybridsim.learning.kfac_layers import blocks
from hybridsim.learning.task import Data, Workload, as_task

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
NAMES = {"type2": "type-2", "empirical": "empirical"}
fishers = st.sampled_from(["type2", "empirical"])
sharings = st.sampled_from(["expand", "reduce"])
losses = st.sampled_from(["cross_entropy", "mse"])
types = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**31)


class Case(NamedTuple):
    loss: str
    fisher: str
    sharing: str
    dtype: torch.dtype
    seed: int


cases = st.builds(Case, losses, fishers, sharings, types, seeds)


def random_task(network, shape, outputs, case, size=5):
    """A task whose targets have the shape (size, *positions, outputs) of the network's outputs."""
    generator = torch.Generator().manual_seed(case.seed)
    x = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    if case.loss == "cross_entropy":
        y = torch.randint(outputs[-1], (size, *outputs[:-1]), generator=generator)
    else:
        y = torch.randn(size, *outputs, generator=generator, dtype=torch.float64)
    data = Data(*(t.float() if t.is_floating_point() else t for t in (x, y, x, y)))
    task = as_task("oracle", Workload(network, data, case.loss)).to("cpu", case.dtype)
    return task, task.initial_parameters(case.seed), (task.data.train_x, task.data.train_y)


def oracle(network, task, theta, batch, case):
    """curvlinops' factors A and G by layer; it wants classes in dimension 1 for cross-entropy."""
    model = network().to(case.dtype)
    model.load_state_dict(task.layout.unflatten(theta))
    x, y = batch
    whole = nn.Sequential(model, nn.Identity())
    if case.loss == "cross_entropy" and y.ndim > 1:
        whole = ClassesSecond(model)
    operator = KFACLinearOperator(
        whole,
        nn.CrossEntropyLoss() if case.loss == "cross_entropy" else nn.MSELoss(),
        list(whole.parameters()),
        [(x, y)],
        fisher_type=NAMES[case.fisher],
        kfac_approx=case.sharing,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    operator.compute_kronecker_factors()
    return operator._input_covariances, operator._gradient_covariances


class ClassesSecond(nn.Sequential):
    def forward(self, x):
        return super().forward(x).movedim(-1, 1)


def assert_equal_factors(network, shape, outputs, case):
    task, theta, batch = random_task(network, shape, outputs, case)
    size = len(batch[0])
    found = factors(task, theta, batch, Draw(0, 0, size), fisher=case.fisher, sharing=case.sharing).value
    a, g = oracle(network, task, theta, batch, case)
    for block in blocks(task, sharing=case.sharing):
        key = f"0.{block.name}".rstrip(".")
        for ours, theirs in ((found["a"][block.name], a[key]), (found["g"][block.name], g[key])):
            assert ours.dtype == case.dtype
            assert (ours - theirs).norm() <= TOLERANCE[case.dtype] * theirs.norm()


@settings(deadline=None, max_examples=40)
@given(cases, st.lists(st.integers(1, 8), min_size=2, max_size=4), st.integers(0, 2), st.booleans())
def test_dense_layers_with_shared_positions(case, widths, positions, bias):
    """Loss terms at each of 0, 2 or 2 x 3 positions."""

    def network():
        pairs = zip(widths, [*widths[1:], 3], strict=True)
        return nn.Sequential(*[m for n, k in pairs for m in (nn.Linear(n, k, bias=bias), nn.Tanh())])

    middle = (2, 3)[:positions]
    assert_equal_factors(network, (*middle, widths[0]), (*middle, 3), case)
