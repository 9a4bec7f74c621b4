"""TNGD's imperfect circuit against dense matrices, expm and fine integration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import AUTOMATIC, FullScales
from hybridsim.circuits.imperfect_low_rank import ImperfectLowRank, imperfect_lowrank
from hybridsim.circuits.imperfect_low_rank_flow import SPLIT
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.low_rank import Vector, lowrank

B, D, N = 2, 3, 20
FAR = FullScales(1e6, 1e6, 1e6, 1e6)
Case = tuple[ImperfectLowRank, Vector, Vector]


def case(
    seed: int,
    device: Device,
    *,
    fisher: bool = False,
    damping: float = 0.1,
    size: int = N,
    full_scales: FullScales = AUTOMATIC,
) -> Case:
    """A random upload, state and drive."""
    g = torch.Generator().manual_seed(seed)
    j = torch.randn(B * D, size, generator=g, dtype=torch.float64)
    p = torch.softmax(torch.randn(B, D, generator=g, dtype=torch.float64), dim=1)
    h = None if fisher else torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    b = torch.randn(size, generator=g, dtype=torch.float64)
    terms = B * D if fisher else B
    system = imperfect_lowrank(j, h, terms, damping, b, device, full_scales)
    return system, *(
        system.vector(
            torch.randn(size, generator=g, dtype=torch.float64),
            torch.randn(B * D, generator=g, dtype=torch.float64),
        )
        for _ in range(2)
    )


def matrices(system: ImperfectLowRank) -> tuple[np.ndarray, ...]:
    """J₂, middle, J₁, M."""
    middle = system.middle(torch.eye(system.rank, dtype=torch.float64)).numpy()
    j2, j1 = system.jacobian.tensor.numpy(), system.transposed.tensor.numpy()
    return j2, middle, j1, j1.T @ middle @ j2 + system.damping * np.eye(system.size)


def expected_mean(m: np.ndarray, x: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    n = len(m)
    augmented = np.zeros((n + 1, n + 1))
    augmented[:n, :n], augmented[:n, n] = -m, b
    return (scipy.linalg.expm(augmented * t) @ np.append(x, 1.0))[:n]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sigma=st.sampled_from([0.0, 0.01, 0.3]),
    fisher=st.booleans(),
    damping=st.floats(-3, 0).map(lambda e: 10.0**e),
    tau=st.floats(-2, 2).map(lambda e: 10.0**e),
    size=st.sampled_from([4, 20, 40]),
)
def test_mean_against_expm(seed, sigma, fisher, damping, tau, size) -> None:  # noqa: ANN001
    """Mismatched arrays, singular H, fewer cells than rows of J."""
    device = Device(mismatch=sigma, gain=300.0, instance=seed % 3)
    system, state, drive = case(seed, device, fisher=fisher, damping=damping, size=size)
    *_, m = matrices(system)
    x, b = system.full(state).numpy(), system.full(drive).numpy()
    expected = expected_mean(m, x, b, tau)
    got = system.full(system.relax(state, drive, tau=tau, kappa0=0.0, noise_seeds=None)).numpy()
    scale = max(np.abs(expected).max(), np.abs(x).max())
    np.testing.assert_allclose(got, expected, atol=1e-10 * scale)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    fisher=st.booleans(),
    speed=st.floats(-4, -0.7).map(lambda e: 10.0**e),
    tau=st.floats(-1, 1.5).map(lambda e: 10.0**e),
)
def test_bandwidth_against_the_loop_of_amplifiers(seed, fisher, speed, tau) -> None:  # noqa: ANN001
    """Cells, u and w as one linear system of N + 2 r equations; also where it runs away."""
    device = Device(mismatch=0.02, amplifier_tau=speed / 10)
    system, state, drive = case(seed, device, fisher=fisher)
    j2, _, j1, _ = matrices(system)
    hessian = torch.block_diag(*system.blocks).numpy()
    n, r = system.size, system.rank
    lag = [*system.lags, 1e-12][:2]
    m = np.zeros((n + 2 * r, n + 2 * r))
    m[:n, :n], m[:n, n + r :] = system.damping * np.eye(n), j1.T
    m[n : n + r, n : n + r] = np.eye(r) / lag[0]
    m[n : n + r, :n] = -system.gain_u.numpy()[:, None] * j2 / lag[0]
    if fisher:  # u drives the transposed array itself
        m = m[: n + r, : n + r]
        m[:n, n:] = j1.T / r
    else:
        m[n + r :, n + r :] = np.eye(r) / lag[1]
        m[n + r :, n : n + r] = -system.gain_w.numpy()[:, None] * hessian / lag[1]
    x, b = system.full(state).numpy(), system.full(drive).numpy()
    u = system.gain_u.numpy() * (j2 @ x)
    start = np.concatenate([x, u] if fisher else [x, u, system.gain_w.numpy() * (hessian @ u)])
    expected = expected_mean(m, start, np.append(b, np.zeros(len(m) - n)), tau)[:n]
    got = system.full(system.relax(state, drive, tau=tau, kappa0=0.0, noise_seeds=None)).numpy()
    scale = max(np.abs(expected).max(), np.abs(x).max())
    np.testing.assert_allclose(got, expected, atol=1e-8 * scale)
    slowest = np.linalg.eigvals(m).real.min()
    assert float(system.spectrum[0]) == pytest.approx(slowest, abs=1e-7 * np.abs(m).max())


@pytest.mark.parametrize(("fisher", "sigma"), [(False, 0.1), (True, 0.0)])
def test_covariance_of_noise(fisher: bool, sigma: float) -> None:
    """The map of all normal numbers, times its transpose, is the solution of the Lyapunov
    equation with the noise of every resistor."""
    scales = FullScales(2.0, 7.0, 3.0, 1.5)
    device, kappa0, tau = Device(mismatch=sigma, thermal=0.02), 0.3, 2.5
    system, state, drive = case(5, device, fisher=fisher, size=8, full_scales=scales)
    j2, middle, j1, m = matrices(system)
    columns: list[np.ndarray] = []
    flow = system._flow(state, drive, tau, kappa0)[0]  # noqa: SLF001
    asked: list[tuple[int, int]] = []
    flow.noise(system.full_scales, lambda *shape: (asked.append(shape), torch.zeros(shape))[1])
    for number, (rows, count) in enumerate(asked):
        for index in range(rows * count):
            drawn = [torch.zeros(shape, dtype=torch.float64) for shape in asked]
            drawn[number].view(-1)[index] = 1
            parts = iter(drawn)
            perp, coeff = flow.noise(system.full_scales, lambda *_, parts=parts: next(parts))
            columns.append(system.full(system.vector(perp, coeff)).numpy())
    covariance = np.array(columns).T @ np.array(columns)
    x_fs, u_fs, w_fs, b_fs = system.full_scales
    hessian = torch.block_diag(*system.blocks).numpy()
    at_u = x_fs * (x_fs * np.abs(j2).sum(1) + u_fs)
    at_w = 0 if fisher else u_fs * (u_fs * np.abs(hessian).sum(1) + w_fs)
    cells = x_fs * (system.damping * x_fs + b_fs + w_fs * np.abs(j1).sum() / 8)
    gain, inner = system.gain_w.numpy(), hessian @ np.diag(at_u) @ hessian.T
    inner = gain[:, None] * inner * gain + (0 if fisher else np.diag(at_w))
    d = j1.T @ inner @ j1
    d = 0.02 * (d + cells * np.eye(8)) + kappa0 * np.eye(8)
    stationary = scipy.linalg.solve_continuous_lyapunov(m, 2 * d)
    e = scipy.linalg.expm(-m * tau)
    expected = stationary - e @ stationary @ e.T
    np.testing.assert_allclose(covariance, expected, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_nothing_imperfect_is_the_ideal_circuit(seed: int, fisher: bool, kappa0: float) -> None:
    """State, energy by stage and the amplifiers' charge, of a device whose errors vanish."""
    system, state, drive = case(seed, Device(gain=1e13, mismatch=1e-14), fisher=fisher)
    g = torch.Generator().manual_seed(seed)
    j = torch.randn(B * D, N, generator=g, dtype=torch.float64)
    p = torch.softmax(torch.randn(B, D, generator=g, dtype=torch.float64), dim=1)
    root = None if fisher else torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    terms = B * D if fisher else B
    ideal = lowrank(j, root, terms**-0.5, 0.1)
    ends = [ideal.vector(perp=system.full(v)) for v in (state, drive)]
    scales = FullScales(2.0, 3.0, 3.0 / terms if fisher else 5.0, 4.0)
    run = {"tau": 7.0, "kappa0": kappa0, "full_scales": scales}
    other = ideal.relax(*ends, tau=7.0, kappa0=0.0, noise_seeds=None)
    moved = system.relax(state, drive, tau=7.0, kappa0=0.0, noise_seeds=None)
    torch.testing.assert_close(system.full(moved), ideal.full(other), rtol=0, atol=1e-9)
    clear = {**run, "full_scales": AUTOMATIC} if kappa0 == 0 else run
    if kappa0 > 0:  # peaks with noise are bounds: compare at fixed scales that nothing reaches
        clear["full_scales"] = FullScales(60.0, 300.0, 300.0 / terms if fisher else 70.0, 40.0)
    got = system.dissipation(state, drive, **clear)
    expected = ideal.dissipation(*ends, **clear, charge=True)
    for found, given_ in ((got.stages, expected.stages), (got.charge, expected.charge)):
        assert set(found) == set(given_)
        for stage, value in given_.items():
            assert float(found[stage]) == pytest.approx(float(value), rel=1e-6), stage


