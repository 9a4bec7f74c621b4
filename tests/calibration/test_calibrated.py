"""From measurements to a part: a device that obeys a datasheet is found again."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from stub_fit import fit, seconds

import hybridsim
from hybridsim.calibration import command, measure, plan
from hybridsim.calibration.command import calibrate, print_calibration
from hybridsim.calibration.energy import Power
from hybridsim.calibration.families import Case, Rates, draw
from hybridsim.calibration.fit import Fit, Fitted
from hybridsim.calibration.launches import launches_of
from hybridsim.calibration.measure import TABLE, Measured, read_visits
from hybridsim.calibration.networks import STEP, draw_steps
from hybridsim.calibration.part_file import ERRORS, PART, PREDICTIONS, write_part, write_tables
from hybridsim.calibration.plan import Device
from hybridsim.calibration.prediction import INTERVAL, floors_of, in_a_loop, seconds_of
from hybridsim.calibration.result import TooFew, calibrated, row_of
from hybridsim.errors import InputError

BASE = hybridsim.load_part("gpu", "host-cpu")
DEVICE = Device(
    "cpu", 'a "processor": fast', "here", "2.x", 1, 0, "2030-01-01", Rates(3e10, 1e10, 8e9)
)
GPU = replace(DEVICE, device="cuda")
LOOP_S, STEP_S = 2e-6, 3e-5
FLOORS = floors_of(BASE)
TRUTH = {name: constant.value for name, constant in BASE.constants.items()} | {
    **dict.fromkeys(FLOORS, LOOP_S),
    "bandwidth_efficiency": 0.4,
    "factorisation_efficiency": 0.3,
}


def obedient(case):
    """What a device that obeys the constants above would take, with its host in steps alone."""
    interval = STEP_S if case.family == STEP else 0.0
    row = row_of(Measured(case, 1.0, 1.0, 1.0))
    found = seconds({**TRUTH, INTERVAL: interval}, row.kernels)
    return Measured(case, found, 0.9 * found, 1.1 * found)


def told(constants, rows, free):
    """A fit that knows."""
    values = {name: Fitted(TRUTH[name], 0.9 * TRUTH[name], TRUTH[name], 9) for name in free}
    return Fit(values, {})


CASES = [*draw(700, 3, DEVICE.rates, 0.05)[54:], *draw_steps(8, 3)]  # five rows for each constant


@pytest.fixture(scope="module")
def table():
    return [obedient(case) for case in CASES]


@pytest.fixture(scope="module")
def result(table):
    """Of a CPU."""
    return calibrated(BASE, table, DEVICE, told, None)


def test_a_device_that_obeys_the_model_is_found_again(table):
    found = calibrated(BASE, table, GPU, fit, None)
    assert {one.family for one in found.errors} > {STEP, "product", "factorisation"}
    for one in found.errors:
        assert one.median < 0.03 and one.p90 < 0.15, one
    assert len(found.predictions) == len(CASES)
    assert found.sheet.value(INTERVAL) == pytest.approx(STEP_S, rel=0.02)
    assert found.sheet.value("peak_fp32_flop_per_s") == BASE.value("peak_fp32_flop_per_s")


def test_on_a_cpu_floors_hold_what_a_launch_costs_in_a_step(result):
    loop = in_a_loop(result.sheet)
    over = [
        (one.measured.seconds - seconds(TRUTH | dict(loop_peaks(loop)), one.row.kernels))
        / launches_of(one.row)
        for one in result.predictions
        if one.measured.case.family == STEP and not one.measured.case.held_out
    ]
    for name in FLOORS:
        floor = result.sheet.constants[name]
        if floor.low == pytest.approx(0.9 * LOOP_S):  # fitted: read in a loop
            assert floor.value - LOOP_S == pytest.approx(np.median(over), rel=1e-6)
        assert floor.low < floor.value <= floor.high


def loop_peaks(sheet):
    """The rates that a CPU's sheet has from measurements."""
    names = ("peak_", "memory_bandwidth", "multiprocessors")
    return {name: value for name, value in sheet.numbers if name.startswith(names)}


def test_what_is_held_out_is_not_seen_by_the_fit(table):
    seen = []

    def spy(constants, rows, free):
        seen.extend(rows)
        assert not {name for name in free if name.startswith("peak") or "coefficient" in name}
        return told(constants, rows, free)

    calibrated(BASE, table, DEVICE, spy, None)
    kept = [one for one in table if not one.case.held_out and one.case.family != STEP]
    assert len(seen) == len(kept) < len(table)
    assert sorted(row.measured_s for row in seen) == sorted(one.seconds for one in kept)


def test_peaks_are_the_best_that_was_reached(table, result):
    best = max(
        sum(k.flop * k.count for k in row_of(one).kernels if k.matrix) / one.seconds
        for one in table
        if one.case.dtype == "float32" and one.case.family != STEP
    )
    assert result.sheet.value("peak_fp32_flop_per_s") == best
    assert best <= TRUTH["peak_fp32_flop_per_s"]
    assert result.sheet.value("memory_capacity_byte") == 8e9
    assert result.sheet.value("peak_bf16_flop_per_s") == BASE.value("peak_bf16_flop_per_s")


