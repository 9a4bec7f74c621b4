"""What an SPU computes for K-FAC, against dense solves and column-by-column loops."""

from __future__ import annotations

import pytest
import torch
from forbid import NoSolver
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridsim.algorithms.kfac import device as kronecker
from hybridsim.circuits import dense as dense_circuit
from hybridsim.circuits import roots as roots_circuit
from hybridsim.circuits.base import FullScales, settling_tau
from hybridsim.circuits.dense import Dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.precision import levels, quantize
from hybridsim.circuits.roots import Roots, roots

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 24)
tau_ = st.floats(-2, 3).map(lambda e: 10.0**e)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(seed: int, r: int, n: int) -> Tensor:
    """Columns over three decades, some rows zero, one twice."""
    x = normal(seed, r, n) * torch.logspace(0, -3, n, dtype=torch.float64)
    x[: r // 4] = 0.0
    if r > 1:
        x[-1] = x[-2]
    return x


def programmed(x: Tensor, shift: float, form: str) -> Dense | Roots:
    held = (kronecker.program, x.T @ x) if form == "factor" else (kronecker.program_roots, x)
    return held[0](held[1], torch.tensor(shift, dtype=torch.float64), input_bits=None).value


def columns(drive: Tensor, system: Dense | Roots, tau: float, **changes) -> Tensor:
    run = {"tau": tau, "kappa0": 0.0, "noise_seed": 0} | changes
    return kronecker.settle(system, None, drive, **run).value


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, st.floats(1e-2, 1.0), st.sampled_from(["factor", "rows"]))
def test_unit_columns_settle_to_the_inverse(
    seed: int, r: int, n: int, shift: float, form: str
) -> None:
    x, held = rows(seed, r, n), torch.empty(r if form == "rows" else n, n)
    with NoSolver():
        system = programmed(x, shift, form)
        pieces = []
        for first in range(0, n, 5):
            unit = kronecker.units(
                held, first=first, count=min(5, n - first), dtype="float32"
            ).value
            drive = kronecker.convert(unit, bias_bits=None).value
            state = columns(drive, system, settling_tau(60, shift), first=first)
            pieces.append(kronecker.read(state, output_bits=None, dtype="float64").value)
    inverse = torch.linalg.inv(x.T @ x + shift * torch.eye(n, dtype=torch.float64))
    torch.testing.assert_close(
        torch.cat(pieces, dim=1), inverse, rtol=0, atol=1e-10 * float(inverse.abs().max())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_columns_follow_shapes_and_type(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    for device in ("cpu", "meta"):
        unit = kronecker.units(torch.empty(3, 7, device=device), first=2, count=4, dtype=name).value
        assert unit.dtype == dtype and unit.device.type == device and unit.shape == (7, 4)
    unit = kronecker.units(torch.empty(3, 7), first=2, count=4, dtype=name).value
    assert torch.equal(unit, torch.eye(7, dtype=dtype)[:, 2:6])


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, st.floats(0, 1), tau_, st.sampled_from([0.0, 0.1]))
def test_rows_are_the_system_of_their_product(
    seed: int, r: int, n: int, shift: float, tau: float, kappa0: float
) -> None:
    x, b = rows(seed, r, n), normal(seed + 1, n, 3)
    with NoSolver():
        one, other = programmed(x, shift, "factor"), programmed(x, shift, "rows")
        got = [columns(b, system, tau, kappa0=kappa0, noise_seed=4) for system in (one, other)]
    tolerance = 1e-10 * float(got[0].abs().max()) * max(1.0, tau)
    torch.testing.assert_close(*got, rtol=0, atol=tolerance)
    torch.testing.assert_close(
        one.eigenvalues, other.eigenvalues, rtol=0, atol=1e-12 * float(one.eigenvalues[-1] + 1)
    )
    identity = other.eigenvectors.T @ other.eigenvectors
    torch.testing.assert_close(identity, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-12)
    v, a = other.eigenvectors, x.T @ x + shift * torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(
        (v * other.eigenvalues) @ v.T, a, rtol=0, atol=1e-12 * float(a.abs().max() + 1) * n
    )


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, st.integers(2, 16), st.floats(0, 1))
def test_rounded_rows_lie_on_levels_and_keep_the_system_stable(
    seed: int, r: int, n: int, bits: int, shift: float
) -> None:
    x = rows(seed, r, n).float()
    outcome = kronecker.program_roots(x, torch.tensor(shift, dtype=torch.float64), input_bits=bits)
    held, step = outcome.value.rows, float(x.abs().max()) / levels(bits)
    assert float((held - x).abs().max()) <= step / 2 + 1e-7 * float(x.abs().max())
    assert float(outcome.facts["smallest_eigenvalue"]) >= shift
    a = held.T @ held + shift * torch.eye(n, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(a)
    torch.testing.assert_close(
        outcome.value.eigenvalues, expected, rtol=0, atol=1e-12 * float(expected[-1] + 1)
    )
    assert float(outcome.facts["largest_eigenvalue"]) == pytest.approx(
        float(expected[-1]), abs=1e-10
    )
    assert float(outcome.facts["conductance_j_array"]) == float(held.abs().max())


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, st.integers(2, 40), st.sampled_from(["factor", "rows"]), st.data())
def test_columns_spread_over_spus_are_those_of_one(
    seed: int, n: int, k: int, form: str, data
) -> None:
    """Noise goes by a column's number, the automatic ranges by the column."""
    system, b = programmed(rows(seed, 9, n), 0.1, form), normal(seed, n, k)
    cut = data.draw(st.integers(1, k - 1))
    run = {"kappa0": 0.2, "noise_seed": seed}
    whole = columns(b, system, 2.0, **run)
    parts = [
        columns(b[:, :cut], system, 2.0, **run),
        columns(b[:, cut:], system, 2.0, **run, first=cut),
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-12, atol=1e-13)
    if cut >= k - cut:
        assert not torch.allclose(parts[0][:, : k - cut] - parts[1], b[:, : k - cut] - b[:, cut:])