def test_variances_of_a_drift_that_is_not_symmetric() -> None:
    """Injected noise in the stages' second moments, against dense covariances."""
    system, state, drive = case(3, Device(mismatch=0.2), size=10)
    scales, tau, kappa0 = FullScales(90.0, 300.0, 90.0, 9.0), 3.0, 0.4
    run = {"tau": tau, "full_scales": scales}
    noisy = system.dissipation(state, drive, kappa0=kappa0, **run).stages
    quiet = system.dissipation(state, drive, kappa0=0.0, **run).stages
    j2, middle, j1, m = matrices(system)
    stationary = scipy.linalg.solve_continuous_lyapunov(m, 2 * kappa0 * np.eye(10))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = np.zeros((10, 10))
    for t, weight in zip(
        tau * ((1 + nodes) / 2) ** 2, weights * tau * (1 + nodes) / 2, strict=True
    ):
        e = scipy.linalg.expm(-m * t)
        total += weight * (stationary - e @ stationary @ e.T)
    hessian = torch.block_diag(*system.blocks).numpy()
    u = system.gain_u.numpy()[:, None] * j2
    expected = {
        "j_array": np.abs(j2).sum(0) @ np.diag(total) / 90**2,
        "damping": system.damping * np.trace(total) / 90**2,
        "feedback_u": np.trace(u @ total @ u.T) / (300 * 90),
        "h_array": np.abs(hessian).sum(0) @ np.diag(u @ total @ u.T) / 300**2,
        "jt_array": np.abs(j1).sum(1) @ np.diag(middle @ j2 @ total @ j2.T @ middle.T) / 90**2,
    }
    for stage, value in expected.items():
        assert float(noisy[stage] - quiet[stage]) == pytest.approx(value, rel=1e-6), stage


