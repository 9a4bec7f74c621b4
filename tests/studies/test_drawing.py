"""A point under drawn constants is the same scenario with these constants in its file."""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_studies import KFAC, MACHINE, adam, document, scenario, tngd

import hybridsim
from hybridsim.scenario.datasheets.constants import CONSTANTS, HOST_CONSTANTS
from hybridsim.scenario.imperfections import READ_WITH
from hybridsim.scenario.own_constants import part_choices
from hybridsim.studies.collect.base import Settings
from hybridsim.studies.collect.collector import Collector
from hybridsim.studies.collect.here import Here
from hybridsim.studies.drawing import NOT_EVALUATED
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.folder import Folder
from hybridsim.studies.lab import StudyLab
from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import outcome_of
from hybridsim.studies.points import points_of
from hybridsim.studies.retiming.draws import fields_of, owned, ranged_constants

NUMBERS = ["seconds", "joules", "run_seconds", "run_joules", "step_seconds", "step_joules", "area"]


@contextmanager
def lab_of(content, folder):
    study = load_study(content)
    kept = Folder(folder)
    collector = Collector(
        kept, Here(Desk(kept.path, kept.facts, None)), Settings(study.backend, 0.3)
    )
    try:
        points = points_of(study)
        collector.outcomes(points)
        yield StudyLab(study, points, collector)
    finally:
        collector.close()


def drawn(constants, rng):
    """Every constant that changes no number, anywhere in its range."""
    return {
        one.name: float(np.exp(rng.uniform(*np.log([one.low, one.high]))))
        if one.low > 0
        else float(rng.uniform(one.low, one.high))
        for one in constants
        if not one.numeric
    }


@pytest.fixture(scope="module")
def two_sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    target = {"test_loss": 100.0}
    sides = {"tngd": tngd(folder, target=target), "adam": adam(folder)}
    with lab_of(document(sides, seeds=[3, 4]), folder / "study") as lab:
        yield lab


@given(seed=st.integers(0, 2**32))
@settings(max_examples=3)
def test_draws_equal_runs_with_these_constants_in_the_file(two_sides, seed):
    lab = two_sides
    setting = drawn(lab.constants(), np.random.default_rng(seed))
    table = lab.with_constants([{}, setting])
    assert set(table["how"]) == {"retimed"}
    sides = {point.side: point.scenario for point in lab.points}
    for point in lab.points:
        fields = fields_of(point.scenario, owned(sides, point.side), setting)
        text = [f"{field}={value}" for field, value in fields.items()]
        run = hybridsim.run(hybridsim.load(point.scenario.document(), text))
        expected = outcome_of(run, 0.3)
        rows = table[(table["side"] == point.side) & (table["seed"] == point.seed)]
        nominal, other = rows.to_dict("records")
        for name in NUMBERS:
            assert other[name] == pytest.approx(getattr(expected, name), rel=1e-12, nan_ok=True)
        row = lab.table[(lab.table["side"] == point.side) & (lab.table["seed"] == point.seed)]
        for name in NUMBERS:
            assert nominal[name] == pytest.approx(row[name].item(), rel=1e-12, nan_ok=True)


def test_every_ranged_constant_is_there_and_shared_ones_once(two_sides):
    found = {one.name: one for one in two_sides.constants()}
    assert found["host.launch_interval"].sides == ("tngd", "adam")
    assert found["rc-1us.output_bits"].numeric and not found["rc-1us.adc_rate"].numeric
    expected = set()
    for point in two_sides.points:
        for _, choice, _ in part_choices(point.scenario):
            sheet = choice.sheet("realistic")
            for constant in CONSTANTS[sheet.kind]:
                entry = sheet.constants[constant.name]
                if entry.low < entry.high and constant.name not in READ_WITH:
                    owner = "host" if constant.name in HOST_CONSTANTS else sheet.name
                    expected.add(f"{owner}.{constant.key}")
    assert set(found) == expected


def test_an_imperfection_that_acts_brings_its_constants_and_they_change_numbers():
    """But those that set energies too, which are drawn for what they cost."""

    def found(*sets: str) -> dict[str, bool]:
        made = hybridsim.load("tngd-digits", list(sets))
        return {one.name: one.numeric for one in ranged_constants({"a": made})}

    ideal, acting = (
        found("machine.spus.imperfections=ideal"),
        "machine.spus.imperfections={base: ideal, %s: true}",
    )
    for switch, numeric in (("mismatch", True), ("offset", True), ("preset", False)):
        new = {k: v for k, v in found(acting % switch).items() if k not in ideal}
        mine = {name for name, read in READ_WITH.items() if switch in read}
        assert len(new) == len(mine) == 1 and set(new.values()) == {numeric}
    assert not any(found(acting % "bandwidth")[f"rc-1us.{k}"] for k in ("gain_bandwidth", "rail"))
    assert not found(acting % "thermal_noise")["rc-1us.full_scale"]


