"""Rows that are made as they are read are the matrix that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridsim.circuits import layered, rows
from hybridsim.circuits.base import FullScales
from hybridsim.circuits.imperfect_low_rank import imperfect_lowrank
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.patterns import normal_columns, normal_pattern
from hybridsim.circuits.layered import Outer, SideBySide
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.rows import Explicit, Mapped, Rows

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
seeds, few = st.integers(0, 2**31), st.integers(1, 4)


@contextmanager
def small_pieces(made_bytes: int, elements: int = 1 << 18) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_MADE_BYTES", made_bytes)
        patch.setattr(rows, "_CPU_ELEMENTS", elements)
        patch.setattr(layered, "_ELEMENTS", elements)
        yield


def layers(seed: int, dtype: torch.dtype, sizes: list[tuple[int, int, int]]) -> list[Rows]:
    """Of 3 examples with 2 rows each: (positions, inputs, outputs) of each layer, and columns."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    found: list[Rows] = [Explicit(normal(6, 5))]
    for positions, inputs, outputs in sizes:
        found.append(Outer(normal(3, positions, inputs), normal(3, 2, positions, outputs)))
    return found


def formed(layer: Rows) -> Tensor:
    """J from its definition, float64."""
    if isinstance(layer, Outer):
        made = torch.einsum("bdpo,bpk->bdok", layer.slopes.double(), layer.inputs.double())
        return made.reshape(6, -1)
    assert isinstance(layer, Explicit)
    return layer.tensor.double()


@settings(deadline=None, max_examples=12)
@given(seeds, st.lists(st.tuples(few, few, few), min_size=1, max_size=3), st.integers(1, 4000))
def test_layers_side_by_side_are_their_matrix(
    seed: int, sizes: list[tuple[int, int, int]], elements: int
) -> None:
    groups = layers(seed, torch.float64, sizes)
    found, j = SideBySide(groups), torch.cat([formed(group) for group in groups], dim=1)
    size = j.shape[1]
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    w = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    with small_pieces(64 * elements, elements):
        assert found.shape == j.shape
        torch.testing.assert_close(found.columns(slice(0, size)), j, **TIGHT)
        torch.testing.assert_close(found.gram(), j @ j.T, **TIGHT)
        assert torch.equal(found.gram(), found.gram().T)
        torch.testing.assert_close(found.times(v), j @ v, **TIGHT)
        back = found.transposed_times(w[0], v[:, 0])
        torch.testing.assert_close(back, v[:, 0] + j.T @ w[0], **TIGHT)
        for along, expected in zip(found.absolute_sums(), (1, 0), strict=True):
            torch.testing.assert_close(along, j.abs().sum(dim=expected), **TIGHT)
        torch.testing.assert_close(found.largest(), j.abs().max(), **TIGHT)
        for blocks in (False, True):
            pieces = list(found.combined(w, lambda part: v[part, :1].T, blocks=blocks))
            assert [part.start for part, _, _ in pieces] == sorted(p.start for p, _, _ in pieces)
            values = torch.cat([values for _, values, _ in pieces], dim=1)
            torch.testing.assert_close(values, v[:, 0] + w @ j, **TIGHT)
            assert all((block is not None) == blocks for _, _, block in pieces) or not blocks
        doubled = found.above(found).columns(slice(0, size))
        torch.testing.assert_close(doubled, torch.cat([j, j]), **TIGHT)


@settings(deadline=None, max_examples=10)
@given(seeds, st.sampled_from([0.0, 0.01]), st.floats(0, 30))
def test_a_circuit_of_layers_is_that_of_their_matrix(seed: int, kappa0: float, tau: float) -> None:
    groups = layers(seed, torch.float64, [(1, 4, 6), (3, 2, 5)])
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    matrix = torch.cat([formed(group) for group in groups], dim=1)
    answers = []
    for j in (matrix, SideBySide(groups)):
        system = lowrank(j, root, 0.5, 0.1)
        generator.manual_seed(seed)
        state, drive = (
            system.vector(
                *(torch.randn(n, generator=generator).double() for n in matrix.shape[::-1])
            )
            for _ in range(2)
        )
        run = {"tau": tau, "kappa0": kappa0, "noise_seeds": [seed]}
        moved, heat = system.settle(state, drive, charge=True, **run)
        facts = {**heat.facts(), **system.facts(), "heat": heat.total}
        answers.append((system.full(moved), facts))
    (expected, facts), (found, others) = answers
    torch.testing.assert_close(found, expected, **TIGHT)
    assert facts.keys() == others.keys()
    for name, fact in facts.items():
        torch.testing.assert_close(others[name], fact, **TIGHT)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_some_columns_of_a_pattern_are_drawn_as_all_are(
    count: int, size: int, width: int, dtype: torch.dtype
) -> None:
    whole, starts = normal_pattern(3, "some part", count, size, dtype=dtype), range(0, size, width)
    for start in reversed(starts):
        part = slice(start, min(start + width, size))
        found = normal_columns(3, "some part", count, size, part, tuple(starts), dtype=dtype)
        assert torch.equal(found, whole[:, part])


class Made(Rows):
    """A matrix of which no more than some columns are asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.widest = tensor, 0
        self.shape, self.dtype, self.device = tuple(tensor.shape), tensor.dtype, tensor.device

    def columns(self, part: slice) -> Tensor:
        self.widest = max(self.widest, part.stop - part.start)
        return self.tensor[:, part].clone()


@settings(deadline=None, max_examples=4)
@given(seeds, st.sampled_from([torch.float32, torch.float64]))
def test_a_device_as_built_is_the_same_to_the_bit_in_pieces(seed: int, dtype: torch.dtype) -> None:
    """Mismatch, drift, dead cells, offsets and noise are those of the whole arrays."""
    generator = torch.Generator().manual_seed(seed)
    j = torch.randn(6, 500, generator=generator, dtype=dtype)
    hessian = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    device = Device(
        mismatch=0.01, thermal=1e-6, gain=1e4, offset=1e-4, dead_share=0.05, drift=1e-3,
        smallest_conductance=0.1,
    )  # fmt: skip
    scales = FullScales(1e3, 1e4, 1e4, 1e3)
    answers, made = [], Made(j)
    with small_pieces(6 * 128 * dtype.itemsize, 6 * 64):
        for rows in (j, made):
            system = imperfect_lowrank(rows, hessian, 2, 0.1, j[0], device, scales, age_tau=50.0)
            state, drive = system.vector(j[1]), system.vector(j[2], torch.ones(6).double())
            moved, heat = system.settle(state, drive, tau=5.0, kappa0=1e-3, noise_seeds=[seed])
            answers.append((system.full(moved), moved.peaks, torch.stack([*heat.facts().values()])))
    assert made.widest == 128
    for expected, found in zip(*answers, strict=True):
        assert torch.equal(found, expected)


def test_what_is_made_is_changed_as_it_is_read() -> None:
    j = torch.randn(3, 40)
    changed = Made(j).mapped(lambda part, entries: entries * torch.arange(40)[part])
    assert isinstance(changed, Mapped)
    assert torch.equal(changed.columns(slice(7, 20)), (j * torch.arange(40))[:, 7:20])
    with pytest.raises(TypeError, match="cannot be joined"):
        changed.above(changed)
