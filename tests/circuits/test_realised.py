"""Arrays as a device builds them, against dense float64 matrices and fine integrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor

from hybridsim.circuits.base import System
from hybridsim.circuits.dense import dense
from hybridsim.circuits.eigenbasis import Loop, eigenbasis
from hybridsim.circuits.imperfections.arrays import built_dense, built_roots
from hybridsim.circuits.imperfections.converters import bowed, quantized
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.circuits.noise import Covariances
from hybridsim.circuits.rails import Ranges
from hybridsim.circuits.realised import Realised
from hybridsim.circuits.roots import roots
from hybridsim.errors import HybridsimError

seeds = st.integers(0, 2**31)
forms = st.sampled_from(["dense", "roots"])
FAR = Ranges(torch.tensor(1e9, dtype=torch.float64))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(x: Tensor, shift: float, device: Device, form: str) -> Realised:
    return built_dense(x.T @ x, shift, device) if form == "dense" else built_roots(x, shift, device)


def ideal(x: Tensor, shift: float, form: str) -> System:
    return dense(x.T @ x, shift) if form == "dense" else roots(x, shift)


def matrix_of(system: Realised) -> np.ndarray:
    basis = system.basis
    return ((basis.right * basis.rates) @ basis.left).real.numpy()


def moved(matrix: np.ndarray, drive: np.ndarray, tau: float) -> np.ndarray:
    """From rest: the lower right block of exp([[−M, b], [0, 0]] τ)."""
    n, k = drive.shape
    whole = np.zeros((n + k, n + k))
    whole[:n, :n], whole[:n, n:] = -matrix * tau, drive * tau
    return expm(whole)[:n, n:]


@settings(max_examples=8, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 9), forms, st.floats(0.05, 30))
def test_a_device_of_ideal_parts_is_the_ideal_circuit(seed, r, n, form, tau):
    x, b = normal(seed, r, n), normal(seed + 1, n, 3)
    almost = Device(gain=1e13, amplifier_tau=1e-13)
    for device in (Device(), almost):
        run = {"tau": tau, "kappa0": 0.0, "noise_seeds": None}
        state, heat = built(x, 0.2, device, form).settle(None, b, **run)
        expected, ideal_heat = ideal(x, 0.2, form).settle(None, b, **run)
        torch.testing.assert_close(state, expected, rtol=1e-8, atol=1e-8)
        energies = [h.stages["damping"] * h.full_scales["x"] ** 2 for h in (heat, ideal_heat)]
        torch.testing.assert_close(*energies, rtol=1e-6, atol=1e-9)
        assert heat.saturation["x"].amax() <= 1 + 1e-9


@settings(max_examples=12, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 12), forms, st.floats(0.05, 30))
def test_the_mean_is_that_of_the_mismatched_matrix(seed, r, n, form, tau):
    """M written out from the parts: entries, damping, capacitors, leaks of a finite gain."""
    x, b = normal(seed, r, n) / n**0.5, normal(seed + 1, n, 2)
    device = Device(instance=seed, mismatch=0.1, gain=50.0)
    system = built(x, 0.3, device, form)

    def part(name: str, *shape: int) -> Tensor:
        return 1 + 0.1 * normal_pattern(seed, name, *shape, dtype=torch.float64)

    if form == "dense":
        array = (x.T @ x) * part("array", n, n)
        sums = array.abs().sum(dim=1)
    else:
        ratio = float(x.abs().sum(dim=1).max())
        first, second = x * part("transposed array", r, n), x * part("array", r, n)
        gain = 1 / (1 + (1 + second.abs().sum(dim=1) / ratio) / 50)
        array, sums = first.T @ (gain[:, None] * second), ratio * first.abs().sum(dim=0)
    damping = 0.3 * part("damping", n)
    matrix = array + torch.diag(damping + (sums + damping + 1) / 50)
    d = 1 / (part("capacitor", n) * (1 + 1 / 50))
    drive = (d * part("input", n))[:, None] * b
    expected = moved((d[:, None] * matrix).numpy(), drive.numpy(), tau)
    found = system.relax(None, b, tau=tau, kappa0=0.0, noise_seeds=None)
    size = 1 + np.abs(expected).max()
    assert np.abs(found.numpy() - expected).max() <= 1e-10 * size
    start = normal(seed + 2, n, 2)
    again = system.relax(start, None, tau=tau, kappa0=0.0, noise_seeds=None)
    kept = expm(-(d[:, None] * matrix).numpy() * tau) @ start.numpy()
    assert np.abs(again.numpy() - kept).max() <= 1e-10 * (1 + np.abs(kept).max())


@settings(max_examples=12, deadline=None)
@given(seeds, st.integers(1, 10), st.floats(0.01, 10))
def test_the_covariance_of_noise_by_doubling(seed, n, tau):
    """Σ(2h) = Σ(h) + E Σ(h) Eᵀ from a first step so short that 2 D h is exact; L Lᵀ = Σ."""
    matrix = normal(seed, n, n) / n + 0.5 * torch.eye(n, dtype=torch.float64)
    factor = normal(seed + 1, n, n)
    d = factor @ factor.T + 0.1 * torch.eye(n, dtype=torch.float64)
    times = 30
    h = tau / 2**times
    m, dd = matrix.numpy(), d.numpy()
    sigma = 2 * h * dd - h * h * (m @ dd + dd @ m.T)
    for k in range(times):
        e = expm(-m * h * 2**k)
        sigma = sigma + e @ sigma @ e.T
    found = Covariances(eigenbasis(matrix))
    size = np.abs(sigma).max()
    assert np.abs(found.after(d, tau).numpy() - sigma).max() <= 1e-8 * size
    root = found.root(d, tau)
    assert np.abs((root @ root.T).numpy() - sigma).max() <= 1e-8 * size
    diagonal = d.diagonal()
    torch.testing.assert_close(found.after(diagonal, tau), found.after(torch.diag(diagonal), tau))


def test_thermal_noise_of_one_cell_is_its_capacitors() -> None:
    """One node, G + λ + g_in: the variance is kT/C x_fs² (G + λ + g_in)/(G + λ)."""
    device = Device(thermal=1e-4)
    system = built_dense(torch.tensor([[0.7]], dtype=torch.float64), 0.3, device)
    drive = torch.zeros(1, 4000, dtype=torch.float64)
    ranges = Ranges(torch.full((4000,), 2.0, dtype=torch.float64), torch.ones(4000) * 3.0)
    run = {"tau": 40.0, "kappa0": 0.0, "noise_seeds": list(range(4000))}
    noise, _ = system.settle(None, drive, **run, ranges=ranges)
    expected = 1e-4 * 2.0**2 * (1 + 1.5)
    assert float(noise.var()) == pytest.approx(expected, rel=5 * (2 / 4000) ** 0.5)
    run = {"settle_tau": 40.0, "spacing_tau": 40.0, "kappa0": 0.5, "noise_seed": 3}
    far = Ranges(torch.tensor(1e3, dtype=torch.float64))
    taken = system.sample(samples=4000, **run, ranges=far)
    assert float(taken.var()) == pytest.approx(0.5 + 1e-4 * 1e6, rel=5 * (2 / 4000) ** 0.5)


@settings(max_examples=15, deadline=None)
@given(seeds, forms, st.floats(0.01, 3.0), st.floats(0.1, 20))
def test_lagging_amplifiers_are_a_larger_linear_system(seed, form, lag, tau):
    """Mode by mode the loop is x, dx/dτ and u, written out and integrated as matrices."""
    generator = torch.Generator().manual_seed(seed)
    real, imag = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    rates = torch.complex(0.2 + 2 * real, 0.1 * imag)
    lags = (lag,) if form == "dense" else (lag / 4, lag / 9)
    loop = Loop.of(rates, lags)
    at = torch.tensor(tau, dtype=torch.float64)
    for index, rate in enumerate(rates.numpy()):
        if form == "dense":  # x' = v, τ v' = b - μ x - v
            system = np.array([[0, 1, 0], [-rate / lag, -1 / lag, 1 / lag], [0, 0, 0]])
            start, driven = [1, 0, 0], [0, 0, 1]
        else:  # x' = v, τ₁ v' = b - μ y - v, τ₂ y' = x - y
            first, second = lags
            system = np.array(
                [
                    [0, 1, 0, 0],
                    [0, -1 / first, -rate / first, 1 / first],
                    [1 / second, 0, -1 / second, 0],
                    [0, 0, 0, 0],
                ]
            )
            start, driven = [1, 0, 1, 0], [0, 0, 0, 1]
        exact = expm(system * tau)
        size = max(1.0, np.abs(exact).max())
        assert abs((exact @ start)[0] - complex(loop.decay(at)[index, 0])) <= 1e-7 * size
        assert abs((exact @ driven)[0] - complex(loop.response(at)[index, 0])) <= 1e-7 * size
        if index == 0:
            growth = np.linalg.eigvals(system[:-1, :-1]).real.max()
            assert float(loop.slowest) <= -growth + 1e-9


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 5), st.floats(0.01, 2))
def test_the_margin_says_where_a_loop_rings_and_where_it_is_unstable(rate, lag):
    one = Loop.of(torch.tensor([rate], dtype=torch.float64), (lag,))
    assert (float(one.margin) < 1) == bool((one.roots.imag.abs() > 1e-9).any())
    assert float(one.slowest) > 0, "one stage is stable for every lag"
    two = Loop.of(torch.tensor([rate], dtype=torch.float64), (lag, lag))
    assert float(two.margin) == pytest.approx(2 / (rate * lag))
    if abs(float(two.margin) - 1) > 1e-6:
        assert (float(two.margin) > 1) == (float(two.slowest) > 0)


@settings(max_examples=15, deadline=None)
@given(seeds, forms)
def test_offsets_drive_all_that_hangs_on_their_node(seed, form):
    """At rest and with b = 0 the circuit goes to where its offsets put it: M x = g v_os x_fs."""
    x = normal(seed, 3, 4) / 2
    device = Device(instance=seed, offset=0.01)
    system = built(x, 0.4, device, form)
    ranges = Ranges(torch.tensor([2.0, 4.0], dtype=torch.float64), torch.ones(2) * 1.0)
    run = {"tau": 500.0, "kappa0": 0.0, "noise_seeds": None}
    found, _ = system.settle(None, torch.zeros(4, 2), **run, ranges=ranges)
    v = 0.01 * normal_pattern(seed, "offset", 4, dtype=torch.float64)
    a = x.T @ x
    g = a.abs().sum(dim=1) + 0.4 if form == "dense" else 0.4
    drive = torch.zeros(4, dtype=torch.float64)
    if form == "roots":
        ratio = float(x.abs().sum(dim=1).max())
        g = ratio * x.abs().sum(dim=0) + 0.4
        before = 0.01 * normal_pattern(seed, "offset before", 3, dtype=torch.float64)
        drive = -ratio * x.T @ ((1 + x.abs().sum(dim=1) / ratio) * before)
    for column, (x_fs, g_in) in enumerate([(2.0, 0.5), (4.0, 0.25)]):
        whole = x_fs * ((g + g_in) * v + drive)
        expected = torch.linalg.solve(a + 0.4 * torch.eye(4, dtype=torch.float64), whole)
        torch.testing.assert_close(found[:, column], expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=6, deadline=None)
@given(seeds, forms)
def test_far_rails_change_nothing_and_near_ones_hold(seed, form):
    x, b = normal(seed, 4, 5) / 2, 3 * normal(seed + 1, 5, 2)
    system = built(x, 0.3, Device(instance=seed, mismatch=0.05), form)
    run = {"tau": 6.0, "kappa0": 0.0, "noise_seeds": None}
    free, free_heat = system.settle(None, b, **run)
    far, _ = system.settle(None, b, **run, ranges=FAR)
    assert torch.equal(free, far)
    exactly = Ranges(free_heat.full_scales["x"], free_heat.full_scales["b"])
    again, heat = system.settle(None, b, **run, ranges=exactly)
    assert torch.equal(free, again)
    torch.testing.assert_close(heat.total, free_heat.total, rtol=1e-9, atol=0)
    rail = 0.6 * free.abs().amax()
    held, heat = system.settle(None, b, **run, ranges=Ranges(rail, torch.ones(2) * b.abs().max()))
    matrix, drive = matrix_of(system), (system.drive_gain[:, None] * b).numpy()
    assert held.abs().max() <= rail
    top = float(rail)

    def flow(_: float, y: np.ndarray) -> np.ndarray:  # a stiff wall instead of a clamp
        state = y[:5]
        inside = np.clip(state, -top, top)
        energy = sum(
            float(s.weights @ (o * o)) / s.ratio / top**2
            for s in system.stages.values()
            for o in [
                torch.tensor(inside) if s.outputs is None else s.outputs @ torch.tensor(inside)
            ]
        )
        push = drive[:, 0] - matrix @ inside - 2000 * (state - inside)
        return np.append(push, energy)

    fine = solve_ivp(flow, (0, 6.0), np.zeros(6), method="LSODA", rtol=1e-6, atol=1e-8).y[:, -1]
    assert np.abs(held[:, 0].numpy() - np.clip(fine[:5], -top, top)).max() <= 0.04 * top
    spent = float(sum(e[0] for name, e in heat.stages.items() if name != "input"))
    assert spent == pytest.approx(fine[5], rel=0.05)


@settings(max_examples=10, deadline=None)
@given(seeds, forms, st.floats(0.1, 20))
def test_energy_and_charge_are_integrals_over_the_resistors(seed, form, tau):
    """Against the trapezoid on a fine grid, stage by stage; V = o/(ratio x_fs), I = G V."""
    x, b = normal(seed, 3, 4) / 2, normal(seed + 1, 4, 1)
    system = built(x, 0.3, Device(instance=seed, mismatch=0.2, amplifier_tau=0.03), form)
    _, heat = system.settle(None, b, tau=tau, kappa0=0.0, noise_seeds=None)
    t = torch.cat([torch.zeros(1).double(), torch.logspace(-4, 0, 3000).double()]) * tau
    basis = system.basis
    driven = basis.left @ (system.drive_gain[:, None] * b).to(basis.left)
    course = (basis.right @ (system.loop.response(t) * driven)).real
    for name, stage in system.stages.items():
        outputs = course if stage.outputs is None else stage.outputs @ course
        conductance = stage.weights * stage.ratio
        volts = outputs / (stage.ratio * heat.full_scales["x"])
        energy = float(torch.trapezoid(conductance @ volts.square(), t))
        charge = float(torch.trapezoid(conductance @ volts.abs(), t))
        assert float(heat.stages[name]) == pytest.approx(energy, rel=1e-4)
        # a sign that changes within a panel takes a little off
        assert 0.85 * charge <= float(heat.charge[name]) <= charge * 1.0001


def test_what_does_not_fit_into_the_range_is_slower_or_off() -> None:
    matrix = torch.tensor([[4.0, 1e-4], [1e-4, 2.0]], dtype=torch.float64)
    device = Device(largest_conductance=1.0, smallest_conductance=1e-3)
    system, b = built_dense(matrix, 0.1, device), torch.eye(2, dtype=torch.float64)
    facts = system.facts()
    assert float(facts["slowdown"]) == 4 and float(facts["conductance_array"]) == 1
    assert float(facts["smallest_eigenvalue"]) == pytest.approx(2.1 / 4)
    slow = system.relax(None, b, tau=8.0, kappa0=0.0, noise_seeds=None)
    diagonal = dense(torch.diag(matrix.diagonal()), 0.1)
    expected = diagonal.relax(None, b, tau=2.0, kappa0=0.0, noise_seeds=None)
    torch.testing.assert_close(slow, expected, rtol=1e-10, atol=1e-12)


def test_dead_cells_answer_nothing_and_are_of_the_device() -> None:
    x, b = normal(0, 30, 40), normal(1, 40, 1)
    device = Device(instance=5, dead_share=0.2, thermal=1e-6, offset=1e-3)
    for form in ("dense", "roots"):
        found, _ = built(x, 0.3, device, form).settle(None, b, tau=5.0, kappa0=0.0, noise_seeds=[1])
        dead = found[:, 0] == 0
        pattern = normal_pattern(5, "dead", 40, dtype=torch.float64)
        assert torch.equal(dead, pattern < -0.8416212)
    assert 0 < int(dead.sum()) < 20
    other = built(x, 0.3, replace(device, instance=6), "dense")
    assert not torch.equal(
        other.relax(None, b, tau=5.0, kappa0=0.0, noise_seeds=[1])[:, 0] == 0, dead
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.floats(0.1, 5))
def test_too_few_eigenvectors_are_enough(n, tau):
    """A Jordan block has one: exp to 1e-6 nevertheless."""
    block = torch.eye(n, dtype=torch.float64) + torch.diag(torch.ones(n - 1).double(), 1)
    basis = eigenbasis(block)
    found = ((basis.right * torch.exp(-basis.rates * tau)) @ basis.left).real.numpy()
    assert np.abs(found - expm(-block.numpy() * tau)).max() <= 1e-5


def test_a_negative_rate_grows_and_is_reported() -> None:
    device = Device(instance=1, mismatch=0.3)
    x = normal(3, 12, 6)
    system = built_dense(x.T @ x - 2 * torch.eye(6, dtype=torch.float64), 1e-6, device)
    smallest = np.linalg.eigvals(matrix_of(system)).real.min()
    assert smallest < 0
    assert float(system.facts()["smallest_eigenvalue"]) == pytest.approx(smallest, rel=1e-8)
    with pytest.raises(HybridsimError, match="finite"):
        built_dense(torch.full((2, 2), torch.nan, dtype=torch.float64), 0.1, device)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 12), st.floats(0, 3))
def test_converters_bow_between_zero_and_the_ends(seed, bits, size):
    device = Device(instance=seed, nonlinearity=size)
    scales = torch.tensor([1.0, 5.0], dtype=torch.float64)
    at = torch.tensor([-1, -(3**-0.5), 0, 3**-0.5, 1], dtype=torch.float64)[:, None, None]
    step = scales / (2 ** (bits - 1) - 1)
    shift = torch.stack(
        [bowed(z * scales.expand(3, 2), scales, bits, device, "adc") - z * scales for z in at]
    )
    pattern = normal_pattern(seed, "adc", 3, dtype=torch.float64)[:, None]
    tiny = torch.zeros_like(shift[0])
    expected = [tiny, -size * pattern * step, tiny, size * pattern * step, tiny]
    torch.testing.assert_close(shift, torch.stack(expected), rtol=1e-9, atol=1e-12)
    x = 2 * normal(seed, 3, 2) * scales
    found = quantized(x, scales, bits)
    inside = x.clamp(-scales, scales)
    assert ((found - inside).abs() <= step / 2 * (1 + 1e-9)).all()
    assert quantized(x, scales, None) is x
