"""The low-rank system's transitions against dense references: singular values, expm, Lyapunov
equation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import normal
from hybridsim.circuits.low_rank import LowRank, Vector, lowrank

B, D, N = 5, 4, 48
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


class Case(NamedTuple):
    system: LowRank
    rooted: np.ndarray  # J̃ (r, N) float64


def build(
    seed: int, dtype: torch.dtype, root: str, condition: float, damping: float, size: int = N
) -> Case:
    """A random system whose largest s is ``condition`` times the damping, the others spread
    below."""
    g = torch.Generator().manual_seed(seed)
    rank = B * D
    u = torch.linalg.qr(torch.randn(rank, rank, generator=g, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(size, min(rank, size), generator=g, dtype=torch.float64))[0]
    sigma = torch.logspace(0, -math.log10(condition) / 2 - 1, v.shape[1], dtype=torch.float64)
    jacobian = (u[:, : v.shape[1]] * sigma) @ v.T
    blocks = None
    if root == "softmax":
        p = torch.softmax(torch.randn(B, D, generator=g, dtype=torch.float64), dim=1)
        blocks = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    scale = B**-0.5
    top = lowrank(jacobian, blocks, scale, 0.0).eigenvalues[-1]
    jacobian = (jacobian * torch.sqrt(condition * damping / top)).to(dtype)
    full = torch.block_diag(*blocks) if blocks is not None else torch.eye(rank, dtype=torch.float64)
    return Case(
        lowrank(jacobian, blocks, scale, damping), (scale * full.T @ jacobian.double()).numpy()
    )


def apply(rooted: np.ndarray, damping: float, f, vector: np.ndarray) -> np.ndarray:  # noqa: ANN001
    """f(A) v from the singular values of J̃: no Gram matrix, no cancellation."""
    _, sigma, wt = np.linalg.svd(rooted, full_matrices=True)
    rates = damping + np.pad(sigma**2, (0, len(wt) - len(sigma)))
    return wt.T @ (f(rates) * (wt @ vector))


def functions(h: float, kappa0: float) -> dict:
    psi = lambda a, t: -np.expm1(-a * t) / a  # noqa: E731
    return {
        "decay": lambda a: np.exp(-a * h),
        "response": lambda a: psi(a, h),
        "spread": lambda a: np.sqrt(kappa0 * psi(a, 2 * h)),
    }


def moved(system: LowRank, which: str, v: Vector, h: float, kappa0: float) -> torch.Tensor:
    """f(A) v through the public transition."""
    zero = system.vector()
    if which == "decay":
        return system.full(system.transition(v, zero, None, tau=h, kappa0=0.0))
    if which == "response":
        return system.full(system.transition(zero, v, None, tau=h, kappa0=0.0))
    return system.full(system.transition(zero, zero, v.perp, tau=h, kappa0=kappa0))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    root=st.sampled_from(["softmax", "none"]),
    condition=st.floats(0, 5).map(lambda e: 10.0**e),
    damping=st.floats(-3, 0).map(lambda e: 10.0**e),
    h=st.floats(-3, 5).map(lambda e: 10.0**e),
    given_as=st.sampled_from(["random", "span", "coeff"]),
    kappa0=st.floats(1e-6, 1.0),
)
def test_every_function_of_a(seed, dtype, root, condition, damping, h, given_as, kappa0) -> None:  # noqa: ANN001
    system, rooted = build(seed, dtype, root, condition, damping)
    g = torch.Generator().manual_seed(seed + 1)
    coeff = torch.randn(B * D, generator=g, dtype=torch.float64)
    random = torch.randn(N, generator=g, dtype=torch.float64)
    in_span = torch.from_numpy(rooted.T) @ coeff
    v = (
        system.vector(coeff=coeff)
        if given_as == "coeff"
        else system.vector(in_span if given_as == "span" else random)
    )
    true = (v.perp.double() + torch.from_numpy(rooted.T) @ v.coeff).numpy()
    for which, f in functions(h, kappa0).items():
        if which == "spread" and given_as == "coeff":
            continue
        expected = apply(rooted, damping, f, true)
        got = moved(system, which, v, h, kappa0).double().numpy()
        scale = max(np.linalg.norm(expected), f(np.array(damping)) * np.linalg.norm(true))
        underflow = 1e-30 * np.linalg.norm(true)  # of float32, where exp(-λh) leaves its range
        error = np.linalg.norm(got - expected)
        assert error <= TOLERANCE[dtype] * scale + underflow, (which, error / scale)


def matrices(case: Case) -> np.ndarray:
    return case.rooted.T @ case.rooted + case.system.damping * np.eye(case.rooted.shape[1])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["softmax", "none"]),
    st.floats(0.01, 20),
    st.integers(6, 40),
)
def test_mean_and_covariance_against_expm_and_lyapunov(
    seed: int, root: str, h: float, size: int
) -> None:
    """Also for fewer parameters than rows of J, where K is singular."""
    case, kappa0 = build(seed, torch.float64, root, 100.0, 0.05, size), 0.3
    system, a = case.system, matrices(case)
    g = torch.Generator().manual_seed(seed)
    state = system.vector(torch.randn(size, generator=g), torch.randn(B * D, generator=g))
    drive = system.vector(torch.randn(size, generator=g), torch.randn(B * D, generator=g))
    x, b = system.full(state).numpy(), system.full(drive).numpy()
    e = scipy.linalg.expm(-a * h)
    expected = e @ x + np.linalg.solve(a, b - e @ b)
    got = system.full(system.relax(state, drive, tau=h, kappa0=0.0, noise_seeds=[0])).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-10 * np.abs(expected).max())
    stationary = scipy.linalg.solve_continuous_lyapunov(a, 2 * kappa0 * np.eye(size))
    np.testing.assert_allclose(
        covariance(system, h, kappa0), stationary - e @ stationary @ e.T, atol=1e-10 * kappa0 / 0.05
    )


def covariance(system: LowRank, h: float, kappa0: float) -> np.ndarray:
    """M Mᵀ with M the map of the normal numbers, column by column."""
    zero = system.vector()
    units = torch.eye(system.size, dtype=torch.float64)
    columns = [system.full(system.transition(zero, zero, e, tau=h, kappa0=kappa0)) for e in units]
    m = torch.stack(columns, dim=1).numpy()
    return m @ m.T


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.floats(1e-3, 30), min_size=2, max_size=4))
def test_unequal_sub_intervals_have_the_law_of_one(seed: int, steps: list[float]) -> None:
    """Means compose; covariances obey S(h1 + h2) = E(h2) S(h1) E(h2) + S(h2)."""
    case, kappa0 = build(seed, torch.float64, "softmax", 1e3, 0.1, 24), 0.2
    system, a = case.system, matrices(case)
    g = torch.Generator().manual_seed(seed)
    start = state = system.vector(torch.randn(24, generator=g), torch.randn(B * D, generator=g))
    drive = system.vector(torch.randn(24, generator=g), torch.randn(B * D, generator=g))
    chained = np.zeros((24, 24))
    for h in steps:
        state = system.relax(state, drive, tau=h, kappa0=0.0, noise_seeds=[0])
        e = scipy.linalg.expm(-a * h)
        chained = e @ chained @ e + covariance(system, h, kappa0)
    once = system.full(system.relax(start, drive, tau=sum(steps), kappa0=0.0, noise_seeds=[0]))
    torch.testing.assert_close(
        system.full(state), once, rtol=0, atol=1e-10 * float(once.abs().max())
    )
    np.testing.assert_allclose(
        chained, covariance(system, sum(steps), kappa0), atol=1e-10 * kappa0 / 0.1
    )


def test_drawn_noise_has_the_exact_law() -> None:
    """Whitened samples: chi square of all squares, two-sided at significance 1e-6; correlations
    likewise."""
    case, kappa0, h, draws = build(7, torch.float64, "softmax", 300.0, 0.1, 16), 0.5, 2.0, 4000
    system = case.system
    start = system.vector(torch.ones(16))
    mean = system.full(system.relax(start, start, tau=h, kappa0=0.0, noise_seeds=[0])).numpy()
    x = [
        system.full(system.relax(start, start, tau=h, kappa0=kappa0, noise_seeds=[k])).numpy()
        for k in range(draws)
    ]
    factor = np.linalg.cholesky(covariance(system, h, kappa0))
    white = np.linalg.solve(factor, (np.array(x) - mean).T)
    low, high = scipy.stats.chi2.ppf([5e-7, 1 - 5e-7], df=white.size)
    assert low < (white**2).sum() < high
    products = (white @ white.T / math.sqrt(draws))[np.triu_indices(16, 1)]
    assert np.abs(products).max() < scipy.stats.norm.isf(5e-7 / len(products))
    assert np.abs(white.mean(axis=1) * math.sqrt(draws)).max() < scipy.stats.norm.isf(5e-7 / 16)


def test_two_hundred_thousand_parameters_without_a_square_matrix() -> None:
    """At infinite time A x = b: checked by multiplying, in float32, with 320 rows."""
    g = torch.Generator().manual_seed(3)
    jacobian = torch.randn(320, 200_000, generator=g) * 1e-2
    system = lowrank(jacobian, None, 32**-0.5, 0.1)
    b = torch.randn(200_000, generator=g)
    drive = system.vector(b, torch.randn(320, generator=g))
    state = system.relax(system.vector(), drive, tau=1e12, kappa0=0.0, noise_seeds=[0])
    x = system.full(state)
    back = system.full(system.vector(0.1 * x, system.project(x)))
    target = system.full(drive)
    assert float((back - target).norm() / target.norm()) < 1e-5


def test_noise_depends_on_the_seed_alone() -> None:
    v = torch.empty(10, dtype=torch.float64)
    assert torch.equal(normal(2**62, v), normal(2**62, v))
    assert not torch.equal(normal(1, v), normal(2, v))
    state = torch.random.get_rng_state()
    normal(5, v)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_project_and_full_are_adjoint(dtype: torch.dtype) -> None:
    system, rooted = build(11, dtype, "softmax", 1e3, 0.1)
    v = torch.randn(N, 3, dtype=dtype)
    expected = torch.from_numpy(rooted) @ v.double()
    torch.testing.assert_close(system.project(v), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(system.project(v[:, 0]), expected[:, 0], rtol=1e-12, atol=1e-12)
    full = system.full(system.vector(coeff=torch.ones(B * D)))
    np.testing.assert_allclose(
        full.double().numpy(), rooted.sum(axis=0), atol=1e-6 * np.abs(rooted).max()
    )
