"""Limits, errors and small public functions of the transitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.circuits.base import settling_tau
from hybridsim.circuits.dense import dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.errors import HybridsimError


def small(damping: float = 0.1, dtype: torch.dtype = torch.float64):  # noqa: ANN201
    jacobian = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return lowrank(jacobian, None, 0.5, damping)


def test_no_time_changes_nothing_even_with_noise() -> None:
    system = small()
    state = system.vector(torch.randn(12), torch.randn(4))
    same = system.relax(state, state, tau=0.0, kappa0=1.0, noise_seeds=[1])
    assert torch.equal(same.perp, state.perp) and torch.equal(same.coeff, state.coeff)
    x = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(dense(torch.eye(3)).relax(x, x, tau=0, kappa0=1.0, noise_seeds=[1, 2]), x)


def test_a_short_time_is_one_euler_step() -> None:
    system, h = small(), 1e-7
    x, b = torch.randn(2, 12, dtype=torch.float64)
    a = system.jacobian.tensor.T @ system.jacobian.tensor / 4 + 0.1 * torch.eye(
        12, dtype=torch.float64
    )
    got = system.full(
        system.relax(system.vector(x), system.vector(b), tau=h, kappa0=0.0, noise_seeds=[0])
    )
    torch.testing.assert_close((got - x) / h, b - a @ x, rtol=1e-5, atol=1e-5)


def test_zero_damping_and_zero_jacobian_diffuse_freely() -> None:
    """A = 0: x grows by b h, its noise has variance 2 kappa0 h."""
    system = lowrank(torch.zeros(4, 1000, dtype=torch.float64), None, 1.0, 0.0)
    zero, b = system.vector(), system.vector(torch.ones(1000))
    moved = system.relax(zero, b, tau=3.0, kappa0=0.0, noise_seeds=[0])
    torch.testing.assert_close(system.full(moved), 3.0 * torch.ones(1000, dtype=torch.float64))
    noise = system.full(system.relax(zero, zero, tau=3.0, kappa0=0.5, noise_seeds=[0]))
    z = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(noise, math.sqrt(3.0) * z)


@pytest.mark.parametrize(
    "bad", [{"tau": -1.0}, {"tau": math.inf}, {"tau": math.nan}, {"kappa0": -1.0}]
)
def test_bad_numbers_are_refused(bad: dict[str, float]) -> None:
    numbers = {"tau": 1.0, "kappa0": 0.0} | bad
    system = small()
    with pytest.raises(ValueError, match="expected a finite"):
        system.relax(system.vector(), system.vector(), noise_seeds=[0], **numbers)
    x = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected a finite"):
        dense(torch.eye(2)).relax(x, x, noise_seeds=[0], **numbers)


def test_bad_systems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a root \(b, d, d\) with b d = 4"):
        lowrank(torch.ones(4, 9), torch.ones(2, 3, 3), 1.0, 0.1)
    with pytest.raises(ValueError, match="expected damping >= 0"):
        lowrank(torch.ones(4, 9), None, 1.0, -0.1)
    with pytest.raises(ValueError, match="floating-point Jacobian"):
        lowrank(torch.ones(4, 9, dtype=torch.int64), None, 1.0, 0.1)
    with pytest.raises(HybridsimError, match="finite"):
        lowrank(torch.full((4, 9), math.nan), None, 1.0, 0.1)
    with pytest.raises(ValueError, match="square"):
        dense(torch.ones(2, 3))
    with pytest.raises(HybridsimError, match="finite"):
        dense(torch.full((2, 2), math.inf))
    with pytest.raises(ValueError, match="expected 1 noise seeds, got none"):
        dense(torch.eye(2)).relax(
            torch.ones(2, 1),
            torch.ones(2, 1),
            tau=1.0,
            kappa0=0.1,
            noise_seeds=None,
        )


@given(st.integers(1, 12), st.integers(1, 20), st.floats(0.001, 1.0))
def test_margin_is_the_smallest_eigenvalue(rank: int, size: int, damping: float) -> None:
    jacobian = torch.randn(rank, size, dtype=torch.float64)
    a = jacobian.T @ jacobian + damping * torch.eye(size, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(a)[0]
    torch.testing.assert_close(
        lowrank(jacobian, None, 1.0, damping).spectrum[0], expected, rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(dense(a).spectrum[0], expected, rtol=1e-9, atol=1e-12)


@given(st.floats(1, 24), st.floats(1e-4, 10))
def test_settling_leaves_one_part_in_two_to_the_bits(bits: float, rate: float) -> None:
    assert math.exp(-rate * settling_tau(bits, rate)) == pytest.approx(2.0**-bits, rel=1e-9)
    with pytest.raises(ValueError, match="positive"):
        settling_tau(bits, 0.0)


def test_shapes_follow_without_data() -> None:
    jacobian = torch.empty(6, 20, device="meta")
    system = lowrank(jacobian, torch.empty(2, 3, 3, device="meta", dtype=torch.float64), 1.0, 0.1)
    state = system.relax(system.vector(), system.vector(), tau=1.0, kappa0=0.1, noise_seeds=[0])
    assert system.full(state).shape == (20,) and state.coeff.shape == (6,)
    factor = dense(torch.empty(5, 5, device="meta"))
    x = torch.empty(5, 2, device="meta", dtype=torch.float64)
    assert factor.relax(x, x, tau=1.0, kappa0=0.1, noise_seeds=[1, 2]).shape == (5, 2)


def test_rounding_never_makes_a_semidefinite_system_unstable() -> None:
    """K of 12 rows and rank 2: its zero eigenvalues are computed as about ±1e-15 times the
    largest."""
    thin = 1e4 * torch.randn(12, 2, dtype=torch.float64) @ torch.randn(2, 50, dtype=torch.float64)
    assert float(lowrank(thin, None, 1.0, 0.0).eigenvalues.min()) >= 0


def test_a_dense_matrix_is_symmetrised() -> None:
    a = torch.randn(5, 5, dtype=torch.float64)
    torch.testing.assert_close(dense(a).eigenvalues, dense((a + a.T) / 2).eigenvalues)
    assert torch.equal(dense(a).matrix, dense(a).matrix.T)
