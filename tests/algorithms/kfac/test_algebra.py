from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.algorithms.kfac.algebra import (
    average,
    damping_terms,
    divide,
    invert,
    join,
    precondition,
    transpose,
)
from hybridsim.algorithms.kfac.layers import blocks, layers, matrices
from hybridsim.errors import InputError
from hybridsim.operations.count import count, signature
from hybridsim.tasks.task import Data, Workload, as_task

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 6)
dampings = st.floats(1e-3, 1.0)


def close(found, expected, tolerance=1e-10):
    assert found.shape == expected.shape
    assert (found - expected).norm() <= tolerance * expected.norm()


def factor(n, generator):
    """A positive definite matrix; its smallest eigenvalues are small."""
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return root @ root.T / n


def block(seed, m, n, diagonal):
    """A, G and D of one block."""
    generator = torch.Generator().manual_seed(seed)
    a, g = factor(n, generator), factor(m, generator)
    return (
        a.diagonal().clone() if diagonal else a,
        g,
        torch.randn(m, n, generator=generator, dtype=torch.float64),
    )


def eye(n):
    return torch.eye(n, dtype=torch.float64)


def matrix(a):
    return torch.diag(a) if a.ndim == 1 else a


@given(seeds, sizes, sizes, st.floats(0, 1), st.booleans())
def test_the_averages_weight_belongs_to_the_old_factor(seed, m, n, decay, diagonal):
    old_a, old_g, _ = block(seed, m, n, diagonal)
    new_a, new_g, _ = block(seed + 1, m, n, diagonal)
    a, g = average(old_a, old_g, new_a, new_g, decay=decay).value
    close(a, decay * old_a + (1 - decay) * new_a)
    close(g, decay * old_g + (1 - decay) * new_g)


@given(seeds, sizes, sizes, dampings, st.booleans())
def test_damping_terms(seed, m, n, damping, diagonal):
    """plain: λ on both sides. pi: their product is λ, their ratio that of the mean eigenvalues."""
    a, g, _ = block(seed, m, n, diagonal)
    assert [float(t) for t in damping_terms(a, g, damping=damping, rule="plain").value] == [
        damping,
        damping,
    ]
    shift_a, shift_g = damping_terms(a, g, damping=damping, rule="pi").value
    assert float(shift_a * shift_g) == pytest.approx(damping, rel=1e-12)
    ratio = (matrix(a).trace() / n) / (g.trace() / m)
    assert float(shift_a / shift_g) == pytest.approx(float(ratio), rel=1e-12)
    x, y = a if diagonal else torch.linalg.cholesky(a).T, torch.linalg.cholesky(g).T
    roots = damping_terms(x, torch.cat([y, 0 * y]), damping=damping, rule="pi", form="roots").value
    assert [float(t) for t in roots] == pytest.approx([float(shift_a), float(shift_g)], rel=1e-10)
    dead = damping_terms(0 * a, g, damping=damping, rule="pi").value
    assert [float(t) for t in dead] == pytest.approx([damping**0.5, damping**0.5])
    with pytest.raises(ValueError, match="expected plain or pi, got 'exact'"):
        damping_terms(a, g, damping=damping, rule="exact")


@given(seeds, sizes, sizes, dampings, st.booleans(), st.sampled_from(["plain", "pi"]))
def test_factored_damping_solves_with_both_damped_factors(seed, m, n, damping, diagonal, rule):
    a, g, d = block(seed, m, n, diagonal)
    inverses = invert(a, g, damping=damping, rule=rule).value
    u = precondition(inverses, d, rule=rule, damping=damping).value
    shift_a, shift_g = damping_terms(a, g, damping=damping, rule=rule).value
    damped_a, damped_g = matrix(a) + shift_a * eye(n), g + shift_g * eye(m)
    close(damped_g @ u @ damped_a, d, 1e-9)
    rows = torch.linalg.solve(damped_g, d).T.contiguous()
    if diagonal:
        rows = divide(rows, a, shift_a).value
        close(transpose(rows[:, : m // 2], rows[:, m // 2 :]).value, u, 1e-9)


@given(seeds, sizes, sizes, dampings, st.booleans())
def test_exact_damping_solves_the_damped_block(seed, m, n, damping, diagonal):
    a, g, d = block(seed, m, n, diagonal)
    inverses = invert(a, g, damping=damping, rule="exact").value
    u = precondition(inverses, d, rule="exact", damping=damping).value
    damped = torch.kron(g, matrix(a)) + damping * eye(m * n)
    close(u, torch.linalg.solve(damped, d.flatten()).reshape(m, n), 1e-9)


@given(seeds, sizes, sizes, st.sampled_from(["plain", "pi", "exact"]))
def test_a_block_with_plenty_of_damping_is_gradient_descent(seed, m, n, rule):
    a, g, d = block(seed, m, n, False)
    inverses = invert(a, g, damping=1e12, rule=rule).value
    scale = 1e24 if rule == "plain" else 1e12
    assert torch.nn.functional.cosine_similarity(
        precondition(inverses, d, rule=rule, damping=1e12).value.flatten() * scale,
        d.flatten(),
        dim=0,
    ) == pytest.approx(1)


@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3), seeds)
def test_columns_from_several_places_are_joined_and_turned(n, counts, seed):
    whole = torch.randn(n, sum(counts), generator=torch.Generator().manual_seed(seed))
    found = transpose(*whole.split(counts, dim=1)).value
    assert torch.equal(found, whole.T) and found.is_contiguous()


def test_a_factor_that_is_not_positive_definite_asks_for_damping():
    broken = torch.diag(torch.tensor([1.0, -0.5]))
    with pytest.raises(
        InputError,
        match=r"algorithm.damping: expected enough damping .* order 2 in float32, got 0.1",
    ):
        invert(broken, torch.eye(2), damping=0.1, rule="plain")
    values, _ = invert(broken, torch.eye(2), damping=0.1, rule="exact").value[0]
    assert values.tolist() == [0, 1]  # taken as rounding


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 2, groups=2)
        self.tokens, self.head = nn.Embedding(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.conv(self.norm(x))).mean(dim=(2, 3))
        return self.head(h + self.tokens((x[:, 0, 0, 0] > 0).long()))


