"""Passes over a Jacobian by blocks are the plain products, whatever the blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridsim.circuits import rows as passes
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank
from hybridsim.circuits.rows import as_rows

seeds, types = st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64])
shapes = st.tuples(st.integers(1, 70), st.integers(1, 300))


@contextmanager
def small_blocks(elements: int, gram_rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_CPU_ELEMENTS", elements)
        patch.setattr(passes, "_GRAM_ROWS", gram_rows)
        yield


def matrix(seed: int, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(deadline=None)
@given(seeds, shapes, types, st.integers(1, 20000), st.integers(1, 50))
def test_passes_are_the_plain_products(
    seed: int, shape: tuple[int, int], dtype: torch.dtype, elements: int, gram_rows: int
) -> None:
    jacobian = matrix(seed, shape, dtype)
    before, wide = jacobian.clone(), jacobian.double()
    vectors, weights = matrix(seed + 1, (shape[1], 3), dtype), matrix(seed, (shape[0], 1), dtype)
    weights, base = weights[:, 0].double(), vectors[:, 0]
    with small_blocks(elements, gram_rows):
        passed = as_rows(jacobian)
        gram, (rows, columns) = passed.gram(), passed.absolute_sums()
        product = passed.times(vectors)
        back = passed.transposed_times(weights, base)
    exact = {"rtol": 1e-12, "atol": 1e-12 * shape[1]}
    torch.testing.assert_close(gram, wide @ wide.T, **exact)
    assert torch.equal(gram, gram.T)
    torch.testing.assert_close(product, wide @ vectors.double(), **exact)
    torch.testing.assert_close(rows, wide.abs().sum(dim=1), **exact)
    torch.testing.assert_close(columns, wide.abs().sum(dim=0), **exact)
    assert back.dtype == dtype
    torch.testing.assert_close(back, (base.double() + wide.T @ weights).to(dtype))
    assert torch.equal(jacobian, before)


def test_passes_give_shapes_without_numbers() -> None:
    jacobian = torch.empty(70, 9000, device="meta")
    passed = as_rows(jacobian)
    assert passed.gram().shape == (70, 70)
    assert [s.shape for s in passed.absolute_sums()] == [(70,), (9000,)]
    assert passed.times(torch.empty(9000, 2, device="meta")).shape == (70, 2)


def settle_case(seed: int, dtype: torch.dtype) -> tuple[LowRank, Vector, Vector]:
    system = lowrank(
        matrix(seed, (6, 40), dtype),
        matrix(seed, (18, 3), dtype).view(2, 9, 3)[:, :3].contiguous(),
        0.7,
        0.05,
    )
    state, drive = (
        system.vector(*(matrix(seed + k, (1, n), dtype)[0] for n in (40, 6))) for k in (1, 2)
    )
    return system, state, drive


@settings(deadline=None)
@given(seeds, types, st.sampled_from([0.0, 0.01]), st.floats(0, 50))
@example(0, torch.float32, 0.01, 5e-324)
def test_a_settle_may_share_its_outputs(
    seed: int, dtype: torch.dtype, kappa0: float, tau: float
) -> None:
    """Transition and dissipation take J p and J q from outside, and give the same to the last
    bit."""
    system, state, drive = settle_case(seed, dtype)
    outputs = system.outputs(state, drive)
    perps = torch.stack([state.perp, drive.perp], dim=1)
    expected = system.jacobian.tensor.double() @ perps.double()
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    alone = system.relax(state, drive, tau=tau, kappa0=kappa0, noise_seeds=[seed])
    shared = system.relax(state, drive, tau=tau, kappa0=kappa0, noise_seeds=[seed], outputs=outputs)
    assert torch.equal(alone.perp, shared.perp) and torch.equal(alone.coeff, shared.coeff)
    own = system.dissipation(state, drive, tau=tau, kappa0=kappa0)
    given_ = system.dissipation(state, drive, tau=tau, kappa0=kappa0, outputs=outputs)
    for name, energy in own.stages.items():
        assert torch.equal(energy, given_.stages[name])
    for name, share in own.saturation.items():
        assert torch.equal(share, given_.saturation[name])


@settings(deadline=None)
@given(seeds, types, st.floats(0.01, 50))
def test_the_input_dissipates_the_whole_drive(seed: int, dtype: torch.dtype, tau: float) -> None:
    system, state, drive = settle_case(seed, dtype)
    full = (
        drive.perp.double()
        + system.jacobian.tensor.double().T @ system.unrooted(drive.coeff[:, None])[:, 0]
    )
    with small_blocks(64 * 6, 48):
        heat = system.dissipation(state, drive, tau=tau, kappa0=0.0)
    b_fs = heat.full_scales["b"]
    expected = tau * full.square().sum() / (b_fs * heat.full_scales["x"])
    torch.testing.assert_close(heat.stages["input"], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(heat.saturation["b"] * b_fs, full.abs().amax(), rtol=1e-12, atol=0)


@settings(deadline=None)
@given(seeds, st.floats(0.01, 50))
def test_a_transition_is_the_sum_of_what_state_drive_and_noise_do_alone(
    seed: int, tau: float
) -> None:
    system, state, drive = settle_case(seed, torch.float64)
    noise, rest = matrix(seed + 3, (1, 40), torch.float64)[0], system.vector()
    run = {"tau": tau, "kappa0": 0.5}
    together = system.transition(state, drive, noise, **run)
    alone = [
        system.transition(*parts, **run)
        for parts in ((state, rest, None), (rest, drive, None), (rest, rest, noise))
    ]
    for kind in ("perp", "coeff"):
        total = sum(getattr(vector, kind) for vector in alone)
        torch.testing.assert_close(getattr(together, kind), total, rtol=1e-9, atol=1e-9)
