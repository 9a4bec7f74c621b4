"""Random rounding is right on average, and the mean of answers errs by ε/√K + O(ε²) (arXiv
2401.16231)."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.precision import levels
from hybridsim.circuits.random_rounding import (
    round_columns_randomly,
    round_randomly,
    round_symmetric_randomly,
)

SEEDS = st.integers(0, 2**40)
BITS = st.integers(2, 12)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def on_levels(rounded, step):
    level = rounded / step
    return (level - level.round()).abs().max() <= 1e-9 * level.abs().max().clamp(min=1)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, bits=BITS, rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_every_value_goes_to_one_of_its_two_neighbours(seed, bits, rows, columns):
    x = normal(seed, rows, columns)
    whole = round_randomly(x, bits, seed)
    step = x.abs().max() / levels(bits)
    assert on_levels(whole, step) and ((whole - x).abs() <= step * (1 + 1e-9)).all()
    each = round_columns_randomly(x, bits, seed)
    steps = x.abs().amax(dim=0) / levels(bits)
    assert on_levels(each, steps) and ((each - x).abs() <= steps * (1 + 1e-9)).all()
    assert whole.abs().max() <= x.abs().max() * (1 + 1e-9)
    assert torch.equal(whole, round_randomly(x, bits, seed))
    assert round_randomly(x, None, seed) is x


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, bits=st.integers(2, 8))
def test_rounding_has_no_bias(seed, bits):
    """The mean of 4,000 roundings is within 5 standard deviations, of at most step/2 each."""
    x, number = normal(seed, 6), 4000
    mean = round_randomly(x.expand(number, 6), bits, seed).mean(dim=0)
    step = x.abs().max() / levels(bits)
    assert ((mean - x).abs() <= 5 * step / 2 / number**0.5).all()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, bits=BITS, order=st.integers(1, 12), blocks=st.integers(1, 4))
def test_symmetric_matrices_stay_symmetric_on_ranges_of_their_own(seed, bits, order, blocks):
    half = normal(seed, blocks, order, order)
    matrix = half + half.mT
    found = round_symmetric_randomly(matrix, bits, seed)
    assert found.dtype == torch.float64 and torch.equal(found, found.mT)
    for one, given_one in zip(found, matrix, strict=True):
        rest = given_one - torch.diag(given_one.diagonal())
        for part, whole in (
            (one.diagonal(), given_one.diagonal()),
            (one - one.diag().diag(), rest),
        ):
            step = whole.abs().max() / levels(bits)
            assert ((part - whole).abs() <= step * (1 + 1e-9) + 1e-300).all()


def test_the_mean_answer_errs_by_one_over_root_k_and_a_square():
    """Jᵀ and J rounded apart: at K = 1, 16, 256 the error is ε, ε/4, ε/16, to a floor of ε²."""
    j, damping, identity = normal(3, 5, 40), 0.5, torch.eye(40, dtype=torch.float64)
    b = normal(4, 40)
    exact = torch.linalg.solve(j.T @ j / 5 + damping * identity, b)

    def error(bits, number, first):
        total = torch.zeros(40, dtype=torch.float64)
        for k in range(first, first + number):
            left, right = (round_randomly(j, bits, 2 * k + s) for s in (0, 1))
            total += torch.linalg.solve(left.T @ right / 5 + damping * identity, b)
        return (total / number - exact).norm() / exact.norm()

    for bits in (6, 8):
        errors = [
            torch.stack([error(bits, number, 1000 * m) for m in range(6)]).mean()
            for number in (1, 16, 128)
        ]
        assert 0.15 < errors[1] / errors[0] < 0.4
        assert errors[2] / errors[0] < 0.2
