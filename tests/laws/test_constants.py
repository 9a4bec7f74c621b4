"""Every constant of every shipped sheet, perturbed, changes a number, or `check` says otherwise.

And the band of a price is the same formula under the low and the high sheet.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import hybridsim
from hybridsim.cli import app
from hybridsim.hardware.kinds import PARTS, price
from hybridsim.hardware.price import Reading
from hybridsim.hardware.requests import (
    Compute,
    Convert,
    Drift,
    Held,
    Measure,
    Propagate,
    Settle,
    Transmit,
    Write,
    decode,
)
from hybridsim.scenario.datasheets.constant import ConstantSpec
from hybridsim.scenario.datasheets.constants import CONSTANTS, PART_KINDS
from hybridsim.scenario.datasheets.sheets import load_part, part_names, show
from hybridsim.simulate import load_task
from hybridsim.unread import unread_constants
from hybridsim.work import Kernel, Work

SMALL = {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}}
ALGORITHMS = {
    "tngd": {"kind": "tngd", "settle": "5 tau"},
    "digital": {"kind": "kfac", "method": "digital", "learning_rate": 0.1, "damping": 0.1},
}
SHEETS = [(kind, name) for kind in PARTS for name in part_names(kind)]
# GPUs share formulas and most constants, SPUs too; the law takes minutes for all of them.
TRIED = {"gpu": ("v100-pcie-32gb", "host-cpu"), "spu": ("rc-1us", "reticle-1us")}
FEW = [(kind, name) for kind, name in SHEETS if name in TRIED.get(kind, (name,))]


def document(kind: str, name: str, constants: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A small scenario on a part, with constants of its own."""
    digital = kind == "gpu" or name.startswith("nvlink")
    machine: dict[str, Any] = {"gpu": {"part": name if kind == "gpu" else "a100-sxm4-80gb"}}
    chosen: dict[str, Any] = machine["gpu"]
    if kind == "link" and digital:
        chosen = machine["gpu"]["interconnect"] = {"part": name}
        machine["gpu"]["count"] = 2
    elif not digital:
        machine |= {
            "link": {"part": "paper-50gbps"},
            "spus": {"count": 1, "imperfections": "ideal"},
        }
        chosen = machine[{"link": "link", "spu": "spus"}[kind]]
        chosen["part"] = name
    chosen |= constants or {}
    training = {"batch_size": 4, "steps": 2, "evaluate_every": 2}
    algorithm = copy.deepcopy(ALGORITHMS["digital" if digital else "tngd"])
    return {
        "name": "constants", "workload": SMALL, "training": training | {"algorithm": algorithm},
        "machine": machine,
    }  # fmt: skip


def numbers(run: hybridsim.Run) -> dict[str, Any]:
    """What a run found; where constants stand in the manifest does not count."""
    return {
        "spans": run.spans.drop(columns=["request", "parents"]).to_dict("list"),
        "summary": {key: part for key, part in run.summary.items() if key != "host"},
    }


@pytest.fixture(scope="module")
def task():
    return load_task(hybridsim.load(document("gpu", "a100-sxm4-80gb")))


@pytest.mark.parametrize(("kind", "name"), FEW)
def test_a_constant_changes_a_number_or_is_said_to_be_unused(kind, name, task):
    """Within a factor of two."""
    sheet = load_part(kind, name)

    def written(spec: ConstantSpec, factor: float) -> Any:
        old = sheet.value(spec.name)
        new = old * factor if old or factor == 1 else 1.0
        new = min(new, spec.at_most or float("inf"))
        new = float(max(1, round(new))) if spec.whole and factor != 1 else new
        return show(new, spec.unit) if spec.unit else int(new) if spec.whole else new

    base = hybridsim.run(hybridsim.load(document(kind, name)), backend="timing", task=task)
    expected, silent = numbers(base), []
    for spec in CONSTANTS[kind]:
        for factor in (2.0, 0.5):
            made = hybridsim.load(document(kind, name, {spec.key: written(spec, factor)}))
            if numbers(hybridsim.run(made, backend="timing", task=task)) != expected:
                break
        else:
            silent.append(spec.key)
    given_ = {spec.key: written(spec, 1) for spec in CONSTANTS[kind]}
    unused = unread_constants(hybridsim.load(document(kind, name, given_)), task)
    assert [path.split(" ")[0].rpartition(".")[2] for path in unused] == silent


