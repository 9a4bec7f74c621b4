"""SOAP, step for step pytorch_optimizer's; its bases are orthogonal and find the eigenvectors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytorch_optimizer.optimizer.soap as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.optimizers import soap
from hybridsim.operations.count import count
from hybridsim.scenario.settings.soap import Soap
from hybridsim.tasks.layout import Layout

SHAPES = st.lists(
    st.one_of(
        st.tuples(),
        st.tuples(st.integers(1, 9)),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)),
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=4,
)


class Lifted(SimpleNamespace):
    """torch, with float64 in the place of float32: the reference takes QR factors in float32
    whatever the type of the parameters."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def layout_of_shapes(shapes):
    return Layout(tuple(f"p{k}" for k in range(len(shapes))), tuple(map(tuple, shapes)))


def walk(shapes, ours, dtype, seed, steps):
    """Our parameters and the reference's after every step of the same directions, with scales that
    differ from step to step; and our states."""
    settings_ = Soap(kind="soap", **ours)
    layout = layout_of_shapes(shapes)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(layout.size, generator=generator, dtype=dtype)
    parameters = {n: torch.nn.Parameter(p.clone()) for n, p in layout.unflatten(theta).items()}
    made = reference.SOAP(
        parameters.values(),
        lr=settings_.learning_rate,
        betas=(settings_.beta1, settings_.beta2),
        shampoo_beta=settings_.shampoo_beta,
        weight_decay=settings_.weight_decay,
        precondition_frequency=settings_.basis_every,
        max_precondition_dim=settings_.max_dimension,
        precondition_1d=settings_.precondition_vectors,
        eps=settings_.epsilon,
    )
    named = settings_.model_dump(exclude={"kind", "schedule", "clip_norm"})
    shaping = {k: named[k] for k in ("max_dimension", "precondition_vectors")}
    state = soap.start(theta, layout=layout, **shaping)
    for step in range(1, steps + 1):
        scale = 10.0 ** torch.randn((), generator=generator, dtype=dtype)
        direction = scale * torch.randn(layout.size, generator=generator, dtype=dtype)
        before, asked = theta.clone(), direction.clone()
        keywords = {"layout": layout, **named, **settings_.phase(step)}
        new, state = soap.update(theta, state, direction, **keywords).value
        assert torch.equal(theta, before) and torch.equal(direction, asked)  # functional
        theta = new
        # Views of a copy, aligned as ours are: rounding follows, and with it the bases of null
        # spaces of statistics, where one basis is as good as another.
        for name, slope in layout.unflatten(direction.clone()).items():
            parameters[name].grad = slope
        made.step()
        yield theta, layout.flatten({n: p.detach() for n, p in parameters.items()}), state


@settings(deadline=None, max_examples=40)
@given(
    SHAPES,
    st.fixed_dictionaries(
        {
            "learning_rate": st.floats(1e-4, 0.1),
            "beta1": st.floats(0, 0.99),
            "beta2": st.floats(0, 0.999),
            "shampoo_beta": st.none() | st.floats(0, 0.99),
            "epsilon": st.sampled_from([1e-8, 1e-3]),
            "weight_decay": st.sampled_from([0.0, 0.01, 0.5]),
            "basis_every": st.integers(1, 7),
            "max_dimension": st.sampled_from([2, 4, 10_000]),
            "precondition_vectors": st.booleans(),
        }
    ),
    st.integers(0, 2**31),
)
def test_steps_are_the_references(shapes, ours, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "torch", Lifted())
        for step, (theta, expected, _) in enumerate(walk(shapes, ours, torch.float64, seed, 22)):
            assert torch.allclose(theta, expected, rtol=1e-9, atol=1e-9), f"step {step}"


def test_steps_in_single_precision_are_the_references_as_it_is():
    shapes = [(40, 24), (24,), (6, 5, 3, 3)]
    for theta, expected, _ in walk(shapes, {"basis_every": 5}, torch.float32, 1, 30):
        assert torch.allclose(theta, expected, rtol=1e-4, atol=1e-5)


def test_bases_are_orthogonal_and_find_the_eigenvectors():
    """Of statistics that settle: power iterations end in the eigenbasis, in descending order."""
    layout, beta = layout_of_shapes([(6, 4)]), 0.5
    settings_ = Soap(kind="soap", basis_every=1, shampoo_beta=beta)
    left = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    spread = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    direction = (left[:, :4] * spread @ right.T).reshape(-1)
    theta = torch.randn(24, dtype=torch.float64)
    state = soap.start(theta, layout=layout)
    for step in range(1, 30):
        theta, state = soap.update(
            theta,
            state,
            direction,
            layout=layout,
            learning_rate=0.1,
            shampoo_beta=beta,
            **settings_.phase(step),
        ).value
    (found_left, found_right), eye = state.bases[0], torch.eye(6, dtype=torch.float64)
    assert torch.allclose(found_left.T @ found_left, eye, atol=1e-12)
    assert torch.allclose((right.T @ found_right).abs(), eye[:4, :4], atol=1e-9)
    assert torch.allclose((left[:, :4].T @ found_left[:, :4]).abs(), eye[:4, :4], atol=1e-9)


def test_the_first_step_moves_nothing_and_phases_follow_its_number():
    settings_ = Soap(kind="soap", basis_every=3)
    found = [settings_.phase(step)["bases"] for step in range(1, 9)]
    assert found == ["found", "kept", "kept", "turned", "kept", "kept", "turned", "kept"]
    every = [Soap(kind="soap", basis_every=1).phase(step)["bases"] for step in (1, 2, 3)]
    assert every == ["found", "turned", "turned"]
    layout = layout_of_shapes([(3, 2), (2,)])
    theta, direction = torch.randn(8), torch.randn(8)
    state = soap.start(theta, layout=layout)
    keywords = {"layout": layout, "learning_rate": 0.1, "bases": "found"}
    new, _ = soap.update(theta, state, direction, **keywords).value
    assert torch.equal(new, theta)


@pytest.mark.parametrize(("m", "n"), [(7, 4), (4, 7)])
def test_a_step_costs_six_projections_and_two_statistics(m, n):
    """Of an m x n matrix: D, M and the ratio are turned (three times m² n + m n²), L and R get
    their products; a turn adds L Q and R Q and their QR factors."""
    layout = layout_of_shapes([(m, n)])
    theta = torch.zeros(m * n)
    state = soap.start(theta, layout=layout)
    flop = {}
    for bases in ("found", "kept", "turned"):
        keywords = {"layout": layout, "learning_rate": 0.1, "bases": bases}
        work, _ = count(soap.update, (theta, state, theta), keywords)
        products = [k for k in work.kernels if k.name == "aten.mm"]
        flop[bases] = sum(k.flop * k.count for k in products)
        eighs = sum(k.count for k in work.kernels if k.routine == "eigh")
        assert eighs == (2 if bases == "found" else 0)
        factors = sum(k.count for k in work.kernels if k.name == "aten.linalg_qr")
        assert factors == (2 if bases == "turned" else 0)
    pair = 2 * (m * m * n + m * n * n)
    assert flop == {"found": pair, "kept": 4 * pair, "turned": 4 * pair + 2 * (m**3 + n**3)}
