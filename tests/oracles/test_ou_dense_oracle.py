"""Transitions of the dense system against expm and the Lyapunov equation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import normal
from hybridsim.circuits.dense import dense


def spd(seed: int, n: int, spread: float) -> torch.Tensor:
    """Eigenvalues over ``spread`` decades below 1; the half of them equal, as in a low-rank
    factor."""
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
    values = torch.logspace(0, -spread, n, dtype=torch.float64)
    values[n // 2 :] = 0.0
    return (q * values) @ q.T


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 24),
    st.floats(0, 4),
    st.floats(-2, 2).map(lambda e: 10.0**e),
)
def test_mean_and_covariance(seed: int, n: int, spread: float, h: float) -> None:
    damping, kappa0 = 0.05, 0.3
    matrix = spd(seed, n, spread)
    system, a = (
        dense(matrix, damping),
        (matrix + damping * torch.eye(n, dtype=torch.float64)).numpy(),
    )
    g = torch.Generator().manual_seed(seed)
    x, b = (torch.randn(n, 3, generator=g, dtype=torch.float64) for _ in range(2))
    e = scipy.linalg.expm(-a * h)
    expected = e @ x.numpy() + np.linalg.solve(a, b.numpy() - e @ b.numpy())
    got = system.relax(x, b, tau=h, kappa0=0.0, noise_seeds=None)
    np.testing.assert_allclose(got, expected, atol=1e-10 * np.abs(expected).max())
    stationary = scipy.linalg.solve_continuous_lyapunov(a, 2 * kappa0 * np.eye(n))
    m = noise_map(system, n, h, kappa0)
    np.testing.assert_allclose(
        m @ m.T, stationary - e @ stationary @ e.T, atol=1e-10 * kappa0 / damping
    )


def noise_map(system, n: int, h: float, kappa0: float) -> np.ndarray:  # noqa: ANN001
    """The matrix M of η = M z, from the noise of n seeds and the numbers z that they stand for."""
    zero, seeds = torch.zeros(n, n, dtype=torch.float64), list(range(n))
    eta = system.relax(zero, zero, tau=h, kappa0=kappa0, noise_seeds=seeds).numpy()
    z = torch.stack([normal(seed, zero[:, 0]) for seed in seeds], dim=1).numpy()
    return np.linalg.solve(z.T, eta.T).T


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.floats(1e-3, 30), min_size=2, max_size=5))
def test_sub_intervals_compose(seed: int, steps: list[float]) -> None:
    system = dense(spd(seed, 12, 2.0), 0.01)
    x, b = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    once = system.relax(x, b, tau=sum(steps), kappa0=0.0, noise_seeds=None)
    for h in steps:
        x = system.relax(x, b, tau=h, kappa0=0.0, noise_seeds=None)
    torch.testing.assert_close(x, once, rtol=1e-10, atol=1e-10 * float(once.abs().max()))


def test_stationary_noise_has_covariance_kappa0_over_a() -> None:
    """Chi square of whitened samples, two-sided at significance 1e-6."""
    n, kappa0, draws = 6, 0.2, 3000
    matrix = spd(1, n, 1.0)
    system = dense(matrix, 0.1)
    zero = torch.zeros(n, draws, dtype=torch.float64)
    x = system.relax(zero, zero, tau=1e6, kappa0=kappa0, noise_seeds=range(draws)).numpy()
    a = (matrix + 0.1 * torch.eye(n, dtype=torch.float64)).numpy()
    white = np.linalg.cholesky(a).T @ x / np.sqrt(kappa0)
    low, high = scipy.stats.chi2.ppf([5e-7, 1 - 5e-7], df=white.size)
    assert low < (white**2).sum() < high
    products = (white @ white.T / np.sqrt(draws))[np.triu_indices(n, 1)]
    assert np.abs(products).max() < scipy.stats.norm.isf(5e-7 / len(products))


def test_a_column_does_not_depend_on_its_neighbours() -> None:
    system = dense(spd(2, 5, 1.0), 0.1)
    x, b = torch.randn(2, 5, 3, dtype=torch.float64)
    settings_ = {"tau": 0.7, "kappa0": 0.1}
    together = system.relax(x, b, noise_seeds=[4, 5, 6], **settings_)
    alone = system.relax(x[:, 1:2], b[:, 1:2], noise_seeds=[5], **settings_)
    torch.testing.assert_close(together[:, 1:2], alone, rtol=1e-12, atol=1e-13)


@given(st.floats(0.01, 2.0), st.floats(0.1, 50.0))
def test_a_negative_eigenvalue_runs_away_as_the_equation_says(rate: float, h: float) -> None:
    system = dense(torch.diag(torch.tensor([1.0, -rate - 0.1], dtype=torch.float64)), 0.1)
    assert float(system.spectrum[0]) == pytest.approx(-rate)
    x, b = torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    got = system.relax(x, b, tau=h, kappa0=0.0, noise_seeds=None)[1, 0]
    assert float(got) == pytest.approx(np.exp(rate * h) + np.expm1(rate * h) / rate, rel=1e-9)


def test_a_runaway_beyond_float64_does_not_stop_the_run() -> None:
    system = dense(-torch.eye(3), 0.0)
    x = torch.ones(3, 1, dtype=torch.float64)
    assert not system.relax(x, x, tau=1e12, kappa0=0.1, noise_seeds=[1]).isfinite().any()
