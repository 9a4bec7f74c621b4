"""Rounding and packing on the GPU: its bytes and time in closed form, and where it happens."""

from __future__ import annotations

import math

import pytest
from harness import IDEAL, document, execute
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.operations.packing import Packed, packing

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "5 tau"}
KFAC = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1, "settle": "5 tau"}
BITS = {**IDEAL, "input_bits": 8, "bias_bits": 12, "output_bits": 10}


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(2, 16)), min_size=1, max_size=4),
    st.sampled_from([4, 8]),
)
def test_numbers_are_read_twice_and_written_packed(arrays, element_bytes):
    work = packing([Packed(n, n, 0, bits) for n, bits in arrays], element_bytes)
    expected = sum(2 * element_bytes * n + n * bits / 8 for n, bits in arrays)
    assert work.bytes == pytest.approx(expected) and work.launches == 2 * len(arrays)
    assert work.peak_bytes == round(sum(element_bytes * n + n * bits / 8 for n, bits in arrays))


@given(st.integers(1, 3000), st.integers(2, 16))
def test_a_symmetric_matrix_is_read_whole_and_written_as_a_triangle(n, bits):
    work = packing([Packed(n * n, n * (n + 1) // 2, n, bits)], 4)
    assert work.bytes == pytest.approx(8 * n * n + n * (n + 1) / 2 * bits / 8 + 12 * n)
    assert work.launches == 3


def test_numbers_that_cross_as_they_are_take_no_work():
    assert not packing([Packed(100, 100, 0, 32)], 4).kernels
    link = {"part": "paper-50gbps", "number_bits": 32}
    _, sink = execute(document(TNGD, steps=1, machine={"link": link}), live=False)
    assert not [s for s in sink.spans if s["kind"].startswith("pack")]


def roofline_s(sheet, moved, launches):
    value = sheet.value
    bandwidth = value("bandwidth_efficiency") * value("memory_bandwidth_byte_per_s")
    device_s = launches * value("device_floor_s") + moved / bandwidth
    return max(launches * value("launch_interval_s"), device_s)


@pytest.mark.parametrize("curvature", ["ggn", "empirical_fisher"])
def test_tngd_packs_jacobian_hessian_and_gradient_before_it_sends_them(curvature):
    algorithm = {**TNGD, "curvature": curvature}
    made, sink = execute(document(algorithm, steps=1, machine={"spus": BITS}), live=False)
    gpu, size, outputs = made.machine.gpu, made.task.layout.size, 10
    rows = 4 * (outputs if curvature == "ggn" else 1)
    moved = rows * size * (8 + 8 / 8) + size * (8 + 12 / 8)
    if curvature == "ggn":
        moved += rows * outputs * (8 + 8 / 8) + 12 * rows
    (packed,) = [s for s in sink.spans if s["kind"] == "pack"]
    assert packed["bytes"] == pytest.approx(moved)
    launches = 7 if curvature == "ggn" else 4
    expected_ps = roofline_s(gpu.sheet, moved, launches) * 1e12
    assert packed["end_ps"] - packed["start_ps"] == pytest.approx(expected_ps, abs=2)
    uploads = [s for s in sink.spans if s["kind"].startswith("upload")]
    assert min(s["start_ps"] for s in uploads) == packed["end_ps"]


@pytest.mark.parametrize("method", ["solves", "inverse", "noise"])
def test_a_factor_crosses_as_its_triangle_and_is_packed_once_for_all_spus(method):
    algorithm = {**KFAC, "method": method, "placement": "columns"}
    if method == "noise":
        algorithm = {**algorithm, "noise": 1e-3, "placement": "layers"}
    machine = {"spus": {**BITS, "count": 3}}
    made, sink = execute(document(algorithm, steps=1, machine=machine), live=False)
    pieces = {(row["layer"], row["factor"].lower()): 0 for row in made.notes["placement"]}
    for row in made.notes["placement"]:
        pieces[row["layer"], row["factor"].lower()] += 1
    orders = {("0", "a"): 65, ("0", "g"): 5, ("2", "a"): 6, ("2", "g"): 10}
    for (layer, side), n in orders.items():
        sent = [
            s
            for s in sink.spans
            if (s["kind"], s["layer"]) == (f"upload factor {side}", layer) and s["bits"]
        ]
        assert [s["bits"] for s in sent] == [n * (n + 1) // 2 * 8] * pieces[layer, side]
    for layer in ("0", "2"):
        (packed,) = [s for s in sink.spans if s["kind"] == "pack factors" and s["layer"] == layer]
        sizes = [orders[layer, side] for side in "ag"]
        moved = sum(8 * n * n + n * (n + 1) / 2 + 12 * n for n in sizes)
        assert packed["bytes"] == pytest.approx(moved)
        columns = [
            s for s in sink.spans if s["kind"].startswith("pack columns") and s["layer"] == layer
        ]
        whole = math.prod(sizes)
        expected = [whole * (8 + 12 / 8)] * 2 if method == "solves" else []
        assert [s["bytes"] for s in columns] == pytest.approx(expected)


def test_a_factor_in_tiles_is_packed_tile_by_tile():
    machine = {"spus": {**BITS, "cells": 20}}
    _, sink = execute(document({**KFAC, "tiling": True}, steps=1, machine=machine), live=False)
    packed = [s for s in sink.spans if s["kind"].startswith("pack tile")]
    sent = [s for s in sink.spans if s["kind"].startswith("upload factor") and s["bits"]]
    whole = [s for s in sink.spans if s["kind"] == "pack factors"]
    assert {s["layer"] for s in packed} == {"0"} and {s["layer"] for s in whole} == {"0", "2"}
    assert len([s for s in sent if s["kind"].endswith(" a") and s["layer"] == "0"]) == len(packed)
