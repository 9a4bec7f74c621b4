"""Parts, converters and ranges of a real device; what limits do to TNGD's circuit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import FullScales
from hybridsim.circuits.eigenbasis import eigenbasis
from hybridsim.circuits.imperfect_low_rank import ImperfectLowRank, imperfect_lowrank
from hybridsim.circuits.imperfections.device import IDEAL, Device
from hybridsim.circuits.imperfections.loop import loop, response_slope
from hybridsim.circuits.imperfections.parts import alive, built, converted, offsets
from hybridsim.circuits.imperfections.ranges import chosen, raised
from hybridsim.circuits.precision import levels, quantize


def normal(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def circuit(seed: int, device: Device, scales: FullScales = FullScales()) -> ImperfectLowRank:  # noqa: B008
    p = torch.softmax(normal(seed + 1, 2, 3), dim=1)
    h = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return imperfect_lowrank(
        normal(seed, 6, 30), h, 2, 0.1, normal(seed + 2, 30), device, scales, age_tau=100.0
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.001, 0.1), st.floats(0, 0.1))
def test_parts_differ_by_their_devices_pattern(seed: int, sigma: float, drift: float) -> None:
    """Relative errors of sd σ, and of drift times two decades; the same for every program."""
    device = Device(instance=seed, mismatch=sigma, drift=drift)
    one, two = torch.rand(2, 60, 50, dtype=torch.float64) + 1
    errors = [built(array, device, "part", age_tau=100.0) / array - 1 for array in (one, two)]
    torch.testing.assert_close(*errors)
    size = math.hypot(sigma, 2 * drift)
    assert float(errors[0].std()) == pytest.approx(size, rel=0.12)
    other = built(one, device, "another part") / one - 1
    assert abs(float((other * errors[0]).mean())) < 6 * size * sigma / 3000**0.5
    assert built(one, IDEAL, "part") is one


@given(st.floats(1e-3, 1.0))
def test_the_smallest_resistor_is_on_or_off(least: float) -> None:
    array = torch.linspace(-2, 2, 401, dtype=torch.float64)
    found = built(array, IDEAL, "part", smallest=least)
    levels_found = found.abs()[found != array]
    assert ((levels_found == 0) | (levels_found == least)).all()
    assert float((found - array).abs().max()) <= least / 2 + 1e-12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 14), st.floats(0.1, 3))
def test_a_converter_bows_between_its_ends(seed: int, bits: int, size: float) -> None:
    device, x = Device(nonlinearity=size), 2 * torch.rand(1000, dtype=torch.float64) - 1
    values, clipped = converted(x, bits, device, "adc", 1.0)
    plain, _ = quantize(x, bits, 1.0)
    error = (values - plain) * levels(bits)
    assert int(clipped) == 0 and 0.3 * size < float(error.std()) < 1.1 * size
    ends = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(converted(ends, bits, device, "adc", 1.0)[0], ends)
    assert torch.equal(converted(x, None, device, "adc", None)[0], x)


@given(st.floats(1e-6, 1e6), st.sampled_from([1.0, 1.5, 2.0, 10.0]))
def test_full_scales_are_powers_of_the_gain_step(value: float, step: float) -> None:
    found = raised(value, step)
    assert value <= found * (1 + 1e-8) and found <= value * step * (1 + 1e-8)
    if step > 1:
        power = math.log(found) / math.log(step)
        assert power == pytest.approx(round(power), abs=1e-6)
    scales = chosen(torch.tensor([1.0, 2.0, 0.0, 9.0]), 5.0, Device(headroom=2.0))
    assert scales == FullScales(5.0, 4.0, 1.0, 5.0)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_dead_cells_stay_at_zero(share: float) -> None:
    device = Device(dead_share=share, mismatch=0.01, thermal=1e-3, offset=0.01)
    assert (alive(device, 7) is None) is (share == 0)
    system = circuit(4, device)
    drive = system.vector(normal(5, 30), normal(6, 6))
    moved = system.relax(drive, drive, tau=4.0, kappa0=0.1, noise_seeds=[3])
    zero = system.full(moved) == 0
    expected = torch.zeros(30, dtype=torch.bool) if share == 0 else ~alive(device, 30)
    assert torch.equal(zero, expected) and (share == 0) is (not expected.any())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 2.0))
def test_a_conductance_that_does_not_fit_costs_time(seed: int, largest: float) -> None:
    """Scaled down by s all conductances relax over tau what they would over tau/s, for as much
    energy: 1/s of the power."""
    limited, free = (circuit(seed, Device(largest_conductance=g)) for g in (largest, math.inf))
    assert free.stretch == 1.0 and limited.stretch >= 1.0
    runs = ((limited, 5.0), (free, 5.0 / limited.stretch))
    drive = free.vector(normal(seed, 30), normal(seed + 1, 6))
    (a, heat), (b, expected) = (
        system.settle(drive, drive, tau=tau, kappa0=0.0, noise_seeds=None) for system, tau in runs
    )
    torch.testing.assert_close(limited.full(a), free.full(b))
    torch.testing.assert_close(heat.total, expected.total)
    # automatic gains are chosen again for each settle; what was known to the program fits
    found = limited.conductances()
    assert max(float(value) for value in found.values()) <= largest * (1 + 1e-9)


def test_offsets_are_amplified_by_their_nodes_conductances() -> None:
    """At rest for long the offsets alone drive the circuit: M x = a_x - U (H̃ a_u + a_w)."""
    scales, device = FullScales(2.0, 7.0, 3.0, 1.5), Device(offset=1e-5)
    system = circuit(8, device, scales)
    rest = system.rest()
    x = system.full(system.relax(rest, rest, tau=1e4, kappa0=0.0, noise_seeds=None))
    at_x = 0.1 * 2 + 1.5 + 3 * system.transposed.tensor.abs().sum(dim=0)
    at_u = 7 + 2 * system.jacobian.tensor.abs().sum(dim=1)
    hessian = torch.block_diag(*system.blocks)
    at_w = 3 + 7 * hessian.abs().sum(dim=1)
    a_x, a_u, a_w = (
        part * offsets(device, name, len(part))
        for part, name in ((at_x, "x"), (at_u, "u"), (at_w, "w"))
    )
    u = system.transposed.tensor.T
    m = 0.1 * torch.eye(30, dtype=torch.float64) + u @ hessian @ system.jacobian.tensor
    expected = torch.linalg.solve(m, a_x - u @ (hessian @ a_u + a_w))
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-12)


def test_slow_amplifiers_run_away() -> None:
    """Two equal lags τ: unstable from a τ = 2 on (arXiv 2405.13817's loop, s (1 + s τ)² + a)."""
    a = torch.tensor([40.0 + 0j, 1.0 + 0j], dtype=torch.complex128)
    zero = torch.zeros((), dtype=torch.float64)
    slow, fast = (float(loop(a, zero, (2 * f / 40,) * 2).slowest) for f in (1.01, 0.99))
    assert slow < 0 < fast
    system = circuit(2, Device(amplifier_tau=0.2))
    facts = system.facts()
    assert float(facts["smallest_eigenvalue"]) < 0 and float(facts["bandwidth_margin"]) < 1
    drive = system.vector(normal(5, 30))
    moved, heat = system.settle(drive, drive, tau=1e4, kappa0=0.0, noise_seeds=None)
    assert moved.coeff.isfinite().all() and heat.total.isfinite()


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(-3, 30) | st.floats(-12, -1).map(lambda e: 10.0**e),
    imaginary=st.just(0.0) | st.floats(-5, 5),
    damping=st.floats(0, 2),
    t=st.floats(1e-4, 20),
)
def test_slope_of_complex_modes(rate: float, imaginary: float, damping: float, t: float) -> None:
    """∫ e^{-λ (t - s)} (1 - e^{-a s})/a ds by quadrature, a = λ + s; also near a = 0 and λ = 0."""
    nodes = torch.linspace(0, t, 4001, dtype=torch.float64)
    a = torch.tensor(complex(rate, imaginary), dtype=torch.complex128)
    inner = -torch.expm1(-a * nodes) / a if abs(a) > 1e-9 else nodes.to(a.dtype)
    weights = torch.ones(4001, dtype=torch.float64)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    total = (weights * torch.exp(-damping * (t - nodes)) * inner).sum() * t / 12000
    lam = torch.tensor(damping, dtype=torch.float64)
    got = -response_slope(a - lam, lam, torch.tensor([t], dtype=torch.float64))[0]
    assert abs(complex(got - total)) <= 1e-5 * abs(complex(total)) + 1e-14


