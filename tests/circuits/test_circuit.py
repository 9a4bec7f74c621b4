"""Counts, scaling laws and edge cases of the circuits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.circuits import dense as dense_circuit
from hybridsim.circuits import low_rank_parts
from hybridsim.circuits.base import FullScales
from hybridsim.circuits.dense import dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.quadrature import instants, panel_edges


@given(st.integers(1, 64), st.integers(1, 20), st.integers(1, 10**6))
def test_part_counts(b: int, d: int, n: int) -> None:
    """b d_z (b d_z + 2N) resistors (claim T11)."""
    load = low_rank_parts.load(n, b * d, outputs=d)
    assert load[:3] == (n, b * d * (b * d + 2 * n), n + 2 * b * d)
    assert load.written == 2 * b * d * n + b * d * d
    whole = low_rank_parts.load(n, b * d, outputs=d, full_hessian=True, copies=2)
    sent = [[(array.name, array.sent) for array in found.arrays] for found in (load, whole)]
    assert sent[0] == [("jacobian", b * d * n), ("hessian", b * d * d)]
    assert sent[1] == [("jacobian", 2 * b * d * n), ("hessian", (b * d) ** 2)]
    assert low_rank_parts.load(n, b, outputs=0)[:4] == (n, 2 * b * n, n + b, 2 * b * n)
    assert dense_circuit.load(n)[:4] == (n, n * n, n, n * n)
    assert [array.sent for array in dense_circuit.load(n).arrays] == [n * (n + 1) // 2]


def case(root: bool = True):  # noqa: ANN201
    g = torch.Generator().manual_seed(1)
    system = lowrank(
        torch.randn(6, 30, generator=g, dtype=torch.float64),
        torch.randn(2, 3, 3, generator=g, dtype=torch.float64) if root else None,
        0.7,
        0.05,
    )
    return system, *(
        system.vector(torch.randn(30, generator=g), torch.randn(6, generator=g)) for _ in range(2)
    )


@given(st.floats(0.01, 20), st.floats(0.01, 20))
def test_consecutive_intervals_add_up(first: float, second: float) -> None:
    """Without noise, with fixed scales: what two intervals dissipate is what their union does."""
    system, state, drive = case()
    scales = FullScales(10.0, 20.0, 30.0)
    run = {"kappa0": 0.0, "full_scales": scales}
    middle = system.relax(state, drive, tau=first, kappa0=0.0, noise_seeds=[0])
    parts = [
        system.dissipation(s, drive, tau=t, **run).stages
        for s, t in ((state, first), (middle, second))
    ]
    whole = system.dissipation(state, drive, tau=first + second, **run).stages
    for stage, energy in whole.items():
        assert float(parts[0][stage] + parts[1][stage]) == pytest.approx(float(energy), rel=1e-6), (
            stage
        )


@given(st.floats(0.1, 100.0))
def test_automatic_scales_take_out_the_size_of_the_signals(factor: float) -> None:
    system, state, drive = case()
    one = system.dissipation(state, drive, tau=3.0, kappa0=0.0)
    larger = [system.vector(factor * v.perp, factor * v.coeff) for v in (state, drive)]
    other = system.dissipation(*larger, tau=3.0, kappa0=0.0)
    assert float(other.total) == pytest.approx(float(one.total), rel=1e-9)


@pytest.mark.parametrize("root", [True, False])
def test_no_time_no_energy_and_a_quiet_circuit(root: bool) -> None:
    system, state, drive = case(root)
    assert float(system.dissipation(state, drive, tau=0.0, kappa0=0.1).total) == 0
    quiet = system.dissipation(system.vector(), system.vector(), tau=5.0, kappa0=0.0)
    assert float(quiet.total) == 0 and float(quiet.full_scales["u"]) == 1
    assert ("h_array" in quiet.stages) is root


def test_full_scales_must_be_positive() -> None:
    system, state, drive = case()
    with pytest.raises(ValueError, match="expected a full scale > 0, got -1"):
        system.dissipation(state, drive, tau=1.0, kappa0=0.0, full_scales=FullScales(x=-1.0))
    x = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected a full scale > 0"):
        dense(torch.eye(2)).dissipation(x, x, tau=1.0, kappa0=0.0, full_scales=FullScales(x=0.0))


def test_a_quiet_dense_circuit() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    for tau in (0.0, 1e12):
        got = dense(torch.zeros(2, 2)).dissipation(x, x, tau=tau, kappa0=0.0)
        assert got.total.shape == (3,) and float(got.total.sum()) == 0


@given(
    st.floats(-3, 12).map(lambda e: 10.0**e),
    st.floats(-6, 6).map(lambda e: 10.0**e),
    st.floats(0, 1),
)
def test_quadrature_of_an_exponential_of_any_slower_rate(
    tau: float, rate: float, part: float
) -> None:
    """Rates up to twice the fastest, as squares of modes have."""
    t, w = instants(tau, rate)
    a = 2 * rate * 10.0 ** (-12 * part)
    exact = float(-torch.expm1(torch.tensor(-a * tau, dtype=torch.float64)) / a)
    assert float(w @ torch.exp(-a * t)) == pytest.approx(exact, rel=1e-6)
    assert float(w.sum()) == pytest.approx(tau, rel=1e-12)
    assert float(t[0]) == 0 and float(t[-1]) == tau
    edges = panel_edges(tau, rate)
    assert all(low < high for low, high in zip(edges, edges[1:], strict=False))
