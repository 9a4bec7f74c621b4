"""What every circuit answers alike, whatever stands in its arrays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import FullScales, System
from hybridsim.circuits.dense import dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.roots import roots

DAMPING = 0.3


def circuits(rows: torch.Tensor) -> dict[str, System]:
    """The same A = XᵀX + λI in each circuit."""
    return {
        "low rank": lowrank(rows, None, 1.0, DAMPING),
        "dense": dense(rows.T @ rows, DAMPING),
        "roots": roots(rows, DAMPING),
    }


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31 - 1), r=st.integers(1, 6), n=st.integers(1, 9), tau=st.floats(0, 20)
)
def test_all_of_them_relax_alike(seed, r, n, tau):
    g = torch.Generator().manual_seed(seed)
    x, start, b = (torch.randn(k, n, generator=g, dtype=torch.float64) for k in (r, 1, 1))
    found, spectra = {}, {}
    for name, system in circuits(x).items():
        state, drive = (
            (system.vector(start[0]), system.vector(b[0])) if name == "low rank" else (start.T, b.T)
        )
        moved, heat = system.settle(state, drive, tau=tau, kappa0=0.0, noise_seeds=None)
        found[name] = system.full(moved).reshape(-1)
        assert (heat.total >= 0).all()
        spectra[name] = torch.stack(system.spectrum)
        assert system.load.cells == n and system.load.resistors >= system.load.written > 0
        facts = system.facts()
        assert set(facts) >= {"largest_eigenvalue", "smallest_eigenvalue", "conductance_damping"}
        # what dissipates has resistors, each with a conductance, but for gains
        arrays = {stage for stage in heat.stages if not stage.startswith("feedback")}
        assert {*system.conductances(), *heat.conductances} == arrays
    for name in ("dense", "roots"):
        torch.testing.assert_close(found[name], found["low rank"], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(spectra[name], spectra["low rank"], rtol=1e-8, atol=1e-9)


@settings(deadline=None)
@given(
    entry=st.floats(0.1, 5),
    root=st.floats(0.1, 3),
    scale=st.floats(0.1, 1),
    x=st.floats(0.1, 3),
    b=st.floats(0.1, 3),
    scales=st.tuples(*[st.floats(0.5, 20)] * 4),
)
def test_a_single_resistor_dissipates_its_conductance_times_the_square_of_its_voltage(
    entry, root, scale, x, b, scales
):
    """One node, one row, nothing moves: every stage is one resistor, G = power/V²."""
    tau = 1e-9
    fixed = FullScales(*scales)
    one = torch.ones(1, dtype=torch.float64)
    rows = entry * one[:, None]
    systems = {
        "low rank": lowrank(rows, root * one[None, None], scale, DAMPING),
        "empirical Fisher": lowrank(rows, None, scale, DAMPING),
        "dense": dense(rows, DAMPING),
        "roots": roots(rows, DAMPING),
    }
    for name, system in systems.items():
        low_rank = name in ("low rank", "empirical Fisher")
        state, drive = (
            system.vector(value * one) if low_rank else value * one[None] for value in (x, b)
        )
        heat = system.dissipation(state, drive, tau=tau, kappa0=0.0, full_scales=fixed)
        u = entry * x
        w = u * scale**2 * root**2 if name == "low rank" else u * scale**2
        voltage = {
            **dict.fromkeys(["j_array", "array", "damping"], x / fixed.x),
            "h_array": u / fixed.u,
            "jt_array": w / fixed.w if name == "low rank" else u / fixed.u,
            "input": b / fixed.b,
        }
        found = {**system.conductances(), **heat.conductances}
        for stage in found:
            expected = float(heat.stages[stage]) / tau / voltage[stage] ** 2
            assert float(found[stage]) == pytest.approx(expected, rel=1e-6), (name, stage)


@pytest.mark.parametrize("name", ["low rank", "dense", "roots"])
def test_samples_of_noise_have_the_covariance_of_the_circuit(name):
    """kappa0 A⁻¹, by samples far apart; the first do not depend on how many follow."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, generator=g, dtype=torch.float64)
    system = circuits(x)[name]
    run = {"settle_tau": 60.0, "spacing_tau": 60.0, "kappa0": 0.5, "noise_seed": 7}
    samples = system.sample(samples=3000, **run)
    expected = 0.5 * torch.linalg.inv(x.T @ x + DAMPING * torch.eye(3, dtype=torch.float64))
    got = samples @ samples.T / samples.shape[1]
    # Wishart: sd of an entry is at most sqrt(2/S) of the largest variance; five of them
    assert (got - expected).abs().max() <= 5 * (2 / 3000) ** 0.5 * expected.diagonal().max()
    torch.testing.assert_close(samples[:, :3], system.sample(samples=3, **run))