def test_charge_is_every_resistors_current() -> None:
    """|I| = G |V| of each resistor and feedback, integrated over means by expm, in V_fs C."""
    system, state, drive = case(9, Device(mismatch=0.1), size=10)
    fs, tau = {"x": 90.0, "u": 300.0, "w": 70.0, "b": 9.0}, 3.0
    run = {"tau": tau, "kappa0": 0.0, "full_scales": FullScales(*fs.values())}
    got = system.dissipation(state, drive, **run).charge
    j2, middle, j1, m = matrices(system)
    x, b = system.full(state).numpy(), system.full(drive).numpy()
    hessian = torch.block_diag(*system.blocks).numpy()
    nodes, weights = np.polynomial.legendre.leggauss(400)  # |.| has kinks
    expected = dict.fromkeys(got, 0.0)
    for t, weight in zip(tau * (1 + nodes) / 2, weights * tau / 2, strict=True):
        mean = expected_mean(m, x, b, t)
        u = system.gain_u.numpy() * (j2 @ mean)
        v = {"x": mean / fs["x"], "u": u / fs["u"], "w": middle @ (j2 @ mean) / fs["w"]}
        size = {stage: np.abs(value) for stage, value in v.items()}
        power = {
            "j_array": np.abs(j2).sum(0) @ size["x"],
            "damping": system.damping * size["x"].sum(),
            "input": fs["b"] / fs["x"] * np.abs(b / fs["b"]).sum(),
            "feedback_u": fs["u"] / fs["x"] * size["u"].sum(),
            "h_array": np.abs(hessian).sum(0) @ size["u"],
            "feedback_w": fs["w"] / fs["u"] * size["w"].sum(),
            "jt_array": fs["w"] / fs["x"] * np.abs(j1).sum(1) @ size["w"],
        }
        for stage, value in power.items():
            expected[stage] += weight * value
    assert set(power) == set(got)
    for stage, value in expected.items():
        assert float(got[stage]) == pytest.approx(value, rel=5e-3), stage


