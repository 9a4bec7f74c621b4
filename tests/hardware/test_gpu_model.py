"""The GPU model against closed forms, an exhaustive search of tiles, and measurements."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim import count_kernels
from hybridsim.calibration.fit import Measurement, Values, fit, predicted_s
from hybridsim.hardware.gpu_model import ELEMENT_BYTE, busy
from hybridsim.scenario.datasheets.sheets import load_part, part_names
from hybridsim.work import Kernel

SHEETS = [load_part("gpu", name) for name in part_names("gpu")]
sheets = st.sampled_from(SHEETS)
sizes = st.integers(1, 5000)
TILES = {
    (256, 128): "", (128, 256): "", (128, 128): "", (128, 64): "half", (64, 128): "half",
    (64, 64): "quarter", (128, 32): "narrow", (32, 128): "narrow", (64, 32): "small",
    (32, 64): "small", (32, 32): "small",
}  # fmt: skip


def contraction(batch, m, n, k, precision="fp32"):
    moved = ELEMENT_BYTE[precision] * batch * (m * k + k * n + m * n)
    flop = 2.0 * batch * m * n * k
    return Kernel("mm", flop, float(moved), precision, "contraction", (batch, m, n, k))


def searched_s(sheet, batch, m, n, k):
    """Every tile with every split of k, written down apart from the model."""
    value, found = sheet.value, []
    cores = value("multiprocessors")
    rate = value("contraction_efficiency") * value("peak_fp32_flop_per_s") / cores
    bandwidth = value("memory_bandwidth_byte_per_s")
    for ((rows, columns), name), split in product(TILES.items(), (1, 2, 4, 8, 16, 32)):
        if split > 1 and k < 128 * split:
            continue
        share = value(f"tile_{name}_efficiency") if name else 1.0
        tiles = math.ceil(m / rows) * math.ceil(n / columns) * batch * split / cores
        waves = max(1, tiles + 0.3 * (math.ceil(tiles) - tiles))
        tile_s = 2 * rows * columns * 8 * math.ceil(k / split / 8) / (rate * share)
        sums_s = 0 if split == 1 else 4 * (split + 1) * batch * m * n
        sums_s /= value("bandwidth_efficiency") * bandwidth
        found.append(waves * (tile_s + value("tile_prologue_s")) + sums_s)
    moved = 4 * batch * (m * k + k * n + m * n) + 32 * batch * (2 * m + k)
    memory_s = moved / (value("contraction_bandwidth_efficiency") * bandwidth)
    return value("contraction_floor_s") + max(min(found), memory_s)


@settings(deadline=None)
@given(sheets, st.integers(1, 300), sizes, sizes, sizes)
def test_a_product_takes_the_best_of_all_tiles_and_splits(sheet, batch, m, n, k):
    m, n = m + 1, n + 1  # with a vector it has no tiles
    found = busy(sheet, contraction(batch, m, n, k))
    assert found.device_s == pytest.approx(searched_s(sheet, batch, m, n, k), rel=1e-12)
    assert 0 < found.active_s <= found.device_s


@given(sheets, st.integers(1, 300), sizes, sizes, st.booleans())
def test_a_product_with_a_vector_is_bound_by_memory(sheet, batch, m, k, column):
    """Each number once; two FLOP for each number of the matrix are less, whatever the sheet."""
    kernel = contraction(batch, m, 1, k) if column else contraction(batch, 1, m, k)
    bandwidth = sheet.value("contraction_bandwidth_efficiency") * sheet.value(
        "memory_bandwidth_byte_per_s"
    )
    moved_s = 4 * batch * (m * k + k + m) / bandwidth
    found = busy(sheet, kernel)
    assert found.active_s == pytest.approx(moved_s, rel=1e-12)
    assert found.device_s == pytest.approx(sheet.value("contraction_floor_s") + moved_s, rel=1e-12)


@given(sheets, st.integers(1, 40), st.sampled_from(["fp32", "tf32", "fp64", "bf16", "fp16"]))
def test_time_steps_with_the_waves(sheet, waves, precision):
    """Tiles that fill the device w times take w waves; one tile more takes longer, by part of a
    wave."""
    cores, k = int(sheet.value("multiprocessors")), 4096
    full = busy(sheet, contraction(1, 128 * cores * waves, 128, k, precision)).device_s
    more = busy(sheet, contraction(1, 128 * cores * waves + 1, 128, k, precision)).device_s
    twice = busy(sheet, contraction(1, 256 * cores * waves, 128, k, precision)).device_s
    floor = sheet.value("contraction_floor_s")
    assert full <= more <= floor + (full - floor) * (1 + 1 / waves) * (1 + 1e-9)
    assert twice - floor <= 2 * (full - floor) * (1 + 1e-9)


@given(sheets, st.integers(1, 10**9))
def test_memory_sets_the_pace_of_what_goes_element_by_element(sheet, elements):
    kernel = Kernel("add", float(elements), 12.0 * elements)
    moved = 12 * elements / sheet.value("memory_bandwidth_byte_per_s")
    compute_s = elements / sheet.value("peak_fp32_flop_per_s")
    active_s = max(moved / sheet.value("bandwidth_efficiency"), compute_s)
    found = busy(sheet, kernel)
    assert found.active_s == pytest.approx(active_s, rel=1e-12)
    assert found.device_s == pytest.approx(sheet.value("device_floor_s") + active_s, rel=1e-12)


@pytest.mark.parametrize("routine", ["cholesky", "inverse", "eigh", "lu", "qr", "triangular"])
@given(sheet=sheets, n=st.integers(1, 4000), matrices=st.integers(1, 500))
def test_a_batch_of_factorisations_is_one_launch(routine, sheet, n, matrices):
    """Linear in the number of matrices, far below so many launches where they are small."""

    def seconds(number):
        flop, moved = number * n**3 / 3, 8.0 * number * n * n
        return busy(sheet, Kernel("f", flop, moved, "fp64", routine, (number, n))).device_s

    one, two, many = seconds(1), seconds(2), seconds(matrices)
    assert many == pytest.approx(one + (matrices - 1) * (two - one), rel=1e-6)
    if n <= 16:
        assert seconds(100) < 25 * one


@settings(deadline=None)
@given(
    sheets, st.integers(1, 64), st.integers(1, 300), st.integers(1, 300), st.integers(1, 60),
    st.sampled_from([0, 1, 2]),
)  # fmt: skip
def test_a_convolution_of_3_x_3_may_take_winograd(sheet, images, c_in, c_out, side, direction):
    """Never slower than the same one with a stride's worth of positions, which may not; FP64 never
    does."""
    flop = 2.0 * images * c_in * c_out * 9 * side * side
    moved = 4.0 * images * (c_in + c_out) * side * side

    def seconds(dilation, precision="fp32"):
        shape = (direction, 1, images, c_in, c_out, 3, 3, side, side, 1, dilation)
        return busy(sheet, Kernel("c", flop, moved, precision, "convolution", shape)).device_s

    assert seconds(1) <= seconds(2)
    assert seconds(1, "fp64") == seconds(2, "fp64")


@settings(max_examples=8, deadline=None)
@given(
    st.floats(0.5, 0.95), st.floats(0.6, 0.95), st.floats(0, 3e-5), st.integers(0, 2**31),
)  # fmt: skip
def test_the_fit_finds_the_constants_that_made_the_times(efficiency, bandwidth, dispatch_s, seed):
    start = {k: c.value for k, c in load_part("gpu", "a100-pcie-40gb").constants.items()}
    truth = {**start, "contraction_efficiency": efficiency, "bandwidth_efficiency": bandwidth}
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for size in torch.randint(500, 6000, (12,), generator=generator).tolist():
        for kernel in (contraction(1, size, size, size), Kernel("add", 0.0, 4000.0 * size * size)):
            seconds = predicted_s(truth, Measurement((kernel,), 1.0, "", ""), dispatch_s)
            rows.append(Measurement((kernel,), seconds, "", "", "host"))
    found = fit(start, rows, ["contraction_efficiency", "bandwidth_efficiency"])
    fitted = found.constants
    assert fitted["contraction_efficiency"].value == pytest.approx(efficiency, rel=0.02)
    assert fitted["bandwidth_efficiency"].value == pytest.approx(bandwidth, rel=0.02)
    assert found.dispatch_s["host"] == pytest.approx(dispatch_s, abs=2e-6)
    for one in fitted.values():
        assert one.low <= one.value <= one.high and one.rows >= 5


def test_a_constant_that_no_row_hangs_on_is_not_fitted():
    start = {k: c.value for k, c in load_part("gpu", "a100-pcie-40gb").constants.items()}
    rows = [Measurement((Kernel("add", 0.0, 1e9 * k),), 1e-3 * k, "", "") for k in range(1, 9)]
    assert "qr_step_s" not in fit(start, rows, ["bandwidth_efficiency", "qr_step_s"]).constants
    with pytest.raises(ValueError, match="expected measurements"):
        fit(start, [], ["bandwidth_efficiency"])


def test_values_are_read_by_name():
    assert Values({"a": 2.0}).value("a") == 2.0


def test_kernels_of_a_function_are_those_of_its_operators():
    a = torch.zeros(3, 4)
    (kernel,) = count_kernels(torch.mm, a, a.T)
    assert kernel.shape == (1, 3, 3, 4)