def test_a_value_of_the_scenario_has_no_range_and_stays(tmp_path):
    machine = {**MACHINE, "spus": {**MACHINE["spus"], "adc_rate": "20 MHz"}}
    given = scenario(tmp_path / "given.yaml", {**KFAC, "placement": "layers"}, machine)
    with lab_of(document({"kfac": given}), tmp_path / "study") as lab:
        assert "rc-1us.adc_rate" not in {one.name for one in lab.constants()}
        nominal, same = lab.with_constants([{}, {"rc-1us.adc_rate": 1e9}]).to_dict("records")
        assert nominal["run_seconds"] == same["run_seconds"]


def test_sides_that_differ_in_a_range_draw_it_apart():
    one = hybridsim.load("tngd-digits")
    other = hybridsim.load("tngd-digits", ["machine.constants=optimistic"])
    names = {found.name: found.sides for found in ranged_constants({"a": one, "b": other})}
    apart = {name for name in names if name.endswith((" (a)", " (b)"))}
    assert apart and all(len(names[name]) == 1 for name in apart)


def test_bits_are_run_live_and_costs_retimed_with_them(two_sides):
    lab = two_sides
    cost = {"rc-1us.adc_rate": 2e7}
    table = lab.with_constants([{"rc-1us.output_bits": 9.2, **cost}])
    for row in table.to_dict("records"):
        assert row["how"] == "retimed"
        if row["side"] == "adam":
            continue
        point = next(p for p in lab.points if (p.side, p.seed) == ("tngd", row["seed"]))
        text = ["machine.spus.output_bits=9", "machine.spus.adc_rate=20 MHz"]
        run = hybridsim.run(hybridsim.load(point.scenario.document(), text))
        assert row["run_seconds"] == run.summary["simulated_s"]
        assert row["run_joules"] == pytest.approx(
            run.summary["energy"]["total"]["energy_j"], rel=1e-12
        )


def test_draws_out_of_order_are_simulated_up_to_the_budget(tmp_path):
    machine = {**MACHINE, "spus": {**MACHINE["spus"], "count": 3, "buffering": "double"}}
    file = scenario(tmp_path / "kfac.yaml", {**KFAC, "placement": "auto"}, machine)
    with lab_of(document({"kfac": file}), tmp_path / "study") as lab:
        rng = np.random.default_rng(1)
        draws = [drawn(lab.constants(), rng) for _ in range(25)]
        table = lab.with_constants(draws, simulate=2)
        counts = table["how"].value_counts()
        assert counts["simulated"] <= 2 and counts.get(NOT_EVALUATED, 0) > 0
        for row in table.to_dict("records"):
            assert math.isnan(row["run_seconds"]) == (row["how"] == NOT_EVALUATED)
        again = lab.with_constants(draws, simulate=2)
        assert table.equals(again)
        for row in table[table["how"] != NOT_EVALUATED].head(6).to_dict("records"):
            (point,) = lab.points
            names = owned({"kfac": point.scenario}, "kfac")
            fields = fields_of(point.scenario, names, draws[row["draw"]])
            text = [f"{field}={value}" for field, value in fields.items()]
            run = hybridsim.run(hybridsim.load(point.scenario.document(), text))
            assert row["run_seconds"] == run.summary["simulated_s"]


def test_where_the_clock_decides_constants_of_time_are_numeric(tmp_path):
    algorithm = {
        "kind": "tngd", "learning_rate": 0.05, "damping": 0.1, "settle": "20 tau",
        "mode": "asynchronous", "wait": "5 tau",
    }  # fmt: skip
    file = scenario(tmp_path / "asynchronous.yaml", algorithm, MACHINE)
    with lab_of(document({"tngd": file}), tmp_path / "study") as lab:
        numeric = {one.name: one.numeric for one in lab.constants()}
        assert numeric["rc-1us.adc_rate"] and numeric["paper-50gbps.latency"]
        assert not numeric["rc-1us.full_scale"]
        slow = {"rc-1us.adc_rate": 1e7, "rc-1us.full_scale": 0.5}
        (row,) = lab.with_constants([slow]).to_dict("records")
        (point,) = lab.points
        text = ["machine.spus.adc_rate=10 MHz", "machine.spus.full_scale=500 mV"]
        run = hybridsim.run(hybridsim.load(point.scenario.document(), text))
        assert row["run_seconds"] == run.summary["simulated_s"]
        assert row["run_joules"] == pytest.approx(
            run.summary["energy"]["total"]["energy_j"], rel=1e-12
        )


def test_damaged_draws_are_drawn_again(two_sides, tmp_path):
    settings_ = [{"rc-1us.adc_rate": 3e7}]
    before = two_sides.with_constants(settings_)
    folder = two_sides._collector.folder.path / "draws"
    for file in folder.iterdir():
        file.write_text(file.read_text().replace("1", "2", 1))
    assert before.equals(two_sides.with_constants(settings_))
