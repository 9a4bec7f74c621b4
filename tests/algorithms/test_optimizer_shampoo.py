"""Shampoo, step for step pytorch_optimizer's two, and full-matrix closed forms."""

from __future__ import annotations

import math

import pytest
import pytorch_optimizer as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_optimizer_soap import SHAPES, layout_of_shapes

from hybridsim.algorithms.optimizers import shampoo
from hybridsim.operations.count import count
from hybridsim.scenario.settings.shampoo import Shampoo

GRAFTS = {"none": 0, "sgd": 1, "adagrad": 2}


def walk(shapes, ours, made, seed, steps, renews, epsilon_of=None):
    """Our parameters and those of the reference that ``made`` makes, after every step of the same
    directions."""
    layout = layout_of_shapes(shapes)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(layout.size, generator=generator, dtype=torch.float64)
    parameters = {n: torch.nn.Parameter(p.clone()) for n, p in layout.unflatten(theta).items()}
    optimizer = made(parameters.values())
    shaping = {k: ours[k] for k in ("grafting", "max_dimension") if k in ours}
    state = shampoo.start(theta, layout=layout, **shaping)
    for step in range(1, steps + 1):
        scale = 2.0 ** float(torch.randn((), generator=generator))
        direction = scale * torch.randn(layout.size, generator=generator, dtype=torch.float64)
        before, asked = theta.clone(), direction.clone()
        keywords = {"layout": layout, "renew": renews(step)} | ours
        if epsilon_of is not None:
            keywords["epsilon"] = epsilon_of(step)
        new, state = shampoo.update(theta, state, direction, **keywords).value
        assert torch.equal(theta, before) and torch.equal(direction, asked)  # functional
        theta = new
        for name, slope in layout.unflatten(direction).items():
            parameters[name].grad = slope.clone()
        optimizer.step()
        yield theta, layout.flatten({n: p.detach() for n, p in parameters.items()})


@settings(deadline=None, max_examples=30)
@given(
    SHAPES.filter(lambda shapes: () not in shapes),  # which the reference does not precondition
    st.floats(1e-4, 0.1),
    st.sampled_from([1e-2, 1e-1]),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 2**31),
)
def test_the_papers_steps_are_the_references(shapes, rate, epsilon, every, decay, seed):
    """The reference takes roots where its count of steps is a multiple, and moves nothing before:
    told to do so, with roots that start at zero, ours does the same."""
    ours = {"learning_rate": rate, "epsilon": epsilon, "momentum": 0.0, "weight_decay": decay}
    ours |= {"grafting": "none"}

    def made(parameters):
        return reference.Shampoo(
            parameters,
            lr=rate,
            matrix_eps=epsilon,
            preconditioning_compute_steps=every,
            weight_decay=decay,
            weight_decouple=True,
        )

    for step, (theta, expected) in enumerate(
        walk(shapes, ours, made, seed, 20, lambda step: step % every == 0)
    ):
        assert torch.allclose(theta, expected, rtol=1e-8, atol=1e-8), f"step {step}"


@settings(deadline=None, max_examples=30)
@given(
    SHAPES.map(lambda shapes: [s for s in shapes if len(s) > 1] or [(3, 2)]),
    st.floats(1e-4, 0.1),
    st.floats(0.0, 0.95),
    st.sampled_from([1.0, 0.9, 0.99]),
    st.sampled_from(sorted(GRAFTS)),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 2**31),
)
def test_momentum_grafting_and_decay_are_scalable_shampoos(
    shapes, rate, momentum, beta2, grafting, decay, seed
):
    """Its epsilon decays with the statistics, ours does not: ours is told the decayed one."""
    epsilon = 1e-2
    ours = {
        "learning_rate": rate,
        "momentum": momentum,
        "beta2": beta2,
        "grafting": grafting,
        "grafting_epsilon": 1e-10,
        "weight_decay": decay,
    }

    def made(parameters):
        optimizer = reference.ScalableShampoo(
            parameters,
            lr=rate,
            weight_decay=decay,
            decoupled_weight_decay=True,
            start_preconditioning_step=1,
            preconditioning_compute_steps=1,
            shape_interpretation=False,
            graft_type=GRAFTS[grafting],
            nesterov=False,
            matrix_eps=epsilon,
            use_svd=True,
        )
        optimizer.param_groups[0]["betas"] = momentum, beta2  # whose check forbids sums
        return optimizer

    found = walk(
        shapes, ours, made, seed, 20, lambda step: True, lambda step: epsilon * beta2**step
    )
    for step, (theta, expected) in enumerate(found):
        assert torch.allclose(theta, expected, rtol=1e-7, atol=1e-7), f"step {step}"


def powered(matrix, power):
    """By the eigenvectors of a general matrix."""
    values, vectors = torch.linalg.eig(matrix)
    return (vectors @ torch.diag(values**power) @ torch.linalg.inv(vectors)).real