@pytest.mark.parametrize("family", ["operators", "whole steps"])
def test_too_few_rows_are_no_calibration(table, family):
    steps = family == "whole steps"
    rows = [one for one in table if (one.case.family == STEP) != steps]
    rows += [one for one in table if (one.case.family == STEP) == steps and not one.case.held_out][
        :2
    ]
    with pytest.raises(TooFew, match=f"only 2 {family} measured"):
        calibrated(BASE, rows, DEVICE, fit, None)


def test_the_part_file_says_what_was_found(result, tmp_path):
    sheet = write_part(result, tmp_path / PART)
    assert sheet.numbers == result.sheet.numbers
    text = (tmp_path / PART).read_text()
    for one in result.errors:
        assert f"#   {one.family}, {one.part}: median {one.median:.1%}" in text
    for name, constant in sheet.constants.items():
        assert constant == result.sheet.constants[name]
        if constant.status == "fitted":
            assert 'a "processor": fast on here, torch 2.x, 1 thread, 2030-01-01' in constant.source
    fitted = {name for name, constant in sheet.constants.items() if constant.status == "fitted"}
    assert fitted >= {*FLOORS, "bandwidth_efficiency", "factorisation_efficiency"}
    assert sheet.constants["tdp_w"] == BASE.constants["tdp_w"]


def test_a_scenario_names_the_part_by_its_path(result, tmp_path):
    write_part(result, tmp_path / PART)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nworkload: digits_mlp\nmachine: {gpu: {part: ./part.yaml}}\ntraining:\n"
        "  {batch_size: 8, steps: 2, algorithm: {kind: sgd, learning_rate: 0.1}}\n"
    )
    scenario = hybridsim.load(file)
    (node,) = scenario.machine.expand().nodes
    for one in result.predictions[:50]:
        expected = seconds({**dict(result.sheet.numbers)}, one.row.kernels)
        assert seconds_of(node.sheet, one.row.kernels) == expected
    run = hybridsim.run(scenario, backend="timing")
    assert run.manifest["machine"]["nodes"][0]["sheet"]["name"] == "part"


def test_watts_that_were_read_stand_in_the_part(table, tmp_path):
    power = Power((20.0, 18.0, 23.0), (95.0, 90.0, 99.0), "RAPL of 1 package(s)")
    found = calibrated(BASE, table, DEVICE, told, power)
    sheet = write_part(found, tmp_path / PART)
    assert (sheet.value("tdp_w"), *sheet.bounds("tdp_w")) == power.busy_w
    assert (sheet.value("idle_w"), *sheet.bounds("idle_w")) == power.idle_w
    assert sheet.constants["idle_w"].source.endswith("RAPL of 1 package(s)")


def test_a_fit_that_leaves_the_range_of_a_constant_is_refused(result, tmp_path):
    constants = dict(result.sheet.constants)
    name = "bandwidth_efficiency"
    constants[name] = replace(constants[name], value=1.5, high=1.5)
    broken = result._replace(sheet=replace(result.sheet, constants=constants))
    with pytest.raises(
        InputError, match=r"bandwidth_efficiency\.value: expected a value > 0 and <= 1"
    ):
        write_part(broken, tmp_path / PART)


def test_the_tables_hold_every_measurement(result, tmp_path):
    write_tables(result, tmp_path)
    with (tmp_path / PREDICTIONS).open() as file:
        rows = list(csv.DictReader(file))
    assert [Case(*(row[key] for key in Case._fields)) for row in rows] == [
        one.measured.case for one in result.predictions
    ]
    for row, one in zip(rows, result.predictions, strict=True):
        assert float(row["ratio"]) == pytest.approx(
            one.predicted_s / one.measured.seconds, rel=1e-3
        )
        assert row["part"] == ("held out" if one.measured.case.held_out else "fit")
    with (tmp_path / ERRORS).open() as file:
        errors = list(csv.DictReader(file))
    assert sum(int(row["rows"]) for row in errors) == len(rows)


def test_a_short_calibration_of_this_processor(tmp_path, monkeypatch, capsys):
    """The whole way; how long it takes and what it finds is the machine's affair."""
    ticks = count()
    monkeypatch.setattr(measure, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 64))
    monkeypatch.setattr(command, "_power", lambda device, reporter: None)
    monkeypatch.setattr(plan, "_FEWEST_OPERATORS", 80)
    monkeypatch.setattr(plan, "_FEWEST_STEPS", 8)
    found = calibrate(tmp_path / "cpu", minutes=0.025, fit=told)
    assert len(read_visits(tmp_path / "cpu" / TABLE)) == 96
    again = calibrate(tmp_path / "cpu", minutes=0.025, fit=told)
    assert found.sheet == again.sheet, "nothing was left to measure"
    assert found.sheet == hybridsim.load_part("gpu", str(found.part))
    print_calibration(found)
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str(tmp_path / "cpu" / PART)
    assert len(out) == len(found.result.errors) + 3
