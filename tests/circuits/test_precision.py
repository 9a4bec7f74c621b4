"""Quantizers: nearest levels, clipping, and definiteness kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.precision import (
    conservative,
    largest_magnitude,
    levels,
    quantize,
    quantize_columns,
    quantize_jacobian,
)

bits_ = st.integers(2, 24)
EPS = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny
TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
EXTREMES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -5e-324, 1e308, 3e38, -6e4)
NOT_NUMBERS = (float("inf"), float("-inf"), float("nan"))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(st.integers(0, 2**31), bits_, st.floats(-20, 20).map(lambda e: 10.0**e), st.booleans())
def test_nearest_level_within_half_a_step(seed: int, bits: int, scale: float, single: bool) -> None:
    x = scale * torch.randn(7, 11, generator=generator(seed), dtype=torch.float64)
    x = x.float() if single else x
    q, clipped = quantize(x, bits)
    step = float(x.abs().max()) / (2 ** (bits - 1) - 1)
    eps = torch.finfo(x.dtype).eps
    assert q.dtype == x.dtype and int(clipped) == 0
    assert float((q - x).abs().max()) <= step / 2 * (1 + 1e-6) + 2 * eps * float(x.abs().max())
    ratio = q.double() / step
    assert float((ratio - ratio.round()).abs().max()) <= 4 * eps * 2**bits
    assert torch.equal(quantize(-x, bits)[0], -q)
    torch.testing.assert_close(quantize(q, bits, float(x.abs().max()))[0], q, rtol=2 * eps, atol=0)


@given(st.integers(0, 2**31), st.integers(2, 16), st.floats(0.05, 3.0))
def test_clipping_counts_what_it_cut(seed: int, bits: int, full_scale: float) -> None:
    x = torch.randn(500, generator=generator(seed), dtype=torch.float64)
    q, clipped = quantize(x, bits, full_scale)
    step = full_scale / levels(bits)
    assert float(q.abs().max()) <= full_scale * (1 + 1e-12)
    assert int(clipped) == int((x.abs() > full_scale + step / 2).sum())
    kept = x.abs() <= full_scale
    assert float((q - x)[kept].abs().max()) <= step / 2 * (1 + 1e-9)


def test_ideal_and_empty_and_zero() -> None:
    x = torch.randn(5)
    assert torch.equal(quantize(x, None)[0], x)
    assert torch.equal(quantize(torch.zeros(3), 4)[0], torch.zeros(3))
    assert quantize(torch.zeros(0, 3), 4)[0].shape == (0, 3)
    assert len(quantize(torch.linspace(-1, 1, 999), 3)[0].unique()) == 7


def test_chunks_agree_with_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(30, 41).T  # not contiguous
    whole = quantize(x, 8, 1.0)
    monkeypatch.setattr("hybridsim.circuits.precision._CPU_CHUNK", 7)
    parts = quantize(x, 8, 1.0)
    assert torch.equal(whole[0], parts[0]) and int(whole[1]) == int(parts[1]) > 0


def plain(x: torch.Tensor, bits: int, largest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition in one expression: nearest level of clip(x / step), in float64, rounded
    once."""
    top = 2 ** (bits - 1) - 1
    step = (largest.double() / top).clamp(min=TINY)
    level = torch.round(x.double() / step)
    return (level.clamp(-top, top) * step).to(x.dtype), (level.abs() > top).sum()


def identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Same type, shape, numbers and signs of zeros, NaN in the same places."""
    signs = torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())
    close = torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    return a.dtype == b.dtype and a.shape == b.shape and signs and close


@st.composite
def awkward(draw: st.DrawFn) -> torch.Tensor:
    """Matrices of all types and sizes with zeros, denormals, ties, large numbers, infinities,
    NaN."""
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x = torch.randn(rows, columns, generator=generator(draw(st.integers(0, 2**31)))).double()
    x = x * 10.0 ** draw(st.sampled_from([0, 0, 0, 3, -30, -300, -308]))
    if draw(st.booleans()):
        x = torch.round(x * 2) / 2  # ties on many full scales
    specials = EXTREMES + (NOT_NUMBERS if draw(st.booleans()) else ())
    for value in draw(st.lists(st.sampled_from(specials), max_size=4)):
        x[draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))] = value
    x = x.to(draw(st.sampled_from(TYPES)))
    view = draw(st.sampled_from(["whole", "transposed", "strided", "zero"]))
    if view == "zero":
        return torch.zeros_like(x)
    return {"whole": x, "transposed": x.T, "strided": x[::2, ::3]}[view]


full_scales = st.none() | st.sampled_from([0.5, 1.0, 3.0, 1e-320, 1e300]) | st.floats(1e-3, 1e3)


@settings(deadline=None)
@given(awkward(), bits_, full_scales, st.integers(1, 2000))
def test_rounding_in_place_is_the_definition_to_the_last_bit(
    x: torch.Tensor, bits: int, full_scale: float | None, chunk: int
) -> None:
    before, largest = x.clone(), x.abs().amax()
    scale = largest if full_scale is None else torch.tensor(full_scale, dtype=torch.float64)
    expected, count = plain(x, bits, scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridsim.circuits.precision._CPU_CHUNK", chunk)
        values, clipped = quantize(x, bits, full_scale)
    assert identical(values, expected) and torch.equal(clipped, count)
    assert identical(x, before) and identical(largest_magnitude(x), largest)


@settings(deadline=None)
@given(st.integers(3, 16), st.floats(0.1, 10))
def test_ties_and_their_neighbours_round_as_the_quotient_does(bits: int, full_scale: float) -> None:
    """A product with 1/step falls on the other side of some of them."""
    top = levels(bits)
    middles = (torch.arange(top, dtype=torch.float64) + 0.5) * (full_scale / top)
    up, down = (torch.nextafter(middles, torch.tensor(float(end)).double()) for end in (99, -99))
    x = torch.cat([middles, up, down, -middles])
    expected, count = plain(x, bits, torch.tensor(full_scale, dtype=torch.float64))
    values, clipped = quantize(x, bits, full_scale)
    assert identical(values, expected) and torch.equal(clipped, count)


@settings(deadline=None)
@given(awkward(), bits_, st.integers(1, 2000))
def test_columns_are_rounded_by_the_definition_to_the_last_bit(
    x: torch.Tensor, bits: int, chunk: int
) -> None:
    before = x.clone()
    columns = [plain(column, bits, column.abs().amax())[0] for column in x.unbind(dim=1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridsim.circuits.precision._CPU_CHUNK", chunk)
        rounded = quantize_columns(x, bits)
    assert identical(rounded, torch.stack(columns, dim=1)) and identical(x, before)


@settings(deadline=None)
@given(awkward(), bits_)
def test_conservative_off_diagonals_follow_the_definition_to_the_last_bit(
    x: torch.Tensor, bits: int
) -> None:
    side = min(x.shape)
    matrix = x[:side, :side].double()
    symmetric = matrix / 2 + matrix.T / 2
    rest = symmetric - torch.diag(symmetric.diagonal())
    expected, _ = plain(rest, bits, rest.abs().amax())
    off = ~torch.eye(side, dtype=torch.bool)
    assert identical(conservative(matrix, bits)[0][off] + 0.0, expected[off] + 0.0)


@given(st.integers(0, 2**31), bits_, st.floats(-300, 300))
def test_an_automatic_range_clips_nothing(seed: int, bits: int, exponent: float) -> None:
    """Why ``quantize`` does not look: whatever the rounding of step and quotient, max |x| is on the
    top level."""
    x = 10.0**exponent * torch.randn(500, generator=generator(seed), dtype=torch.float64)
    _, clipped = plain(x, bits, x.abs().amax())
    assert int(clipped) == 0


@pytest.mark.parametrize("bits", [1, 25, 8.0])
def test_bad_bits(bits: float) -> None:
    with pytest.raises(ValueError, match="expected 2 to 24 bits"):
        quantize(torch.ones(2), bits)
    with pytest.raises(ValueError, match="full scale > 0"):
        quantize(torch.ones(2), 8, 0.0)


@given(st.integers(0, 2**31), bits_, st.floats(0.1, 4))
def test_a_rounded_jacobian_keeps_the_curvature_semidefinite(
    seed: int, bits: int, spread: float
) -> None:
    g = generator(seed)
    j = torch.randn(6, 20, generator=g, dtype=torch.float64) * torch.logspace(
        0, -spread, 20, dtype=torch.float64
    )
    p = torch.softmax(torch.randn(2, 3, generator=g, dtype=torch.float64), dim=1)
    h, _ = conservative(torch.diag_embed(p) - p[:, :, None] * p[:, None, :], bits)
    jq = quantize_jacobian(j, bits)
    a = jq.T @ torch.block_diag(*h) @ jq
    assert float(torch.linalg.eigvalsh(a)[0]) >= -20 * EPS * float(a.norm())


@given(
    st.integers(0, 2**31),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(2, 16),
    st.floats(-8, 8),
)
def test_semidefinite_stays_semidefinite(
    seed: int, n: int, rank: int, bits: int, exponent: float
) -> None:
    factor = torch.randn(n, rank, generator=generator(seed), dtype=torch.float64) * 10.0**exponent
    a = factor @ factor.T
    q, shift = conservative(a, bits)
    bound = n * EPS * float(a.norm())
    assert float(torch.linalg.eigvalsh(q)[0]) >= -bound
    assert float(torch.linalg.eigvalsh(q - a)[0]) >= -bound
    assert torch.equal(q, q.T)
    assert float(shift) == pytest.approx(float((q - a).diagonal().mean()), rel=1e-9, abs=bound)


@given(st.integers(0, 2**31), st.integers(2, 16))
def test_entries_lie_on_levels_and_errors_are_small(seed: int, bits: int) -> None:
    a = torch.randn(9, 9, generator=generator(seed), dtype=torch.float64)
    a = a @ a.T
    q, _ = conservative(a, bits)
    rest, rest_q = a - torch.diag(a.diagonal()), q - torch.diag(q.diagonal())
    step = float(rest.abs().max()) / levels(bits)
    assert float((rest_q - rest).abs().max()) <= step / 2 * (1 + 1e-9)
    for values, unit in (
        (rest_q / step, 1.0),
        (q.diagonal() / (q.diagonal().max() / levels(bits)), 1.0),
    ):
        assert float((values - values.round()).abs().max()) < 1e-9 * unit
    errors = (rest_q - rest).abs().sum(dim=1)
    diagonal_step = float((a.diagonal() + errors).max()) / levels(bits)
    growth = q.diagonal() - a.diagonal() - errors
    assert float(growth.min()) >= -1e-12 * float(a.max()) and float(
        growth.max()
    ) <= diagonal_step * (1 + 1e-9)


@given(st.integers(0, 2**31), st.integers(2, 12))
def test_each_block_has_its_own_scale(seed: int, bits: int) -> None:
    """A confident sample's tiny Hessian is rounded as if it stood alone."""
    g = generator(seed)
    p = torch.softmax(
        torch.randn(4, 5, generator=g, dtype=torch.float64)
        * torch.tensor([[1.0], [5], [20], [40]]),
        1,
    )
    h = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    together, shifts = conservative(h, bits)
    for block, q, shift in zip(h, together, shifts, strict=True):
        alone, its_shift = conservative(block, bits)
        assert torch.equal(alone, q) and torch.equal(its_shift, shift)


def test_zero_ideal_single_and_asymmetric_matrices() -> None:
    zero = torch.zeros(3, 4, 4)
    assert torch.equal(conservative(zero, 4)[0], zero.double())
    a = torch.tensor([[2.0, 1.0], [0.0, 2.0]])
    ideal, shift = conservative(a, None)
    assert torch.equal(ideal, torch.tensor([[2.0, 0.5], [0.5, 2.0]]).double()) and float(shift) == 0
    one, shift = conservative(torch.tensor([[3.0]]), 2)
    assert one.item() == 3.0 and float(shift) == 0


def test_the_shift_grows_as_n_quarters_of_a_step() -> None:
    """Mean |rounding error| is a quarter of a step; the diagonal's own rounding up adds half of its
    step."""
    factor = torch.randn(300, 300, generator=generator(0), dtype=torch.float64)
    a = factor @ factor.T / 300
    _, shift = conservative(a, 8)
    off = float((a - torch.diag(a.diagonal())).abs().max()) / 127
    expected = 299 * off / 4 + (float(a.max()) + 299 * off / 4) / 127 / 2
    assert float(shift) == pytest.approx(expected, rel=0.05)