def test_check_tries_the_constants_that_a_scenario_or_a_sheet_of_its_own_sets(tmp_path):
    run = CliRunner().invoke
    given_ = ["check", "tngd-digits", "--set", "machine.gpu.peak_bf16=1 TFLOP/s"]
    assert "unused: machine.gpu.peak_bf16 (" in run(app, given_).output
    given_ = ["check", "tngd-digits", "--set", "machine.link.bandwidth=1 Gb/s"]
    assert "unused" not in run(app, given_).output
    sheet = tmp_path / "mine.yaml"
    sheet.write_text("kind: gpu\nextends: a100-sxm4-80gb\nconstants: {}\n")
    found = run(app, ["check", "adam-digits", "--set", f"machine.gpu={sheet}"]).output
    assert "machine.gpu.eigh_step (" in found and "machine.gpu.tdp (" not in found
    assert "machine.gpu.launch_interval (" not in found


AMOUNT = st.none() | st.floats(0, 1e6)
"""Of heat or charge."""
REQUESTS = {
    "gpu": st.builds(
        lambda flop, moved, precision, special, count, waits, graph: Compute(
            Work((Kernel("k", flop, moved, precision, *special, count),)), waits, graph
        ),
        st.floats(0, 1e15), st.floats(0, 1e12),
        st.sampled_from(["fp32", "tf32", "fp64", "bf16", "fp16"]),
        st.one_of(
            st.just(("stream", ())),
            st.tuples(st.just("contraction"), st.tuples(*[st.integers(1, 3000)] * 4)),
            st.tuples(
                st.just("convolution"),
                st.tuples(
                    st.integers(0, 2), *[st.integers(1, 50)] * 4,
                    *[st.integers(1, 3)] * 2, *[st.integers(1, 60)] * 2,
                    *[st.integers(1, 2)] * 2,
                ),
            ),
            st.tuples(
                st.sampled_from(["cholesky", "inverse", "eigh", "lu", "qr", "triangular"]),
                st.tuples(*[st.integers(1, 2000)] * 3),
            ),
        ),
        st.integers(1, 9), st.booleans(), st.booleans(),
    ),
    "link": st.one_of(
        st.builds(
            Transmit, st.integers(1, 10**12), st.integers(0, 10**12), st.just(("a-b",)), st.just(1)
        ),
        st.just(Propagate(("a-b",))),
    ),
    "spu": st.one_of(
        st.builds(Write, st.integers(0, 10**9), st.integers(2, 16)),
        st.builds(Convert, st.integers(1, 10**6), st.integers(2, 16), st.integers(1, 99)),
        st.builds(
            Measure, st.integers(1, 10**6), st.integers(2, 16), st.integers(1, 99),
            st.none() | st.builds(Held, st.integers(0, 10**9), AMOUNT, AMOUNT, st.booleans()),
        ),
        st.builds(
            Settle, st.floats(0, 1e4), st.integers(0, 10**9), AMOUNT, st.integers(1, 99), AMOUNT,
            st.booleans(),
        ),
        st.builds(
            Drift, st.integers(0, 10**12), st.integers(0, 10**9), AMOUNT, AMOUNT, st.booleans()
        ),
    ),
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_band_is_the_formula_at_the_ends_of_every_constant_of_energy(data):
    """Low <= nominal <= high; whatever constant of energy moves within its range stays inside.

    And the time of a request depends on no constant of energy.
    """
    kind, name = data.draw(st.sampled_from(SHEETS))
    sheet, request = load_part(kind, name), data.draw(REQUESTS[kind])
    found = price(sheet, request)
    assert found.energy_low_j <= found.energy_j <= found.energy_high_j
    drawn = {}
    for spec in CONSTANTS[kind]:
        if spec.energy:
            low, high = sheet.bounds(spec.name)
            drawn[spec.name] = data.draw(st.floats(low, high), spec.name)
    other = price(sheet.overridden(drawn), request)
    assert other[:2] == found[:2]
    slack = 1e-12 * found.energy_high_j
    assert found.energy_low_j - slack <= other.energy_j <= found.energy_high_j + slack


@pytest.mark.parametrize(("kind", "name"), SHEETS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_what_changes_energy_and_no_time_is_a_constant_of_energy(kind, name, data):
    """So that no range is left out of the band."""
    sheet, request = load_part(kind, name), data.draw(REQUESTS[kind])
    before, timing = price(sheet, request), Reading(sheet)
    PARTS[kind].tariffs[type(request)].time(timing, request)
    for spec in CONSTANTS[kind]:
        value = sheet.value(spec.name)
        other = price(sheet.overridden({spec.name: value * 1.5 if value else 1.0}), request)
        if spec.name not in timing.names and other.energy_j != before.energy_j:
            # R and C set the time of what is commanded; where the clock does, they are as given
            assert spec.energy or spec.name in ("capacitance_f", "resistance_ohm"), spec.name


def test_the_converters_thermal_term_reaches_the_band():
    sheet = load_part("spu", "rc-1us")
    thermal = sheet.constants["adc_energy_thermal_j"]
    wide = type(thermal)(thermal.value, thermal.value / 2, thermal.value * 3, "J", "assumed", "x")
    sheet = type(sheet)(
        sheet.kind, sheet.name, {**sheet.constants, "adc_energy_thermal_j": wide}, ""
    )
    one, other = price(load_part("spu", "rc-1us"), Measure(1, 14)), price(sheet, Measure(1, 14))
    assert one.energy_j == other.energy_j
    assert other.energy_low_j < one.energy_low_j < one.energy_high_j < other.energy_high_j


@pytest.mark.parametrize("name", ["tngd-digits-async", "kfac-digits"])
def test_the_table_of_requests_is_all_that_prices_need(name, tmp_path):
    """Every span of a live run is priced again from the run folder alone."""
    scenario = hybridsim.load(name, ["training.steps=3", "machine.link.chunk=2 KiB"])
    run = hybridsim.run(scenario, tmp_path / "run")
    sheets = {}
    for item in (*run.manifest["machine"]["nodes"], *run.manifest["machine"]["edges"]):
        if "sheet" in item:
            given_ = item["sheet"]
            values = {n: c["value"] for n, c in given_["constants"].items()}
            own = {n: (c["low"], c["high"]) for n, c in given_["constants"].items()}
            sheet = load_part(given_["kind"], given_["name"]).overridden(values)
            constants = {
                n: type(c)(c.value, *own[n], c.unit, c.status, c.source)
                for n, c in sheet.constants.items()
            }
            sheets[item["name"]] = type(sheet)(sheet.kind, sheet.name, constants, "")
    requests = {
        row.request: decode(row.form, row.detail) for row in run.requests.itertuples(index=False)
    }
    checked = set()
    for span in run.spans.itertuples(index=False):
        if span.role == "pause" or "cut at the end" in span.note:
            continue
        request = requests[span.request]
        found = price(sheets[span.part], request)
        checked.add(type(request))
        joules = (span.energy_j, span.energy_low_j, span.energy_high_j)
        assert (span.end_ps - span.start_ps, span.busy_ps, *joules) == tuple(found)
    assert checked >= {Compute, Transmit, Propagate, Write, Convert, Measure}
    assert checked & {Settle, Drift}


def test_every_kind_of_datasheet_is_a_part():
    assert {*PARTS, "host"} == set(PART_KINDS)  # a host is part of its GPUs