@settings(max_examples=60, deadline=None)
@given(
    seeds, sizes, st.integers(1, 30), st.one_of(st.none(), st.integers(2, 16)), st.integers(1, 200)
)
def test_converters_range_over_each_column(
    seed: int, n: int, k: int, bits: int | None, chunk: int
) -> None:
    """Bit for bit a loop over the columns, whatever the size of the pieces that are worked on at
    once."""
    x = normal(seed, n, k) * torch.logspace(-20, 20, k, dtype=torch.float64)
    x[:, 0] = 0.0
    loop = torch.stack([quantize(column, bits)[0] for column in x.unbind(dim=1)], dim=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridsim.circuits.precision._CPU_CHUNK", chunk)
        assert torch.equal(kronecker.convert(x, bias_bits=bits).value, loop)
        for dtype, kind in (("float32", torch.float32), ("float64", torch.float64)):
            got = kronecker.read(x, output_bits=bits, dtype=dtype).value
            assert got.dtype == kind and torch.equal(got, loop.to(kind))
        transposed = x.T.contiguous().T
        assert torch.equal(
            kronecker.read(transposed, output_bits=bits, dtype="float64").value, loop
        )


@settings(max_examples=30, deadline=None)
@given(
    seeds,
    sizes,
    sizes,
    st.floats(1e-2, 1.0),
    tau_,
    st.sampled_from([0.0, 1e-3, 0.5]),
    st.booleans(),
)
def test_rows_dissipate_what_tngds_circuit_does(
    seed: int, r: int, n: int, damping: float, tau: float, kappa0: float, fixed: bool
) -> None:
    """The same circuit as with the empirical Fisher of one sample per row, J = X: every stage,
    every full scale."""
    x, (start, b) = normal(seed, r, n), normal(seed + 1, 2, n, 1)
    scales = FullScales(2.0, 3.0, None, 4.0) if fixed else FullScales()
    run = {"tau": tau, "kappa0": kappa0, "full_scales": scales}
    dense = roots(x, damping).dissipation(start, b, **run)
    wide = lowrank(x, None, 1.0, damping)
    other = wide.dissipation(wide.vector(start[:, 0]), wide.vector(b[:, 0]), **run)
    assert set(dense.stages) == set(other.stages)
    if not fixed:
        # ours follows only the signal that leads at the edges: it may miss a little (0.5 % of
        # random systems, by 5 % at most), never exceed
        for stage, scale in dense.full_scales.items():
            assert 0.9 <= float(scale) / float(other.full_scales[stage]) <= 1 + 1e-6, stage
        scales = FullScales(
            *(float(dense.full_scales[stage]) for stage in "xu"),
            None,
            float(dense.full_scales["b"]),
        )
        other = wide.dissipation(
            wide.vector(start[:, 0]), wide.vector(b[:, 0]), **run | {"full_scales": scales}
        )
    for stage, energy in other.stages.items():
        assert float(dense.stages[stage]) == pytest.approx(float(energy), rel=1e-6, abs=1e-12), (
            stage
        )
    for stage, swing in dense.saturation.items():
        assert float(swing) == pytest.approx(float(other.saturation[stage]), rel=0.1)


def test_a_circuit_at_rest_is_one_of_zero_voltages() -> None:
    for form in ("factor", "rows"):
        system, b = programmed(rows(0, 5, 8), 0.1, form), normal(1, 8, 3)
        zero, run = torch.zeros_like(b), {"tau": 3.0, "kappa0": 0.1, "noise_seed": 2}
        explicit, implicit = (kronecker.settle(system, state, b, **run) for state in (zero, None))
        torch.testing.assert_close(explicit.value, implicit.value, rtol=1e-13, atol=1e-14)
        for fact, number in explicit.facts.items():
            assert float(implicit.facts[fact]) == pytest.approx(float(number), rel=1e-12), fact
        nothing = kronecker.settle(system, None, b, tau=0.0, kappa0=0.1, noise_seed=2)
        assert torch.equal(nothing.value, zero) and float(nothing.facts["dissipation"]) == 0


def test_a_runaway_is_counted() -> None:
    system = kronecker.program(-torch.eye(3), torch.tensor(0.0), input_bits=None).value
    outcome = kronecker.settle(
        system, None, torch.ones(3, 2).double(), tau=1e6, kappa0=0.0, noise_seed=0
    )
    assert int(outcome.facts["nonfinite"]) == 6


@given(st.integers(1, 10**4), st.integers(1, 10**4))
def test_part_counts(r: int, n: int) -> None:
    """TKFAC: n² resistors for a factor; 2 b n for b activations, both arrays."""
    assert dense_circuit.load(n)[:3] == (n, n * n, n)
    assert roots_circuit.load(r, n)[:3] == (n, 2 * r * n, n + r)


def test_rows_must_be_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"expected a matrix \(r, n\), got \(3,\)"):
        roots(torch.ones(3))
