"""Method 1 from noise: samples of a device at rest, their covariance, its error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from forbid import NoSolver
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridsim.algorithms.kfac import device as kronecker
from hybridsim.algorithms.kfac.algebra import covariance
from hybridsim.circuits.dense import dense
from hybridsim.operations.count import count

ALPHA = 1e-6  # significance of each test, two-sided
COPIES = 64


def factor(seed: int, n: int, rank: int) -> Tensor:
    x = torch.randn(rank, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.T @ x / rank


def sampled(matrix: Tensor, shift: float, **changes) -> Tensor:
    run = {
        "samples": 500,
        "spacing_tau": 1.0,
        "settle_tau": 1.0,
        "kappa0": 0.1,
        "noise_seed": 0,
    } | changes
    with NoSolver():
        system = kronecker.program(
            matrix, torch.tensor(shift, dtype=torch.float64), input_bits=None
        ).value
        return kronecker.sample(system, None, None, **run).value


def assert_standard_normal(white: np.ndarray) -> None:
    """Sum of squares against chi square, products of rows against a normal, at ALPHA."""
    low, high = scipy.stats.chi2.ppf([ALPHA / 2, 1 - ALPHA / 2], df=white.size)
    assert low < (white**2).sum() < high
    products = (white @ white.T / math.sqrt(white.shape[1]))[np.triu_indices(len(white), 1)]
    assert np.abs(products).max(initial=0) < scipy.stats.norm.isf(ALPHA / 2 / max(1, len(products)))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 8),
    st.floats(0.02, 3.0),
    st.floats(0.02, 3.0),
    st.sampled_from([1e-3, 2.0]),
)
def test_neighbours_are_correlated_as_on_the_device(
    seed: int, n: int, settle_tau: float, spacing_tau: float, kappa0: float
) -> None:
    """What a sample adds to the decayed one before it is white once its covariance is taken out
    (expm, Lyapunov)."""
    matrix, shift = factor(seed, n, 2 * n), 0.1
    times = {"settle_tau": settle_tau, "spacing_tau": spacing_tau}
    x = sampled(matrix, shift, samples=3000, kappa0=kappa0, noise_seed=seed, **times).numpy()
    a = matrix.numpy() + shift * np.eye(n)
    stationary = scipy.linalg.solve_continuous_lyapunov(a, 2 * kappa0 * np.eye(n))

    def whitened(columns: np.ndarray, tau: float) -> np.ndarray:
        e = scipy.linalg.expm(-a * tau)
        return scipy.linalg.solve_triangular(
            np.linalg.cholesky(stationary - e @ stationary @ e.T), columns, lower=True
        )

    added = x[:, 1:] - scipy.linalg.expm(-a * spacing_tau) @ x[:, :-1]
    white = np.concatenate([whitened(x[:, :1], settle_tau), whitened(added, spacing_tau)], axis=1)
    assert_standard_normal(white)
    left_over = (
        white[:, :-1] @ white[:, 1:].T / math.sqrt(white.shape[1] - 1)
    )  # from one to the next
    assert np.abs(left_over).max() < scipy.stats.norm.isf(ALPHA / 2 / left_over.size)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 10), st.floats(0.05, 1.0), st.sampled_from([1e-4, 0.5])
)
def test_the_covariance_is_the_inverse(seed: int, n: int, shift: float, kappa0: float) -> None:
    """Far apart: S covariance · A is Wishart's, L_Aᵀ x/sqrt(kappa0) standard normal."""
    matrix, far_tau = factor(seed, n, max(1, n // 2)), 20 / shift
    x = sampled(
        matrix,
        shift,
        samples=2000,
        spacing_tau=far_tau,
        settle_tau=far_tau,
        kappa0=kappa0,
        noise_seed=seed,
    )
    a = matrix + shift * torch.eye(n, dtype=torch.float64)
    assert_standard_normal((torch.linalg.cholesky(a).T @ x / math.sqrt(kappa0)).numpy())
    whitened = torch.linalg.cholesky(a)
    found = whitened.T @ covariance(x, kappa0=kappa0).value @ whitened
    bound = (
        scipy.stats.norm.isf(ALPHA / 2 / n**2) * math.sqrt(2 / 2000) * 1.2
    )  # 1.2: chi square's heavier tail
    assert float((found - torch.eye(n, dtype=torch.float64)).abs().max()) < bound


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.floats(0.05, 1.0), st.floats(0.3, 3.0))
def test_the_error_falls_as_one_over_the_root_of_the_samples(
    seed: int, n: int, shift: float, periods: float
) -> None:
    """RMS over 64 devices (copies of the factor in one array), 128 to 8192 correlated samples,
    slope -1/2.

    Each RMS has a standard deviation of at most sqrt(2/64)/2 = 9 %, the slope of about 0.03: 0.17
    is over five of them.
    """
    copies = torch.kron(torch.eye(COPIES, dtype=torch.float64), factor(seed, n, n))
    tau = periods / shift  # in decay times of the slowest mode
    x = sampled(
        copies, shift, samples=8192, spacing_tau=tau, settle_tau=20 / shift, noise_seed=seed
    )
    inverse = torch.linalg.inv(factor(seed, n, n) + shift * torch.eye(n, dtype=torch.float64))

    def rms(samples: int) -> float:
        parts = x[:, :samples].reshape(COPIES, n, samples)
        errors = torch.stack([covariance(part, kappa0=0.1).value - inverse for part in parts])
        return float(errors.square().sum(dim=(1, 2)).mean().sqrt())

    numbers = np.array([128, 512, 2048, 8192])
    slope = np.polyfit(np.log(numbers), np.log([rms(int(s)) for s in numbers]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.17)


def test_a_biased_device_is_found_out() -> None:
    """The slope test has teeth: stopped long before it settled, the first samples are not yet those
    of A⁻¹."""
    x = sampled(factor(0, 4, 2), 0.01, samples=1, settle_tau=0.5, noise_seed=1)
    assert float(x.square().mean()) < 0.1 * 0.1 / 0.01


@given(st.integers(1, 40), st.integers(0, 60), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_more_samples_go_on_where_fewer_stopped(few: int, more: int, chunk: int) -> None:
    system, run = (
        dense(factor(1, 6, 9), 0.1),
        {"settle_tau": 2.0, "spacing_tau": 0.3, "kappa0": 0.2, "noise_seed": 3},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridsim.circuits.modal._SAMPLES", chunk)
        short, long = (system.sample(samples=s, **run) for s in (few, few + more))
    assert short.shape == (6, few)
    torch.testing.assert_close(long[:, :few], short, rtol=1e-12, atol=1e-13)


def test_parts_of_the_samples_on_several_devices() -> None:
    """Each has noise of its own; a device that has not settled shows its rest."""
    parts = [sampled(factor(2, 5, 5), 0.1, samples=300, first=first) for first in (0, 300)]
    assert float((parts[0] - parts[1]).abs().min()) > 0
    torch.testing.assert_close(
        covariance(*parts, kappa0=0.1).value, covariance(torch.cat(parts, dim=1), kappa0=0.1).value
    )
    assert torch.equal(
        sampled(factor(2, 5, 5), 0.1, settle_tau=0.0)[:, 0], torch.zeros(5, dtype=torch.float64)
    )


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(1e-3, 10))
def test_one_sample_is_its_own_covariance(first: float, second: float, kappa0: float) -> None:
    """The mean is known to be zero: divided by S, not by S - 1."""
    found = covariance(torch.tensor([[first], [second]], dtype=torch.float64), kappa0=kappa0).value
    expected = torch.tensor(
        [[first * first, first * second], [first * second, second * second]], dtype=torch.float64
    )
    torch.testing.assert_close(found, expected / kappa0)


def test_the_covariance_is_work_for_a_gpu() -> None:
    """Counted on shapes: 2 n² S FLOP for the products."""
    work, outcome = count(covariance, (torch.empty(7, 50),), {"kappa0": 0.1})
    assert outcome.value.shape == (7, 7) and outcome.value.dtype == torch.float32
    assert sum(k.flop * k.count for k in work.kernels if k.matrix) == 2 * 7 * 7 * 50
    with pytest.raises(ValueError, match="expected samples, got none"):
        covariance(kappa0=0.1)


@pytest.mark.parametrize(
    "bad", [{"settle_tau": -1.0}, {"spacing_tau": math.inf}, {"kappa0": math.nan}]
)
def test_bad_numbers_are_refused(bad: dict[str, float]) -> None:
    run = {
        "samples": 3,
        "settle_tau": 1.0,
        "spacing_tau": 1.0,
        "kappa0": 0.1,
        "noise_seed": 0,
    } | bad
    with pytest.raises(ValueError, match="expected a finite"):
        dense(torch.eye(2)).sample(**run)