def test_a_large_dimension_keeps_its_diagonal():
    """(L + ε)^(-1/4) G (diag R + ε)^(-1/4), the roots of the newest due step."""
    layout, epsilon, rate = layout_of_shapes([(3, 8)]), 0.1, 0.5
    settings_ = Shampoo(kind="shampoo", learning_rate=rate, root_every=2)
    theta = torch.randn(24, dtype=torch.float64)
    state = shampoo.start(theta, layout=layout, max_dimension=5, grafting="none")
    left, right, eye = (torch.zeros(n, n, dtype=torch.float64) for n in (3, 8, 3))
    eye.fill_diagonal_(1)
    for step in range(1, 6):
        slope = torch.randn(3, 8, dtype=torch.float64)
        left, right = left + slope @ slope.T, right + torch.diag((slope**2).sum(0))
        if step % 2 == 1:
            roots = powered(left + epsilon * eye, -0.25), (right.diag() + epsilon) ** -0.25
        expected = theta - rate * ((roots[0] @ slope) * roots[1]).reshape(-1)
        theta, state = shampoo.update(
            theta,
            state,
            slope.reshape(-1),
            layout=layout,
            learning_rate=rate,
            epsilon=epsilon,
            momentum=0.0,
            max_dimension=5,
            grafting="none",
            **settings_.phase(step),
        ).value
        assert torch.allclose(theta, expected, atol=1e-12)
    assert [tuple(side.shape) for side in state.statistics[0]] == [(3, 3), (8,)]


def test_a_vector_gets_full_matrix_adagrad_and_a_scalar_adagrad():
    layout, epsilon = layout_of_shapes([(4,), ()]), 1e-3
    theta = torch.zeros(5, dtype=torch.float64)
    state = shampoo.start(theta, layout=layout, grafting="none")
    total = torch.zeros(4, 4, dtype=torch.float64)
    squares = torch.zeros((), dtype=torch.float64)
    for _ in range(6):
        slope = torch.randn(5, dtype=torch.float64)
        total, squares = total + torch.outer(slope[:4], slope[:4]), squares + slope[4] ** 2
        eye = torch.eye(4, dtype=torch.float64)
        expected = torch.cat(
            [
                theta[:4] - 0.1 * powered(total + epsilon * eye, -0.5) @ slope[:4],
                (theta[4] - 0.1 * slope[4] / (squares + epsilon).sqrt())[None],
            ]
        )
        keywords = {"layout": layout, "learning_rate": 0.1, "momentum": 0.0, "epsilon": epsilon}
        keywords |= {"grafting": "none"}
        theta, state = shampoo.update(theta, state, slope, **keywords).value
        assert torch.allclose(theta, expected, atol=1e-10)


@settings(deadline=None, max_examples=10)
@given(SHAPES, st.floats(0, 0.999), st.integers(0, 2**31))
def test_grafted_steps_are_as_long_as_adams(shapes, beta2, seed):
    """Parameter by parameter, torch.optim.Adam without momentum; also where it does not move."""
    layout = layout_of_shapes(shapes)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(layout.size, generator=generator, dtype=torch.float64)
    state = shampoo.start(theta, layout=layout, grafting="adam")
    parameter = torch.nn.Parameter(theta.clone())
    adam = torch.optim.Adam([parameter], 0.1, (0.0, beta2))
    for step in range(8):
        slope = torch.randn(layout.size, generator=generator, dtype=torch.float64)
        slope = slope * (step != 3)
        keywords = {"layout": layout, "learning_rate": 0.1, "momentum": 0.0}
        keywords |= {"grafting": "adam", "grafting_beta2": beta2, "grafting_epsilon": 1e-8}
        new, state = shampoo.update(theta, state, slope, **keywords).value
        before, parameter.grad = parameter.detach().clone(), slope
        adam.step()
        asked = layout.unflatten(parameter.detach() - before)
        for name, part in layout.unflatten(new - theta).items():
            assert math.isclose(part.norm(), asked[name].norm(), rel_tol=1e-6, abs_tol=1e-15)
        theta = new


def test_settings_say_when_roots_are_due_and_what_is_kept():
    settings_ = Shampoo(kind="shampoo", learning_rate=0.1, root_every=3)
    found = [settings_.phase(step)["renew"] for step in range(1, 8)]
    assert found == [True, False, False, True, False, False, True]
    layout, theta = layout_of_shapes([(4, 3), (2,)]), torch.zeros(14)
    state = shampoo.start(theta, layout=layout, max_dimension=3)
    assert [[tuple(s.shape) for s in sides] for sides in state.roots] == [[(4,), (3, 3)], [(2, 2)]]
    assert [len(shampoo.start(theta, layout=layout, grafting=g).second) for g in GRAFTS] == [
        0,
        0,
        14,
    ]


@pytest.mark.parametrize(("m", "n"), [(7, 4), (4, 7)])
def test_roots_cost_an_eigendecomposition_and_a_product_each_when_they_are_due(m, n):
    layout = layout_of_shapes([(m, n)])
    theta = torch.zeros(m * n)
    state = shampoo.start(theta, layout=layout)
    for renew in (False, True):
        keywords = {"layout": layout, "learning_rate": 0.1, "renew": renew}
        work, _ = count(shampoo.update, (theta, state, theta), keywords)
        products = sum(k.flop * k.count for k in work.kernels if k.name == "aten.mm")
        eigh = sorted(k.shape for k in work.kernels if k.routine == "eigh")
        assert eigh == ([(1, 4), (1, 7)] if renew else [])
        assert products == 4 * (m * m * n + m * n * n) + renew * 2 * (m**3 + n**3)
