"""Utilisation and power over time: every bin by brute force, and the books of the whole run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import STATIC, Op, column, cut, operations, simulate, write_run

from hybridsim.reports.activity import Activity, Bins, Sums, activity, static_power_w
from hybridsim.results.read import Run

SPAN = st.tuples(
    st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1e3)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SPAN, min_size=1, max_size=30), st.integers(1, 40))
def test_integrals_per_bin_are_those_of_the_functions_themselves(found, most):
    rows = np.array([row for row, *_ in found])
    start = np.array([min(a, b) for _, a, b, _ in found])
    end = np.array([max(a, b) for _, a, b, _ in found])
    area = np.array([weight for *_, weight in found])
    bins = Bins.of(int(end.max()), most)
    sums = Sums(bins)
    for part in np.array_split(np.arange(len(found)), 3):
        sums.add(rows[part], 3, start[part], end[part], area[part])
    edges = bins.edges_ps()
    expected = np.zeros((3, bins.number))
    for row, a, b, weight in zip(rows, start, end, area, strict=True):
        if a == b:
            expected[row, min(a // bins.width_ps, bins.number - 1)] += weight
        else:
            overlap = np.minimum(b, edges[1:]) - np.maximum(a, edges[:-1])
            expected[row] += np.maximum(overlap, 0) * weight / (b - a)
    assert (
        len(edges) == bins.number + 1 <= most + 1 and edges[0] == 0 and (np.diff(edges) > 0).all()
    )
    np.testing.assert_allclose(
        sums.per_bin(), expected, rtol=1e-9, atol=1e-9 * max(1.0, area.sum())
    )


@settings(max_examples=60, deadline=None)
@given(operations(), st.integers(1, 50))
def test_time_and_energy_of_the_bins_add_up_to_those_of_the_spans(ops, most):
    rows = simulate(ops)
    found = Activity(Bins.of(max(column(rows, "end_ps")), most))
    for chunk in cut(rows, 4):
        found.add(chunk)
    seconds = found.bins.lengths_ps() * 1e-12
    for key, shares in found.in_service().items():
        own = [row for row in rows if (row.part, row.lane) == key]
        assert (shares <= 1 + 1e-9).all()
        assert shares @ found.bins.lengths_ps() == pytest.approx(
            sum(row.end_ps - row.start_ps for row in own), rel=1e-9
        )
    watts = found.power_w({"gpu0": 50.0})
    static = 50.0 * seconds.sum()
    total = sum(float(values @ seconds) for values in watts.values())
    assert total == pytest.approx(sum(column(rows, "energy_j")) + static, rel=1e-9)


def test_a_run_is_read_in_chunks_and_parts_come_in_the_order_of_use(tmp_path):
    rows = simulate([Op(i % 3, i % 3, 1000 + i) for i in range(40)])
    write_run(tmp_path, rows, parts=6)
    run = Run.open(tmp_path)
    found = activity(run, 16)
    assert found.spans == len(rows) and found.bins.end_ps == max(column(rows, "end_ps"))
    assert found.lanes() == {"part0": ["lane0", "lane2"], "part1": ["lane1"]}
    run.manifest["static_power"] = [*STATIC, STATIC[0]]
    assert static_power_w(run) == {"gpu0": 100.0, "spu0": 0.5}


def test_numbered_parts_stand_in_the_order_of_their_numbers_and_background_last():
    found = Activity(Bins.of(100, 4))
    place = [("spu10", "relax"), ("spu10", "core"), ("gpu0", "compute"), ("spu2", "core")]
    for start, (part, lane) in enumerate(place):
        chunk = {
            "part": np.array([part], object),
            "lane": np.array([lane], object),
            "role": np.array(["background" if lane == "relax" else "server"], object),
            "energy_j": np.array([0.0]),
        }
        found.add(chunk | {"start_ps": np.array([start]), "end_ps": np.array([start + 1])})
    assert list(found.lanes().items()) == [
        ("spu2", ["core"]),
        ("spu10", ["core", "relax"]),
        ("gpu0", ["compute"]),
    ]
