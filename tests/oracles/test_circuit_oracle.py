"""Dissipation against a sum over every single resistor, with exact dense moments and a fine
quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.kfac import device as kronecker
from hybridsim.circuits.base import Dissipation, FullScales
from hybridsim.circuits.dense import dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.roots import roots

B, D, N = 2, 3, 10


def dense_nodes(tau: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Panels of ratio 1.5 with 12 nodes each: far finer than what is tested."""
    edges = [
        0.0,
        *np.geomspace(
            min(tau, 0.1 / rate), tau, 2 + int(np.log(max(1, 10 * rate * tau)) / np.log(1.5))
        ),
    ]
    x, w = np.polynomial.legendre.leggauss(12)
    half = np.diff(np.unique(edges))[:, None] / 2
    return (np.unique(edges)[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def second_moments(
    a: np.ndarray, x: np.ndarray, b: np.ndarray, kappa0: float, t: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at t by expm and the Lyapunov equation; A invertible."""
    e = scipy.linalg.expm(-a * t)
    s = scipy.linalg.solve_continuous_lyapunov(a, 2 * kappa0 * np.eye(len(a)))
    return e @ x + np.linalg.solve(a, b - e @ b), s - e @ s @ e.T


def resistor_by_resistor(
    j: np.ndarray,
    h: np.ndarray | None,
    jt_gain: float,
    damping: float,
    v: dict,
    b: np.ndarray,
    fs: dict,
) -> dict[str, float]:
    """Power in V_fs² G0 of every resistor from the second moments v[stage] of what drives it."""
    power = dict.fromkeys(("j_array", "jt_array", "damping", "input", "feedback_u"), 0.0)
    for k in range(len(j)):
        for i in range(j.shape[1]):
            power["j_array"] += abs(j[k, i]) * v["x"][i] / fs["x"] ** 2
            power["jt_array"] += abs(j[k, i]) * fs["w"] / fs["x"] * v["w"][k] / fs["w"] ** 2
        power["feedback_u"] += fs["u"] / fs["x"] * v["u"][k] / fs["u"] ** 2
    for i in range(j.shape[1]):
        power["damping"] += damping * v["x"][i] / fs["x"] ** 2
        power["input"] += fs["b"] / fs["x"] * b[i] ** 2 / fs["b"] ** 2
    if h is None:
        return power
    power |= {"h_array": 0.0, "feedback_w": 0.0}
    for k in range(len(h)):
        for m in range(len(h)):
            power["h_array"] += abs(h[k, m]) * v["u"][m] / fs["u"] ** 2
        power["feedback_w"] += fs["w"] / fs["u"] * v["w"][k] / fs["w"] ** 2
    return power


def reference(system, x, b, tau, kappa0, fs) -> dict[str, float]:  # noqa: ANN001
    """All stages' energies; J, H/b and A as dense matrices."""
    j = system.jacobian.tensor.double().numpy()
    gain = system.scale**2
    h = (
        None
        if system.root is None
        else torch.block_diag(*(gain * system.root @ system.root.mT)).numpy()
    )
    middle = gain * np.eye(len(j)) if h is None else h
    a = j.T @ middle @ j + system.damping * np.eye(j.shape[1])
    total: dict[str, float] = {}
    for t, weight in zip(*dense_nodes(tau, np.linalg.eigvalsh(a)[-1]), strict=True):
        mean, covariance = second_moments(a, x, b, kappa0, t)
        maps = {"x": np.eye(len(a)), "u": j, "w": middle @ j}
        v = {n: (m @ mean) ** 2 + np.diag(m @ covariance @ m.T) for n, m in maps.items()}
        for stage, power in resistor_by_resistor(j, h, gain, system.damping, v, b, fs).items():
            total[stage] = total.get(stage, 0.0) + weight * power
    return total


def random_case(seed: int, fisher: bool, condition: float, dtype: torch.dtype):  # noqa: ANN201
    g = torch.Generator().manual_seed(seed)
    j = torch.randn(B * D, N, generator=g, dtype=torch.float64)
    j = j * torch.logspace(0, -1, N, dtype=torch.float64)
    p = torch.softmax(torch.randn(B, D, generator=g, dtype=torch.float64), dim=1)
    root = None if fisher else torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
    top = float(lowrank(j, root, B**-0.5, 0.0).eigenvalues[-1])
    system = lowrank(j.to(dtype), root, B**-0.5, top / condition)
    vectors = [system.vector(*(torch.randn(n, generator=g) for n in (N, B * D))) for _ in range(2)]
    return system, *vectors


def check(got: Dissipation, expected: dict[str, float], rel: float) -> None:
    assert set(got.stages) == set(expected)
    for stage, energy in expected.items():
        assert float(got.stages[stage]) == pytest.approx(energy, rel=rel), stage
    assert float(got.total) == pytest.approx(sum(expected.values()), rel=rel)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    fisher=st.booleans(),
    condition=st.floats(0, 4).map(lambda e: 10.0**e),
    periods=st.floats(-2, 2).map(lambda e: 10.0**e),
    kappa0=st.sampled_from([0.0, 1e-3, 0.5]),
    fixed=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_tngd_circuit(seed, fisher, condition, periods, kappa0, fixed, dtype) -> None:  # noqa: ANN001
    system, state, drive = random_case(seed, fisher, condition, dtype)
    tau = periods / system.damping  # in decay times of the slowest mode
    scales = FullScales(2.0, 3.0, None if fisher else 5.0) if fixed else FullScales()
    got = system.dissipation(state, drive, tau=tau, kappa0=kappa0, full_scales=scales)
    fs = {stage: float(value) for stage, value in got.full_scales.items()}
    if fixed:
        assert fs == pytest.approx(
            {"x": 2.0, "u": 3.0, "w": 3.0 / B if fisher else 5.0, "b": fs["b"]}
        )
    x, b = system.full(state).double().numpy(), system.full(drive).double().numpy()
    assert fs["b"] == pytest.approx(max(fs["x"], np.abs(b).max()), rel=1e-6)
    check(got, reference(system, x, b, tau, kappa0, fs), 1e-5)


@pytest.mark.parametrize("fisher", [True, False])
def test_full_scales_cover_the_whole_trajectory(fisher: bool) -> None:
    """Automatic scales agree within 1 % with the largest |mean| + 3 sd on a fine grid of times."""
    system, state, drive = random_case(5, fisher, 300.0, torch.float64)
    tau, kappa0 = 2 / system.damping, 0.01
    got = system.dissipation(state, drive, tau=tau, kappa0=kappa0)
    j, gain = system.jacobian.tensor.numpy(), system.scale**2
    root = None if system.root is None else torch.block_diag(*system.root).numpy()
    middle = gain * (np.eye(B * D) if root is None else root @ root.T)
    a = j.T @ middle @ j + system.damping * np.eye(N)
    x, b = system.full(state).numpy(), system.full(drive).numpy()
    peaks = dict.fromkeys("xuw", 0.0)
    for t in [0.0, *np.geomspace(1e-3 / np.linalg.eigvalsh(a)[-1], tau, 2000)]:
        mean, covariance = second_moments(a, x, b, kappa0, t)
        for name, m in {"x": np.eye(N), "u": j, "w": middle @ j}.items():
            sd = np.sqrt(np.clip(np.diag(m @ covariance @ m.T), 0, None))
            peaks[name] = max(peaks[name], (np.abs(m @ mean) + 3 * sd).max())
    for name, peak in peaks.items():
        assert float(got.full_scales[name]) == pytest.approx(peak, rel=0.01), name
        assert float(got.saturation[name]) == pytest.approx(1.0)
    fixed = FullScales(peaks["x"] / 2, peaks["u"] / 2, peaks["w"] / 2)
    assert float(
        system.dissipation(state, drive, tau=tau, kappa0=kappa0, full_scales=fixed).saturation["u"]
    ) == (pytest.approx(2.0, rel=0.01))
    narrow = FullScales(b=np.abs(b).max() / 4)
    found = system.dissipation(state, drive, tau=tau, kappa0=kappa0, full_scales=narrow)
    assert float(found.saturation["b"]) == pytest.approx(4.0)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 8),
    damping=st.floats(-3, 0).map(lambda e: 10.0**e),
    periods=st.floats(-2, 2).map(lambda e: 10.0**e),
    kappa0=st.sampled_from([0.0, 1e-2, 0.5]),
    full_scale=st.sampled_from([None, 2.5]),
)
def test_dense_circuit(seed, n, damping, periods, kappa0, full_scale) -> None:  # noqa: ANN001
    g = torch.Generator().manual_seed(seed)
    factor = torch.randn(n, n, generator=g, dtype=torch.float64)
    matrix = factor @ factor.T / n
    x, b = torch.randn(2, n, 3, generator=g, dtype=torch.float64)
    tau = periods / damping
    got = dense(matrix, damping).dissipation(
        x, b, tau=tau, kappa0=kappa0, full_scales=FullScales(x=full_scale)
    )
    a = matrix.numpy() + damping * np.eye(n)
    for k in range(3):
        fs = float(got.full_scales["x"][k])
        expected = dict.fromkeys(("array", "damping", "input"), 0.0)
        for t, weight in zip(*dense_nodes(tau, np.linalg.eigvalsh(a)[-1]), strict=True):
            mean, covariance = second_moments(a, x[:, k].numpy(), b[:, k].numpy(), kappa0, t)
            v = mean**2 + np.diag(covariance)
            for i in range(n):
                expected["damping"] += weight * damping * v[i] / fs**2
                expected["input"] += (
                    weight * float(b[i, k]) ** 2 / (fs * max(fs, float(b[:, k].abs().max())))
                )
                for m in range(n):
                    expected["array"] += weight * abs(float(matrix[m, i])) * v[i] / fs**2
        check(Dissipation({s: e[k] for s, e in got.stages.items()}, {}, {}), expected, 1e-5)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    r=st.integers(1, 8),
    n=st.integers(1, 8),
    damping=st.floats(-3, 0).map(lambda e: 10.0**e),
    periods=st.floats(-2, 2).map(lambda e: 10.0**e),
    kappa0=st.sampled_from([0.0, 1e-2, 0.5]),
    fixed=st.booleans(),
)
def test_two_arrays_of_rows(seed, r, n, damping, periods, kappa0, fixed) -> None:  # noqa: ANN001
    """Activations X in one array, Xᵀ in the other: every resistor of both, of the feedback, damping
    and input."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(r, n, generator=g, dtype=torch.float64)
    x, b = torch.randn(2, n, 3, generator=g, dtype=torch.float64)
    tau, scales = periods / damping, FullScales(2.0, 3.0, None, 4.0) if fixed else FullScales()
    got = roots(rows, damping).dissipation(x, b, tau=tau, kappa0=kappa0, full_scales=scales)
    for k in range(3):
        fs = {stage: float(value[k]) for stage, value in got.full_scales.items()}
        fs["w"] = fs["u"]  # u drives the transposed array itself
        parts = reference(
            lowrank(rows, None, 1.0, damping), x[:, k].numpy(), b[:, k].numpy(), tau, kappa0, fs
        )
        check(Dissipation({s: e[k] for s, e in got.stages.items()}, {}, {}), parts, 1e-5)


@pytest.mark.parametrize("form", ["factor", "rows"])
def test_sampling_dissipates_over_all_of_its_time(form: str) -> None:
    """From rest, no drive: the noise alone, over the first settling and what lies between the
    samples."""
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    damping, kappa0, settle_tau, spacing_tau, samples = 0.2, 0.3, 1.5, 0.4, 11
    make, held = (
        (kronecker.program, rows.T @ rows) if form == "factor" else (kronecker.program_roots, rows)
    )
    system = make(held, torch.tensor(damping, dtype=torch.float64), input_bits=None).value
    taken = kronecker.sample(
        system,
        None,
        None,
        samples=samples,
        spacing_tau=spacing_tau,
        settle_tau=settle_tau,
        kappa0=kappa0,
        noise_seed=1,
    )
    a, tau = (rows.T @ rows).numpy() + damping * np.eye(5), settle_tau + (samples - 1) * spacing_tau
    zero, end = np.zeros(5), second_moments(a, np.zeros(5), np.zeros(5), kappa0, tau)[1]
    fs = {"x": 3 * np.sqrt(np.diag(end).max()), "b": 1.0}
    fs["u"] = fs["w"] = 3 * np.sqrt(np.diag(rows.numpy() @ end @ rows.numpy().T).max())
    expected = sum(
        reference(lowrank(rows, None, 1.0, damping), zero, zero, tau, kappa0, fs).values()
    )
    if form == "factor":
        nodes = zip(*dense_nodes(tau, np.linalg.eigvalsh(a)[-1]), strict=True)
        v = sum(
            weight * np.diag(second_moments(a, zero, zero, kappa0, t)[1]) for t, weight in nodes
        )
        expected = float((np.abs((rows.T @ rows).numpy()).sum(axis=0) + damping) @ v) / fs["x"] ** 2
    assert float(taken.facts["dissipation"]) == pytest.approx(expected, rel=1e-5)


def test_a_runaway_mode_dissipates_what_its_growth_says() -> None:
    """X = e^t of a single node with conductance 1 against -2 of the feedback: the integral of
    e^2t."""
    system = dense(torch.tensor([[-1.0]]), 0.0)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    got = system.dissipation(one, zero, tau=3.0, kappa0=0.0, full_scales=FullScales(x=1.0))
    assert float(got.stages["array"]) == pytest.approx(np.expm1(6.0) / 2, rel=1e-6)
