"""The area of a point is that of its run's SPUs, however the point came about."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from small_studies import MACHINE, TNGD, adam, document, evaluated, scenario

import hybridsim
from hybridsim.circuits.load import Load
from hybridsim.errors import InputError
from hybridsim.hardware.size import sizes_on
from hybridsim.scenario.machine import SpuSpec
from hybridsim.simulate import load_task
from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import outcome_of
from hybridsim.studies.questions._measures import amount, value_of
from hybridsim.studies.retiming import cost_signature, record, retime


def machine(**spus):
    return MACHINE | {"spus": MACHINE["spus"] | spus}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two areas of a resistor, over and under a limit, and a side without analog parts."""
    folder = tmp_path_factory.mktemp("area")
    analog = scenario(folder / "tngd.yaml", TNGD, machine(area_limit="200 mm2"))
    field = "machine.spus.resistor_area"
    axis = {"field": field, "grid": ["10 um2", "100 um2", "100000 um2"], "sides": ["tngd"]}
    content = document({"tngd": analog, "adam": adam(folder)}, axes=[axis], backend="timing")
    return evaluated(load_study(content), folder / "study")


def test_points_keep_their_area_and_those_over_the_limit_are_refused(table):
    rows = table[table["side"] == "tngd"].to_dict("records")
    small, middle, large = rows
    assert large["status"] == "refused" and "area_limit is 200 mm2" in large["reason"]
    assert value_of(large, "area") == math.inf
    cells = 64 * 4 + 4 + 4 * 10 + 10
    resistors = 40 * (40 + 2 * cells)
    gap_mm2 = resistors * 90e-6
    assert middle["area"] - small["area"] == pytest.approx(gap_mm2)
    assert (small["how"], middle["how"]) in (("timing", "timing"), ("timing", "retimed"))
    assert f"{cells:,} cells" in middle["buildability"]
    assert small["seconds"] == middle["seconds"]
    assert amount(middle["area"], "area").endswith(" mm²")


def test_a_side_without_analog_parts_has_no_area(table):
    (row, *_) = table[table["side"] == "adam"].to_dict("records")
    assert row["status"] == "ok" and math.isnan(value_of(row, "area"))
    assert row["buildability"] == ""


def test_a_limit_sets_points_apart_and_a_constant_of_area_does_not(tmp_path):
    def signature(algorithm=TNGD, **spus):
        path = scenario(tmp_path / "one.yaml", algorithm, machine(**spus))
        return cost_signature(hybridsim.load(path))

    for algorithm in (TNGD, TNGD | {"mode": "asynchronous", "state": "kept"}):
        plain = signature(algorithm)
        assert signature(algorithm, resistor_area="1 um2", wire_pitch="3 um") == plain
        assert signature(algorithm, area_limit="1 mm2") != plain


def test_a_draw_over_the_limit_is_not_retimed(tmp_path):
    path = scenario(tmp_path / "one.yaml", TNGD, machine(area_limit="200 mm2"))
    loaded = hybridsim.load(path)
    recording = record(loaded, load_task(loaded))

    def drawn(area_m2):
        def other(node):
            if not isinstance(node, SpuSpec):
                return node
            return replace(node, sheet=node.sheet.overridden({"resistor_area_m2": area_m2}))

        return replace(recording.spec, nodes=tuple(map(other, recording.spec.nodes)))

    found = retime(recording, [recording.spec, drawn(1e-9), drawn(1e-7)])
    assert found.valid.tolist() == [True, True, False]


def test_numbers_are_written_as_fast_as_link_and_channels_allow(tmp_path):
    def rate(**spus):
        path = scenario(tmp_path / "one.yaml", TNGD, machine(**spus))
        loaded = hybridsim.load(path)
        sizes = sizes_on(loaded.machine.expand(), {"spu1": Load(3, 9, 3)})
        return {size["part"]: size["numbers_per_s"] for size in sizes}

    assert rate() == {"spu1": pytest.approx(50e9 / 16)}
    assert rate(input_bits=8) == {"spu1": pytest.approx(50e9 / 8)}
    assert rate(write_time="1 us", write_channels=7) == {"spu1": pytest.approx(7e6)}


def test_area_is_asked_of_analog_sides_only(tmp_path):
    sides = {"tngd": scenario(tmp_path / "tngd.yaml", TNGD, MACHINE)}
    axis = {"field": "machine.spus.capacitance", "grid": ["10 pF", "1 nF"]}
    question = {"kind": "pareto", "x": "area", "y": "joules"}
    found = document(sides, axes=[axis | {"sides": ["tngd"]}], question=question, backend="timing")
    load_study(found)
    with pytest.raises(InputError, match=r"question\.x: expected .* area, where adam has no SPU"):
        load_study(found | {"scenarios": sides | {"adam": adam(tmp_path)}})


def test_signs_are_counted_whether_or_not_a_run_counts_them(tmp_path):
    def area(**spus):
        path = scenario(tmp_path / "one.yaml", TNGD, machine(**spus))
        run = hybridsim.run(hybridsim.load(path), backend="timing")
        return outcome_of(run, 0.3).area

    assert area(sign_amplifiers=0) != area(sign_amplifiers=1) == area()
    assert area(imperfections={"base": "ideal", "signs": True}) == area()
