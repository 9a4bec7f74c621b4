"""Every shipped number has a range, a status and a source; GPUs are as their vendor says."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from hybridsim.errors import InputError
from hybridsim.scenario.datasheets.constants import CONSTANTS, PART_KINDS, PartKind
from hybridsim.scenario.datasheets.sheets import (
    CONSTANT_SETS,
    STATUSES,
    Datasheet,
    compare_parts,
    describe_part,
    list_parts,
    load_constant_set,
    load_part,
    part_names,
    sheets_held,
)
from hybridsim.scenario.quantity import parse_quantity

PARTS = [(kind, name) for kind in PART_KINDS for name in part_names(kind)]
SHIPPED = {
    "gpu": {
        "v100-pcie-32gb",
        "v100-sxm2-16gb",
        "v100-sxm2-32gb",
        "a100-pcie-40gb",
        "a100-pcie-80gb",
        "a100-sxm4-80gb",
        "h100-sxm5-80gb",
        "h200-sxm",
        "host-cpu",
    },
    "host": {"pytorch-eager"},
    "link": {
        "paper-50gbps",
        "pcie3",
        "pcie4",
        "pcie5",
        "nvlink2",
        "nvlink3",
        "nvlink4",
        "nvlink-c2c",
        "ucie",
    },
    "spu": {
        *("rc-1us", "rc-100ns", "rc-10ns"),
        *("paper", "reticle-1us", "board-8", "rram-16", "slow-write"),
    },
}
# TFLOP/s: FP32, TF32, FP64, FP64 matrix, 16 bit; GB/s; GB; W at full load, W idle
GPUS = {
    "v100-sxm2-32gb": (15.7, 0, 7.8, 0, 125, 900, 32, 300, 40),
    "a100-sxm4-80gb": (19.5, 156, 9.7, 19.5, 312, 2039, 80, 400, 80),
    "h100-sxm5-80gb": (67, 494.5, 34, 67, 989.5, 3350, 80, 700, 122),
    "h200-sxm": (67, 494.5, 34, 67, 989.5, 4800, 141, 700, 120),
}


def test_the_promised_parts_are_there() -> None:
    assert {kind: set(part_names(kind)) for kind in PART_KINDS} == SHIPPED


@pytest.mark.parametrize(("kind", "name"), PARTS)
@pytest.mark.parametrize("constant_set", CONSTANT_SETS)
def test_every_constant_has_range_status_and_source(
    kind: PartKind, name: str, constant_set: str
) -> None:
    sheet = load_part(kind, name).with_set(constant_set)
    assert set(sheet.constants) == {spec.name for spec in CONSTANTS[kind]} and sheet.description
    for spec in CONSTANTS[kind]:
        constant = sheet.constants[spec.name]
        assert constant.low <= constant.value <= constant.high and math.isfinite(constant.high)
        assert spec.contains(constant.low) and constant.unit == spec.unit
        assert constant.status in STATUSES and constant.source.strip()
        assert sheet.value(spec.name) == constant.value and sheet.bounds(spec.name) == (
            constant.low,
            constant.high,
        )


@pytest.mark.parametrize("name", list(GPUS))
def test_gpus_are_as_published(name: str) -> None:
    value = load_part("gpu", name).value
    names = ["fp32", "tf32", "fp64", "fp64_tensor", "bf16"]
    scaled = [value(f"peak_{n}_flop_per_s") / 1e12 for n in names]
    scaled += [value("memory_bandwidth_byte_per_s") / 1e9, value("memory_capacity_byte") / 1e9]
    assert [*scaled, value("tdp_w"), value("idle_w")] == pytest.approx(GPUS[name], rel=1e-12)


# GB/s both ways, as NVIDIA gives it for all links of a GPU together
NVLINKS = {"nvlink2": 300, "nvlink3": 600, "nvlink4": 900}


@pytest.mark.parametrize("name", list(NVLINKS))
def test_each_direction_of_nvlink_has_half_of_what_is_published(name: str) -> None:
    assert load_part("link", name).value("bandwidth_bit_per_s") * 2 / 8 == pytest.approx(
        NVLINKS[name] * 1e9
    )


@pytest.mark.parametrize(("name", "transfers"), [("pcie3", 8e9), ("pcie4", 16e9), ("pcie5", 32e9)])
def test_pcie_has_16_lanes_in_128b_130b(name: str, transfers: float) -> None:
    assert load_part("link", name).value("bandwidth_bit_per_s") == pytest.approx(
        16 * transfers * 128 / 130, rel=1e-3
    )


def test_the_papers_numbers_are_marked_as_theirs() -> None:
    link, spu = load_part("link", "paper-50gbps"), load_part("spu", "rc-1us")
    assert (
        link.value("bandwidth_bit_per_s") == 50e9
        and link.constants["bandwidth_bit_per_s"].status == "paper"
    )
    assert link.value("number_bits") == 16
    assert spu.value("resistance_ohm") * spu.value("capacitance_f") == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("name", "seconds"), [("rc-1us", 1e-6), ("rc-100ns", 1e-7), ("rc-10ns", 1e-8)]
)
def test_spus_are_named_by_their_time_constant(name: str, seconds: float) -> None:
    sheet = load_part("spu", name)
    assert sheet.value("resistance_ohm") * sheet.value("capacitance_f") == pytest.approx(seconds)


def test_the_papers_set_zeroes_what_they_leave_out_and_flags_it() -> None:
    constants = {
        name: c for kind in load_constant_set("paper").values() for name, c in kind.items()
    }
    assert len(constants) > 8
    assert all(
        (c.value, c.low, c.high, c.status) == (0, 0, 0, "assumed") for c in constants.values()
    )
    assert {c.source for c in constants.values()} == {"not in the papers; set to zero"}
    untouched = {"bandwidth_bit_per_s", "number_bits", "resistance_ohm", "capacitance_f"}
    assert not untouched & set(constants)
    costs = {
        n
        for k in ("link", "spu")
        for n in (s.name for s in CONSTANTS[k])
        if n.endswith(("_j", "_j_per_bit"))
    }
    assert costs <= set(constants)


def test_the_realistic_set_leaves_the_sheets_alone() -> None:
    assert all(load_part(k, n).with_set("realistic") == load_part(k, n) for k, n in PARTS)


def test_the_optimistic_set_costs_nothing_more() -> None:
    for kind, name in PARTS:
        plain, best = load_part(kind, name), load_part(kind, name).with_set("optimistic")
        for spec in CONSTANTS[kind]:
            if spec.name in load_constant_set("optimistic").get(kind, {}):
                assert best.value(spec.name) <= plain.value(spec.name)


def test_rows_for_the_command_line() -> None:
    rows = list_parts()
    assert [(row["kind"], row["name"]) for row in rows] == PARTS
    ucie, pcie = load_part("link", "ucie"), load_part("link", "pcie5")
    described = {row["constant"]: row for row in describe_part(ucie)}
    assert parse_quantity(described["energy"]["value"], "J/bit") == ucie.value("energy_j_per_bit")
    compared = {row["constant"]: row for row in compare_parts(ucie, pcie)}
    assert (
        compared["bandwidth"]["ratio"] == 504 / 1024 and compared["bandwidth"]["a"] == "1.024 Tb/s"
    )
    assert compare_parts(ucie.overridden({"latency_s": 0.0}), pcie)[1]["ratio"] is None
    with pytest.raises(InputError, match="expected a link"):
        compare_parts(ucie, load_part("spu", "rc-1us"))


HEAD = "kind: link\nextends: ucie\nconstants:\n"
GOOD = "{value: 9 ns, low: 1 ns, high: 10 ns, status: assumed, source: me}"


def own(tmp_path: Path, text: str) -> Datasheet:
    (tmp_path / "own.yaml").write_text(text)
    return load_part("link", "own.yaml", tmp_path)


def test_a_sheet_of_ones_own(tmp_path: Path) -> None:
    sheet = own(tmp_path, f"{HEAD}  latency: {GOOD}\n")
    assert (sheet.name, sheet.value("latency_s"), sheet.bounds("latency_s")) == (
        "own",
        9e-9,
        (1e-9, 1e-8),
    )
    changed = own(tmp_path, f"{HEAD}  latency: {GOOD.replace('9 ns', '8 ns')}\n")
    assert changed.value("latency_s") == 8e-9


@pytest.mark.parametrize(
    ("text", "line", "path", "words"),
    [
        (
            f"{HEAD}  latency: {GOOD.replace('9 ns', '9')}\n",
            4,
            "constants.latency.value",
            "bare number",
        ),
        (
            f"{HEAD}  latency: {GOOD.replace('9 ns', '11 ns')}\n",
            4,
            "constants.latency",
            "low <= value <= high",
        ),
        (f"{HEAD}  latency: {GOOD.replace('1 ns', '-1 ns')}\n", 4, "constants.latency.low", ">= 0"),
        (
            f"{HEAD}  latency: {GOOD.replace('assumed', 'gues')}\n",
            4,
            "constants.latency.status",
            "one of",
        ),
        (
            f"{HEAD}  latency: {GOOD.replace(', source: me', '')}\n",
            4,
            "constants.latency.source",
            "nothing",
        ),
        (
            f"{HEAD}  latency: {GOOD.replace(': me', ': 3')}\n",
            4,
            "constants.latency.source",
            "a text",
        ),
        (f"{HEAD}  latency: {GOOD.replace('low', 'lo')}\n", 4, "constants.latency.lo", "'low'"),
        (f"{HEAD}  latncy: {GOOD}\n", 4, "constants.latncy", "'latency'"),
        (f"{HEAD}  latency: 3 ns\n", 4, "constants.latency", "a map"),
        (f"{HEAD}  bandwidth: {GOOD}\n", 4, "constants.bandwidth.value", "another dimension"),
        (f"{HEAD}  number_bits: {GOOD}\n", 4, "constants.number_bits.value", "without a unit"),
        (f"kind: spu\nextends: ucie\nconstants:\n  latency: {GOOD}\n", 1, "kind", "expected link"),
        (f"kind: link\nconstants:\n  latency: {GOOD}\n", 1, "constants.bandwidth", "nothing"),
        (f"extends: ucie\nconstants:\n  latency: {GOOD}\n", 1, "kind", "nothing"),
        ("kind: link\nextends: ucei\nconstants: {}\n", 2, "extends", "'ucie'"),
        ("kind: link\nextends: own.yaml\nconstants: {}\n", 2, "extends", "no circle"),
        ("kind: link\nextends: ucie\nconstants: []\n", 3, "constants", "a list"),
        (f"{HEAD}  latency: &x {GOOD}\n", 4, "constants.latency", "anchors"),
        ("", 1, "", "an empty file"),
        ("kind: [\n", 1, "", "syntax error"),
    ],
)
def test_mistakes_in_a_sheet(tmp_path: Path, text: str, line: int, path: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        own(tmp_path, text)
    first = caught.value.problems[0]
    assert (first.line, first.path) == (line, path) and words in str(caught.value)
    assert first.file == str(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    "name", ["a10", "none.yaml", "\0.yaml", "x" * 5000 + ".yaml", "_digital", ""]
)
def test_parts_that_do_not_exist(name: str) -> None:
    with pytest.raises(InputError):
        load_part("gpu", name)


def test_sheets_that_are_held_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (
        "kind: spu\ndescription: x\nextends: rc-1us\nconstants:\n"
        "  capacitance: {value: 2 nF, low: 1 nF, high: 3 nF, status: assumed, source: x}\n"
    )
    path.write_text(text)
    with sheets_held():
        first = load_part("spu", str(path))
        path.write_text(text.replace("2 nF", "3 nF"))
        with sheets_held():
            assert load_part("spu", str(path)) is first
    assert first.value("capacitance_f") == 2e-9
    assert load_part("spu", str(path)).value("capacitance_f") == 3e-9
    assert load_part("spu", str(path)).content != first.content


def test_a_sheet_follows_all_it_extends(tmp_path: Path) -> None:
    base, stamp = tmp_path / "base.yaml", 1_700_000_000_000_000_000
    (tmp_path / "own.yaml").write_text("kind: link\nextends: middle.yaml\nconstants: {}\n")
    (tmp_path / "middle.yaml").write_text("kind: link\nextends: base.yaml\nconstants: {}\n")
    for latency_ns in (8, 7):  # of the same size and at the same time
        base.write_text(f"{HEAD}  latency: {GOOD.replace('9 ns', f'{latency_ns} ns')}\n")
        os.utime(base, ns=(stamp, stamp))
        assert load_part("link", "own.yaml", tmp_path).value("latency_s") == pytest.approx(
            latency_ns * 1e-9
        )
    assert load_part("link", "own.yaml", tmp_path) is load_part("link", "own.yaml", tmp_path)
    base.unlink()
    with pytest.raises(InputError, match="extends"):
        load_part("link", "own.yaml", tmp_path)


@pytest.mark.parametrize(
    ("constants", "path", "words"),
    [
        ({"tdp": (70, 50, 400)}, "constants.tdp", "tdp >= idle (80 W), got 70 W"),
        ({"idle": (401, 50, 500)}, "constants.idle", "tdp >= idle (401 W), got 400 W"),
        ({"tdp": (100, 40, 400)}, "constants.tdp", "low tdp >= low idle (50 W), got 40 W"),
        ({"tdp": (90, 80, 95)}, "constants.tdp", "high tdp >= high idle (100 W), got 95 W"),
        ({"tdp": (80, 50, 100)}, None, ""),
    ],
)
def test_full_load_draws_no_less_than_idle(
    tmp_path: Path, constants: dict[str, tuple[int, int, int]], path: str | None, words: str
) -> None:
    lines = [
        f"  {key}: {{value: {v} W, low: {low} W, high: {high} W, status: assumed, source: me}}\n"
        for key, (v, low, high) in constants.items()
    ]
    (tmp_path / "own.yaml").write_text(
        "kind: gpu\nextends: a100-sxm4-80gb\nconstants:\n" + "".join(lines)
    )
    if path is None:
        assert load_part("gpu", "own.yaml", tmp_path).value("tdp_w") == 80
        return
    with pytest.raises(InputError) as caught:
        load_part("gpu", "own.yaml", tmp_path)
    assert (caught.value.problems[0].path, caught.value.problems[0].line) == (path, 4)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "constant", "value", "low", "high"),
    [
        # medians of designs since 2015 over Murmann's envelope, 19 to 47
        ("spu", "rc-1us", "adc_energy_factor", 35, 5, 400),
        # measured with a context by two authors; with one, bare, and over a fleet
        ("gpu", "v100-sxm2-32gb", "idle_w", 40, 36, 70),
        ("gpu", "h100-sxm5-80gb", "idle_w", 122, 71.8, 156),
        # NVIDIA, What Is NVLink? (2023); the generation before has it as its low end
        ("link", "nvlink4", "energy_j_per_bit", 1.3e-12, 1.3e-12, 10e-12),
        ("link", "nvlink3", "energy_j_per_bit", 10e-12, 1.3e-12, 20e-12),
    ],
)
def test_constants_are_what_their_sources_say(
    kind: PartKind, name: str, constant: str, value: float, low: float, high: float
) -> None:
    found = load_part(kind, name).constants[constant]
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))
    assert found.status != "assumed" or name == "nvlink3"


@pytest.mark.parametrize("name", ["rc-1us", "rc-100ns", "rc-10ns"])
def test_spus_state_their_own_resolutions(name: str) -> None:
    value = load_part("spu", name).value
    assert [value(f"{end}_bits") for end in ("input", "bias", "output")] == [16, 12, 12]