def test_a_drift_without_a_basis_is_moved_a_little() -> None:
    """A Jordan block has none; e^{-S t} is found to about the square root of the move."""
    block = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    found = eigenbasis(block)
    assert found.error > 1e-9 > eigenbasis(block.T @ block).error
    decayed = found.combined(torch.exp(-found.rates)[:, None] * found.left)
    torch.testing.assert_close(decayed, torch.linalg.matrix_exp(-block), rtol=0, atol=1e-6)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_one_array_written_while_the_other_stands_runs_away(seed: int) -> None:
    """J of a new batch and Jᵀ of the old one: half of the loop's modes feed back with the wrong
    sign. Both rows of a pair together are another system that relaxes."""
    new, old = normal(seed, 6, 30), normal(seed + 1, 6, 30)
    hessian = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    mixed = torch.cat([new[:3], old[3:]])
    alone, pairs = (
        imperfect_lowrank(j, hessian, 2, 0.01, j[0], IDEAL, transposed=jt)
        for j, jt in ((new, old), (mixed, None))
    )
    assert float(alone.facts()["smallest_eigenvalue"]) < 0
    assert float(pairs.facts()["smallest_eigenvalue"]) == pytest.approx(0.01)
    assert math.isfinite(
        float(alone.dissipation(*[alone.vector(new[0])] * 2, tau=50.0, kappa0=0.0).total)
    )


def test_peaks_are_what_the_amplifiers_put_out() -> None:
    """Of the start already, and the largest over several settles; no more than a full scale."""
    system = circuit(3, Device(gain=1e6))
    state = system.vector(normal(5, 30))
    at_once = system.relax(state, system.rest(), tau=0.0, kappa0=0.0, noise_seeds=None)
    u = system.gain_u * (system.jacobian.tensor @ system.full(state))
    expected = torch.stack([system.full(state).abs().amax(), u.abs().amax()])
    torch.testing.assert_close(at_once.peaks[:2], expected)
    later = system.relax(at_once, system.rest(), tau=3.0, kappa0=0.0, noise_seeds=None)
    torch.testing.assert_close(later.peaks, at_once.peaks)
    tight = circuit(3, Device(), FullScales(0.5, 2.0, 1.0, 1.0))
    clipped = tight.relax(state, tight.rest(), tau=3.0, kappa0=0.0, noise_seeds=None)
    assert (clipped.peaks <= torch.tensor([0.5, 2.0, 1.0, 1.0]) + 1e-12).all()
    assert float(tight.full(clipped).abs().amax()) <= 0.5 + 1e-12
