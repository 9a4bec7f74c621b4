"""Claim K8: rounded conservatively, every semidefinite factor stays semidefinite; rounded plainly,
some do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridsim.algorithms.kfac import device as kronecker
from hybridsim.circuits.precision import conservative, levels, quantize
from hybridsim.errors import HybridsimError

EPS = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny
BITS = st.integers(3, 16)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def low_rank(n: int, g: torch.Generator) -> Tensor:
    rank = int(torch.randint(1, n + 1, (), generator=g))
    x = torch.randn(n, rank, generator=g, dtype=torch.float64)
    return x @ x.T


def stiff(n: int, g: torch.Generator) -> Tensor:
    """Columns of wildly different size, as activations have: D X Xᵀ D."""
    scale = 10.0 ** (6 * torch.rand(n, 1, generator=g, dtype=torch.float64) - 3)
    x = scale * torch.randn(n, 2 * n, generator=g, dtype=torch.float64)
    return x @ x.T


def single(n: int, g: torch.Generator) -> Tensor:
    """A factor as a GPU computes it; its zero eigenvalues are wrong by float32's rounding."""
    x = torch.relu(torch.randn(max(1, n // 3), n, generator=g))
    return x.T @ x / len(x)


def equal(n: int, g: torch.Generator) -> Tensor:
    return torch.rand((), generator=g, dtype=torch.float64) * torch.ones(n, n, dtype=torch.float64)


def laplacian(n: int, g: torch.Generator) -> Tensor:
    """Singular, with nothing to spare: the diagonal is just the row's sum."""
    w = torch.rand(n, n, generator=g, dtype=torch.float64) * (torch.rand(n, n, generator=g) < 0.2)
    w = torch.triu(w, 1) + torch.triu(w, 1).T
    return torch.diag(w.sum(dim=1)) - w


def zero(n: int, g: torch.Generator) -> Tensor:
    return torch.zeros(n, n, dtype=torch.float64)


def diagonal(n: int, g: torch.Generator) -> Tensor:
    return torch.diag(10.0 ** (-12 * torch.rand(n, generator=g, dtype=torch.float64)))


def blocks(n: int, g: torch.Generator) -> Tensor:
    """Blocks of any kind, zero ones among them, over 24 decades."""
    made, left = [], n
    while left:
        size = int(torch.randint(1, left + 1, (), generator=g))
        kind = KINDS[int(torch.randint(len(KINDS), (), generator=g))]
        made.append(kind(size, g).double() * 10.0 ** float(24 * torch.rand((), generator=g) - 12))
        left -= size
    return torch.block_diag(*made)


KINDS = (low_rank, stiff, single, equal, laplacian, zero, diagonal)
matrices = st.builds(
    lambda kind, n, seed, scale: kind(n, generator(seed)).double() * 10.0**scale,
    st.sampled_from((*KINDS, blocks, blocks)),
    st.one_of(st.integers(1, 8), st.integers(1, 100), st.sampled_from([256, 511, 512])),
    st.integers(0, 2**31),
    st.one_of(st.just(0.0), st.floats(-30, 30)),
)


def least(matrix: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrix)[0])


def size(matrix: Tensor) -> float:
    """Largest |eigenvalue|."""
    return float(torch.linalg.eigvalsh(matrix).abs().max())


@settings(max_examples=150, deadline=None)
@given(matrices, BITS)
def test_semidefinite_stays_semidefinite(a: Tensor, bits: int) -> None:
    """λ_min >= -n eps |A|, where A itself (born in float32) is not below it already."""
    q, shift = conservative(a, bits)
    bound = len(a) * EPS * size(a)
    assert least(q) >= min(0.0, least(a)) - bound - TINY
    growth = (q - a).diagonal()
    assert float(shift) == pytest.approx(
        float(growth.mean()), rel=1e-9, abs=EPS * float(a.diagonal().abs().max())
    )
    assert float(growth.min()) >= -EPS * float(q.diagonal().max())


@settings(max_examples=60, deadline=None)
@given(matrices, BITS)
def test_why_the_growth_is_diagonally_dominant(a: Tensor, bits: int) -> None:
    """In 64-bit mantissas: each diagonal entry grows by at least the sum of the row's |errors|, the
    last bit aside."""
    q, _ = (part.numpy().astype(np.longdouble) for part in conservative(a, bits))
    error = q - a.numpy().astype(np.longdouble)
    diagonal = error.diagonal()
    others = np.abs(error).sum(axis=1) - np.abs(diagonal)
    assert (diagonal - others >= -4 * EPS * np.abs(q).max()).all()


@settings(max_examples=60, deadline=None)
@given(matrices, BITS)
def test_both_parts_have_only_so_many_levels(a: Tensor, bits: int) -> None:
    q, _ = conservative(a, bits)
    rest = q - torch.diag(q.diagonal())
    for part, full_scale in (
        (rest, (a - torch.diag(a.diagonal())).abs().max()),
        (q.diagonal(), q.diagonal().max()),
    ):
        steps = part / (full_scale / levels(bits)) if full_scale > 0 else part
        assert float((steps - steps.round()).abs().max()) <= 1e-6
        assert float(steps.abs().max()) <= levels(bits) + 1e-6


@settings(deadline=None)
@given(matrices.filter(lambda a: len(a) <= 100), BITS, st.integers(-60, 60))
def test_the_scale_of_a_factor_does_not_matter(a: Tensor, bits: int, exponent: int) -> None:
    """Powers of two come out exactly, away from float64's ends."""
    (q, shift), (larger, larger_shift) = (conservative(m, bits) for m in (a, a * 2.0**exponent))
    largest = float(q.abs().max())
    if largest and largest > 1e-200:
        torch.testing.assert_close(larger, q * 2.0**exponent, rtol=0, atol=1e-290)
        assert float(larger_shift) == pytest.approx(
            float(shift) * 2.0**exponent, rel=1e-12, abs=1e-290
        )


def plain(a: Tensor, bits: int, own_range: bool) -> Tensor:
    """Nearest levels: on one range, or on one range for the diagonal and one for the rest."""
    if not own_range:
        return quantize(a, bits)[0]
    main = torch.diag(a.diagonal())
    return quantize(main, bits)[0] + quantize(a - main, bits)[0]


@pytest.mark.parametrize("bits", range(3, 17))
@pytest.mark.parametrize("own_range", [False, True])
def test_plain_rounding_fails_on_some(bits: int, own_range: bool) -> None:
    """A search: among 50 random factors of low rank there is one that nearest levels make clearly
    indefinite."""
    found = 0
    for seed in range(50):
        a = low_rank(24, generator(seed))
        bound = len(a) * EPS * size(a)
        found += least(plain(a, bits, own_range)) < -1e3 * bound
        assert least(conservative(a, bits)[0]) >= -bound
    assert found > 0


def test_a_factor_that_plain_rounding_breaks_by_hand() -> None:
    """Three bits, levels in thirds: (1, 0.6; 0.6, 0.36) is singular, (1, 2/3; 2/3, 1/3) is not even
    semidefinite."""
    a = torch.tensor([[1.0, 0.6], [0.6, 0.36]], dtype=torch.float64)
    broken = plain(a, 3, own_range=False)
    torch.testing.assert_close(
        broken, torch.tensor([[3.0, 2.0], [2.0, 1.0]], dtype=torch.float64) / 3
    )
    assert least(broken) < -0.07
    assert least(conservative(a, 3)[0]) >= 0


@pytest.mark.parametrize("entry", [5e-324, 1e-320, TINY / 2, 1e-45, 1e-30, 1e30, 1e150, 1e300])
@pytest.mark.parametrize("bits", [3, 8, 16])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_ends_of_the_number_range(entry: float, bits: int, n: int) -> None:
    a = torch.full((n, n), entry, dtype=torch.float64)
    q, shift = conservative(a, bits)
    assert q.isfinite().all() and bool(shift.isfinite())
    assert least(q / q.max().clamp(min=TINY)) >= -n * EPS * n
    assert (
        q.diagonal().min() >= entry * (1 - 2 * EPS) - 5e-324
    )  # the last bit of a denormal is lost in halving


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
@pytest.mark.parametrize("bits", [None, 8])
def test_what_is_not_finite_is_refused_by_name(
    bad: float, place: tuple[int, int], bits: int | None
) -> None:
    a = torch.eye(4)
    a[place] = bad
    shift = torch.tensor(0.1)
    for computation in (kronecker.program, kronecker.program_roots):
        with pytest.raises(HybridsimError, match="expected .*finite.* got NaN or infinity"):
            computation(a, shift, input_bits=bits)
        with pytest.raises(HybridsimError, match="got NaN or infinity"):
            computation(torch.eye(4), torch.tensor(bad), input_bits=bits)
