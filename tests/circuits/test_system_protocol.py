"""What every circuit answers alike, whatever stands in its arrays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.circuits.base import System
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
        assert set(facts) >= {"largest_eigenvalue", "smallest_eigenvalue", "conductance"}
    for name in ("dense", "roots"):
        torch.testing.assert_close(found[name], found["low rank"], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(spectra[name], spectra["low rank"], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["low rank", "dense", "roots"])
def test_samples_of_noise_have_the_covariance_of_the_circuit(name):
    """kappa0 A⁻¹, by samples far apart; the first do not depend on how many follow."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, generator=g, dtype=torch.float64)
    system = circuits(x)[name]
    run = {"settle_tau": 60.0, "spacing_tau": 60.0, "kappa0": 0.5, "noise_seed": 7}
    samples = system.sample(samples=6000, **run)
    expected = 0.5 * torch.linalg.inv(x.T @ x + DAMPING * torch.eye(3, dtype=torch.float64))
    got = samples @ samples.T / samples.shape[1]
    # Wishart: sd of an entry is at most sqrt(2/S) of the largest variance; five of them
    assert (got - expected).abs().max() <= 5 * (2 / 6000) ** 0.5 * expected.diagonal().max()
    torch.testing.assert_close(samples[:, :3], system.sample(samples=3, **run))
