"""Circuits without amplifiers: a network of resistors, and cells coupled by capacitors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor

import hybridsim
from hybridsim.algorithms.kfac import built
from hybridsim.circuits import capacitive as capacitors
from hybridsim.circuits import passive as resistors
from hybridsim.circuits.capacitive import capacitive
from hybridsim.circuits.dense import dense
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_pattern
from hybridsim.circuits.networks import network_of
from hybridsim.circuits.passive import passive
from hybridsim.errors import HybridsimError, InputError

seeds = st.integers(0, 2**31)


def laplacian(seed: int, n: int, signed: bool) -> Tensor:
    """Diagonally dominant; off-diagonals <= 0 unless ``signed``."""
    g = torch.Generator().manual_seed(seed)
    off = torch.rand(n, n, generator=g, dtype=torch.float64).tril(-1)
    if signed:
        off = off * torch.randn(n, n, generator=g, dtype=torch.float64).sign()
    off = -off - off.T
    ground = torch.rand(n, generator=g, dtype=torch.float64)
    return off + torch.diag(off.abs().sum(dim=1) + ground)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 9), st.floats(0.05, 30), st.booleans())
def test_what_sources_supply_is_dissipated_or_stored(seed, n, tau, dual):
    """∫ bᵀx dτ by expm of the system with its integral; resistor by resistor at one instant."""
    a, b = laplacian(seed, n, dual), normal(seed + 1, n, 1)
    system = passive(a, 0.1, Device(instance=seed, mismatch=0.1), dual_rail=dual)
    run = {"tau": tau, "kappa0": 0.0, "noise_seeds": None}
    x, heat = system.settle(None, b, **run)
    x_fs, rails = float(heat.full_scales["x"]), 2 if dual else 1
    basis = system.basis
    rates = ((basis.right * basis.rates) @ basis.left).real
    c = (1 + 0.1 * normal_pattern(seed, "capacitor", n, dtype=torch.float64)).numpy()
    drive = (system.drive_gain[:, None] * b).numpy()[:, 0]
    whole = np.zeros((n + 2, n + 2))
    whole[:n, :n], whole[:n, n] = -rates.numpy(), drive
    whole[n + 1, :n] = drive * c  # power of the sources
    end = expm(whole * tau)[:, n]
    np.testing.assert_allclose(x[:, 0].numpy(), end[:n], rtol=1e-9, atol=1e-10)
    supplied = rails * end[n + 1] / x_fs**2
    stored = rails * float((c * end[:n] ** 2).sum()) / 2 / x_fs**2
    assert float(heat.total) + stored == pytest.approx(supplied, rel=1e-6)
    assert set(heat.charge) == {"input"} and system.load.amplifiers == 0


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 7), st.booleans())
def test_a_network_relaxes_as_any_circuit_and_its_resistors_add_up(seed, n, dual):
    a, b = laplacian(seed, n, dual), normal(seed + 1, n, 2)
    run = {"tau": 3.0, "kappa0": 0.0, "noise_seeds": None}
    found = passive(a, 0.2, Device(), dual_rail=dual).relax(None, b, **run)
    torch.testing.assert_close(found, dense(a, 0.2).relax(None, b, **run), rtol=1e-9, atol=1e-11)
    parts = network_of(a, 0.2, circuit="passive", dual_rail=dual)
    torch.testing.assert_close(parts.matrix, a + 0.2 * torch.eye(n, dtype=torch.float64))
    v = b[:, 0]
    power = float(parts.ground @ v**2)
    for i in range(n):
        for j in range(i):
            power += float(parts.between[i, j] * (v[i] + parts.signs[i, j] * v[j]) ** 2)
    assert power == pytest.approx(float(v @ parts.matrix @ v), rel=1e-9)
    rails = 2 if dual else 1
    assert resistors.load(n, rails)[:3] == (rails * n, rails * n * (n + 1) // 2, 0)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, 7), st.booleans())
def test_every_cell_of_a_passive_network_has_the_noise_of_its_capacitor(seed, n, dual):
    """kT/C whatever the resistors; half of it between two rails."""
    device = Device(instance=seed, thermal=1e-4)
    system = passive(laplacian(seed, n, dual), 0.5, device, dual_rail=dual)
    found = system.noise.thermal * system.covariances.after(system.noise.array, 200.0)
    expected = 1e-4 / (2 if dual else 1) * torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("make", [passive, capacitive])
def test_a_matrix_that_is_no_network_is_told_why(make) -> None:
    positive = torch.tensor([[2.0, 0.5], [0.5, 2.0]], dtype=torch.float64)
    with pytest.raises(HybridsimError, match=r"off-diagonals <= 0 .* got 0\.5 in row 0, column 1"):
        make(positive, 0.1, Device())
    make(positive, 0.1, Device(), dual_rail=True)
    weak = torch.tensor([[2.0, -1.5], [-1.5, 1.0]], dtype=torch.float64)
    with pytest.raises(HybridsimError, match=r"got 1\.1 < 1\.5 in row 1"):
        make(weak, 0.1, Device())
    make(weak, 0.6, Device())


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, 8), st.floats(0.1, 30), st.booleans())
def test_the_covariance_of_coupled_cells_is_the_inverse_in_time(seed, n, tau, dual):
    """kappa0 M⁻¹ (1 - exp(-2 M⁻¹ τ)); the mean tends to b, which is not M⁻¹ b."""
    m = laplacian(seed, n, dual) + 0.2 * torch.eye(n, dtype=torch.float64)
    system = capacitive(m, 0.0, Device(), dual_rail=dual)
    inverse = np.linalg.inv(m.numpy())
    expected = inverse @ (np.eye(n) - expm(-2 * inverse * tau))
    found = system.covariances.after(system.noise.injected, tau).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)
    b = normal(seed + 1, n, 1)
    settled = system.relax(None, b, tau=1000.0, kappa0=0.0, noise_seeds=None)
    torch.testing.assert_close(settled, b, rtol=1e-7, atol=1e-9)
    rails = 2 if dual else 1
    assert capacitors.load(n, rails)[:3] == (rails * n, rails * n * (n + 1) // 2, 0)


def test_eight_cells_invert_to_one_over_the_root_of_samples_and_to_their_mismatch() -> None:
    """The board of arXiv 2312.04836: error against samples, and the floor that its parts set."""
    m = laplacian(5, 8, signed=False)
    inverse = torch.linalg.inv(m)
    run = {"settle_tau": 100.0, "spacing_tau": 100.0, "kappa0": 1.0, "noise_seed": 1}

    def error(system, count: int) -> float:
        x = system.sample(samples=count, **run)
        return float((x @ x.T / count - inverse).norm() / inverse.norm())

    exact = capacitive(m, 0.0, Device())
    trace = float(inverse.trace() ** 2 / inverse.square().sum())
    for count in (100, 1600, 25600):
        # Wishart: E|S - Σ|²/|Σ|² = (1 + (tr Σ)²/|Σ|²)/count
        assert error(exact, count) == pytest.approx(((1 + trace) / count) ** 0.5, rel=0.6)
    real = capacitive(m, 0.0, Device(instance=3, mismatch=0.05))
    limit = real.covariances.after(real.noise.injected, 1e4)
    floor = float((limit - inverse).norm() / inverse.norm())
    assert 0.005 < floor < 0.5 and error(real, 50000) == pytest.approx(floor, rel=0.5)


def spus(**choice):
    algorithm = choice.pop("algorithm")
    machine = {"gpu": "a100-sxm4-80gb", "spus": {"count": 1, "part": "rc-1us", **choice}}
    kfac = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1}
    given = kfac | algorithm if "kind" not in algorithm else algorithm
    training = {"batch_size": 4, "steps": 1, "algorithm": given}
    return {"name": "test", "workload": "digits_mlp", "training": training, "machine": machine}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"circuit": "capacitive", "algorithm": {}}, "method: noise"),
        ({"circuit": "passive", "algorithm": {"upload": "activations"}}, "two arrays"),
        ({"circuit": "passive", "algorithm": {"tiling": True}}, "under tiling"),
        ({"dual_rail": True, "algorithm": {}}, "false under circuit: summing"),
        (
            {
                "circuit": "passive",
                "algorithm": {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1},
            },
            "'summing' for algorithm 'tngd'",
        ),
    ],
)
def test_circuits_that_do_not_serve_are_refused(choice, said) -> None:
    with pytest.raises(InputError, match=said):
        hybridsim.load(spus(**choice))


def test_kfac_programs_a_network_or_says_why_not() -> None:
    shift = torch.tensor(0.1, dtype=torch.float64)
    run = {"input_bits": 8, "device": Device(), "circuit": "passive"}
    found = built.program(laplacian(0, 6, signed=False), shift, **run)
    assert found.value.load.amplifiers == 0 and "conductance_network" in found.facts
    with pytest.raises(HybridsimError, match="passive"):
        built.program(torch.ones(3, 3), shift, **run)
    scenario = hybridsim.load(spus(circuit="passive", dual_rail=True, algorithm={"damping": 1e6}))
    assert scenario.machine.expand().nodes[-1].circuit == "passive"
    timing = hybridsim.run(scenario, backend="timing")
    assert timing.summary["steps"] == 1