def mixed_task():
    x, y = torch.randn(5, 4, 3, 3), torch.arange(5) % 3
    return as_task("mixed", Workload(Mixed, Data(x, y, x, y), "cross_entropy"))


def random_parts(task, seed):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(task.layout.size, generator=generator, dtype=torch.float64)
    named = task.layout.unflatten(gradient)
    d = [part for layer in layers(task, "expand") for part in matrices(layer, named)]
    u = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in d]
    return gradient, d, u


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_joined_directions_lie_where_the_gradient_does(seed):
    task = mixed_task()
    gradient, d, u = random_parts(task, seed)
    options = {"sharing": "expand", "kl_clip": None}
    assert torch.equal(join(task, gradient, 0.1, *d, **options).value, gradient)
    outcome = join(task, gradient, 0.1, *u, **options)
    assert outcome.facts == {}
    joined = task.layout.unflatten(outcome.value)
    found = [part for layer in layers(task, "expand") for part in matrices(layer, joined)]
    assert all(torch.equal(f, e) for f, e in zip(found, u, strict=True))
    raw = task.layout.unflatten(gradient)
    assert all(torch.equal(joined[name], raw[name]) for name in ("norm.weight", "norm.bias"))


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(1e-3, 10.0), st.floats(1e-6, 1e3))
def test_clipping(seed, learning_rate, kappa):
    """The blocks' part alone is scaled by ν = min(1, √(κ/(η² |Σ <U, D>|)))."""
    task = mixed_task()
    gradient, d, u = random_parts(task, seed)
    inner = abs(sum(float((a * b).sum()) for a, b in zip(u, d, strict=True)))
    expected = min(1.0, (kappa / (learning_rate**2 * inner)) ** 0.5)
    outcome = join(task, gradient, learning_rate, *u, sharing="expand", kl_clip=kappa)
    assert float(outcome.facts["kl_scale"]) == pytest.approx(expected, rel=1e-9)
    plain = join(
        task,
        gradient,
        1.0,
        *[expected * part for part in u],
        sharing="expand",
        kl_clip=None,
    )
    close(outcome.value, plain.value, 1e-9)


def test_nothing_to_clip_leaves_the_direction():
    task = mixed_task()
    gradient, d, u = random_parts(task, 0)
    zeros = [0 * part for part in u]
    outcome = join(task, 0 * gradient, 0.1, *zeros, sharing="expand", kl_clip=1e-3)
    assert float(outcome.facts["kl_scale"]) == 1.0 and not outcome.value.any()


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("rule", ["plain", "pi", "exact"])
def test_counted_on_shapes_and_live_alike(rule, diagonal):
    a, g, d = (part.float() for part in block(0, 3, 4, diagonal))
    real = invert(a, g, damping=0.1, rule=rule)
    work, shapes = count(invert, (a, g), {"damping": 0.1, "rule": rule})
    assert signature((shapes.value,), {}) == signature((real.value,), {})
    routine = "eigh" if rule == "exact" else "inverse"
    orders = {(k.routine, k.shape[1]) for k in work.kernels if k.routine in ("cholesky", routine)}
    assert orders == {(routine, 3)} | (set() if diagonal else {(routine, 4)})
    settings = {"rule": rule, "damping": 0.1}
    real = precondition(real.value, d, **settings)
    work, shapes = count(precondition, (shapes.value, d), settings)
    assert (
        signature((shapes.value,), {}) == signature((real.value,), {})
        and real.value.dtype == torch.float32
    )
    products = 2 * 12 * (3 + 4 * (not diagonal)) * (2 if rule == "exact" else 1)
    assert sum(k.flop * k.count for k in work.kernels if k.matrix) == products
    task = mixed_task()
    gradient, _, u = random_parts(task, 0)
    work, shapes = count(join, (task, gradient, 0.1, *u), {"sharing": "expand", "kl_clip": 0.1})
    assert shapes.value.shape == gradient.shape and len(u) == len(blocks(task, sharing="expand"))