def clipped_run(  # noqa: ANN201
    system: ImperfectLowRank, x: np.ndarray, b: np.ndarray, tau: float, steps: int
):
    """Fourth-order Runge-Kutta of cells and clipping amplifiers."""
    j2, _, j1, _ = matrices(system)
    hessian = torch.block_diag(*system.blocks).numpy()
    gain_u, gain_w = system.gain_u.numpy(), system.gain_w.numpy()
    _, at_u, at_w = (v.numpy() for v in system.offsets(system.full_scales))
    _, u_fs, w_fs, _ = system.full_scales

    def rate(x: np.ndarray) -> np.ndarray:
        u = np.clip(gain_u * (j2 @ x) + at_u, -u_fs, u_fs)
        w = gain_w * (hessian @ u) + at_w
        if system.hessian:
            w = np.clip(w, -w_fs, w_fs)
        return b - system.damping * x - j1.T @ w

    h = tau / steps
    for _ in range(steps):
        a = rate(x)
        c = rate(x + h / 2 * a)
        d = rate(x + h / 2 * c)
        x = x + h / 6 * (a + 2 * c + 2 * d + rate(x + h * d))
    return x


@pytest.mark.parametrize(("seed", "fisher"), [(1, True), (2, False)])
def test_saturation_against_a_fine_integration(seed: int, fisher: bool) -> None:
    scales = FullScales(1e3, 2.0, 0.15, 1e3)
    device = Device(mismatch=0.05, offset=1e-5)
    system, state, drive = case(seed, device, fisher=fisher, full_scales=scales)
    tau, x = 4.0, system.full(state).numpy()
    b = system.full(drive).numpy() + system.offsets(system.full_scales)[0].numpy()
    moved, heat = system.settle(state, drive, tau=tau, kappa0=0.0, noise_seeds=None)
    assert int(heat.further["integrator"]) == SPLIT and float(heat.saturation["u"]) > 1
    expected = clipped_run(system, x, b, tau, 1500)
    linear = replace(system, full_scales=FAR).relax(
        state, drive, tau=tau, kappa0=0.0, noise_seeds=None
    )
    got = system.full(moved).numpy()
    far = np.abs(system.full(linear).numpy() - expected).max()
    assert np.abs(got - expected).max() < 2e-3 * far, (np.abs(got - expected).max(), far)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31))
def test_far_rails_are_no_rails(seed: int) -> None:
    system, state, drive = case(seed, Device(mismatch=0.05))
    far = replace(system, full_scales=FAR)
    run = {"tau": 5.0, "kappa0": 0.0, "noise_seeds": None}
    assert torch.equal(
        system.full(system.relax(state, drive, **run)), far.full(far.relax(state, drive, **run))
    )
