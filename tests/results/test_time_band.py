"""The band of simulated time: the recorded schedule with constants of time at their ends is the run
with such constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import sign

import hybridsim
from hybridsim.dry import DryRun
from hybridsim.hardware.requests import (
    Compute,
    Convert,
    Propagate,
    Settle,
    Transmit,
    encode,
)
from hybridsim.results.read import Run
from hybridsim.results.time_band import COLUMNS, TimeBand, time_band
from hybridsim.results.time_corners import Asked, Sheet, ends_ps, sheets_of
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.machine import GpuSpec, MachineSpec, SpuSpec
from hybridsim.simulate import load_task
from hybridsim.units import to_ps
from hybridsim.work import Kernel, Work

RISING = {
    "launch_interval", "synchronise", "graph_launch", "device_floor", "contraction_floor",
    "convolution_floor", "tile_prologue", "factorisation_block", "latency",
    "resistance", "capacitance", "write_time", "preset_resistance",
    *(f"{routine}_{term}" for term in ("floor", "step")
        for routine in ("cholesky", "inverse", "eigh", "lu", "qr", "triangular")),
}  # fmt: skip
"""Constants with which operations get longer."""
FALLING = {
    "peak_fp32", "peak_tf32", "peak_fp64", "peak_fp64_tensor", "peak_bf16", "memory_bandwidth",
    "bandwidth", "dac_rate", "dac_channels", "adc_rate", "adc_channels", "write_channels",
    "multiprocessors",
    *(spec.key for spec in CONSTANTS["gpu"] if spec.key.endswith("_efficiency")),
}  # fmt: skip
PLACES = {"gpu": "machine.gpu", "link": "machine.link", "spu": "machine.spus"}


def end_of(key: str, low: float, high: float, fast: bool) -> float:
    return low if fast == (key in RISING) else high


def overrides(scenario, fast: bool) -> list[str]:
    """What sets every constant of time at one end, as a user would write it."""
    spec, found = scenario.machine.expand(), {}
    parts = [n for n in spec.nodes if isinstance(n, GpuSpec | SpuSpec)]
    for part in (*parts, *(edge for edge in spec.edges if edge.sheet is not None)):
        for constant in CONSTANTS[part.sheet.kind]:
            if constant.key in RISING | FALLING:
                value = end_of(constant.key, *part.sheet.bounds(constant.name), fast)
                value = int(value) if constant.whole else value
                path = f"{PLACES[part.sheet.kind]}.{constant.key}"
                found[path] = f"{value!r} {constant.unit}".strip()
    return [f"{path}={text}" for path, text in found.items()]


def time_ps(run: Run) -> int:
    return round(run.summary["simulated_s"] * 1e12)


@pytest.mark.parametrize("name", ["adam-digits", "tngd-digits"])
def test_the_ends_are_runs_with_all_constants_of_time_at_theirs(name):
    """One thread that waits for each operation: to the picosecond."""
    changes = ["training.steps=4"]
    scenario = hybridsim.load(name, changes)
    run = hybridsim.run(scenario, backend="timing")
    ends = [
        time_ps(hybridsim.run(hybridsim.load(name, changes + at_end), backend="timing"))
        for at_end in (overrides(scenario, fast=True), overrides(scenario, fast=False))
    ]
    assert (*run.time_band[:2], run.time_band.reason) == (*ends, "")
    assert ends[0] < time_ps(run) < ends[1]


def test_a_live_run_and_one_of_its_schedule_have_one_band():
    scenario = hybridsim.load("tngd-digits", ["training.steps=2"])
    timing = hybridsim.run(scenario, backend="timing")
    assert hybridsim.run(scenario).time_band == timing.time_band


class Drawn:
    """A small scenario on machines with other constants."""

    def __init__(self, name: str) -> None:
        self.scenario = hybridsim.load(name, ["training.steps=2", "machine.link.chunk=8 KiB"])
        self.task = load_task(self.scenario)
        self.run = hybridsim.run(self.scenario, backend="timing", task=self.task)
        self.dry_run = DryRun(self.scenario, self.task)

    def time_ps(self, share) -> int:
        """With every constant of time at ``share(key)`` of its range."""

        def moved(part):
            if getattr(part, "sheet", None) is None:
                return part
            constants = dict(part.sheet.constants)
            for spec in CONSTANTS[part.sheet.kind]:
                if spec.key in RISING | FALLING:
                    low, high = part.sheet.bounds(spec.name)
                    value = low + share(spec.key) * (high - low)
                    value = round(value) if spec.whole else value
                    constants[spec.name] = replace(constants[spec.name], value=value)
            return replace(part, sheet=replace(part.sheet, constants=constants))

        spec = self.scenario.machine.expand()
        machine = MachineSpec(tuple(map(moved, spec.nodes)), tuple(map(moved, spec.edges)))
        return max(span.end_ps for span in self.dry_run.recorded(machine).spans)


TNGD = Drawn("tngd-digits")


@settings(max_examples=25)
@given(st.data())
def test_no_choice_within_the_ranges_leaves_the_band(data):
    low_ps, high_ps, _ = TNGD.run.time_band
    shares = data.draw(st.lists(st.floats(0, 1), min_size=60, max_size=60))
    keys = sorted(RISING | FALLING)
    found = TNGD.time_ps(dict(zip(keys, shares, strict=False)).get)
    assert low_ps <= found <= high_ps


def test_where_threads_meet_at_parts_the_band_is_close():
    """K-FAC on four SPUs: queues and placement change, which are not in the recorded order."""
    kfac = Drawn("kfac-digits")
    for end_ps, fast in zip(kfac.run.time_band[:2], (True, False), strict=True):
        assert kfac.time_ps(lambda key, f=fast: float(f == (key in FALLING))) == pytest.approx(
            end_ps, rel=0.05
        )


def test_a_program_that_reads_the_clock_has_no_band():
    scenario = hybridsim.load("tngd-digits-async", ["training.steps=3"])
    found = hybridsim.run(scenario, backend="timing").time_band
    assert found[:2] == (0, 0) and "how long operations take" in found.reason


def test_constants_without_ranges_give_no_band():
    scenario = hybridsim.load("adam-digits", ["training.steps=2"])
    fixed = hybridsim.load("adam-digits", ["training.steps=2", *overrides(scenario, fast=True)])
    assert "has a range" in hybridsim.run(fixed, backend="timing").time_band.reason


def parts_of(run: Run):
    columns = (run.requests[name] for name in ("request", "form", "detail"))
    requests = {number: (form, detail) for number, form, detail in zip(*columns, strict=True)}
    chunks = [dict(chunk) for chunk in run.span_chunks(COLUMNS)]
    return run.manifest["machine"], requests, chunks


def test_spans_that_do_not_give_the_schedule_again_are_not_timed():
    machine, requests, (chunk,) = parts_of(TNGD.run)
    assert time_band(machine, requests, [chunk]) == TNGD.run.time_band
    late = {**chunk, "end_ps": chunk["end_ps"] + (chunk["id"] == 7)}
    assert "schedule" in time_band(machine, requests, [late]).reason
    assert "asked" in time_band({"nodes": [], "edges": []}, requests, [chunk]).reason
    assert "asked" in time_band(machine, {}, [chunk]).reason
    assert "asked" in time_band(machine, requests, []).reason


def test_spans_in_many_chunks_are_timed_alike():
    machine, requests, (chunk,) = parts_of(TNGD.run)
    offsets = chunk["parents_offsets"]
    rows = [
        {name: column[i : i + 1] for name, column in chunk.items() if "parents" not in name}
        | {"parents": chunk["parents"][offsets[i] : offsets[i + 1]]}
        | {"parents_offsets": np.array([0, offsets[i + 1] - offsets[i]])}
        for i in range(len(chunk["id"]))
    ]
    assert time_band(machine, requests, rows) == TNGD.run.time_band


def test_a_message_takes_all_of_its_wires_and_the_slowest_sets_the_pace():
    """Each wire's range counts: the ends are bits over the slowest of lows, and of highs."""
    wires = {"a": (1e9, 2e9, 8e9), "b": (1.5e9, 3e9, 4e9)}
    sheets = {
        name: Sheet("link", {
            "bandwidth_bit_per_s": dict(zip(("low", "value", "high"), ends, strict=True)),
            "latency_s": {"low": 1e-9, "value": 2e-9, "high": 3e-9},
        })
        for name, ends in wires.items()
    }  # fmt: skip
    asked = [Asked("a", Transmit(12_000, 0, ("a", "b"))), Asked("b", Propagate(("a", "b")))]
    nominal, fastest, slowest = ends_ps(asked, sheets)
    assert nominal == [to_ps(12_000 / 2e9), to_ps(4e-9)]
    assert fastest == [to_ps(12_000 / 4e9), to_ps(2e-9)]
    assert slowest == [to_ps(12_000 / 1e9), to_ps(6e-9)]


def sheet_of(**constants) -> Sheet:
    names = ("low", "value", "high")
    return Sheet(
        "gpu", {name: dict(zip(names, ends, strict=True)) for name, ends in constants.items()}
    )


def test_a_constant_that_decides_nothing_alone_decides_with_others():
    """Memory sets the pace by far; with fast memory the peak does, which has a range too."""
    sheets = {
        "gpu0": sheet_of(
            launch_interval_s=(0, 0, 0),
            device_floor_s=(0, 0, 0),
            peak_fp32_flop_per_s=(5e11, 5e11, 1e12),
            bandwidth_efficiency=(1, 1, 1),
            memory_bandwidth_byte_per_s=(1e9, 1e9, 1e12),
        )
    }
    work = Work((Kernel("k", flop=1e9, bytes=1e9),))
    found = ends_ps([Asked("gpu0", Compute(work))], sheets)
    assert found == ([10**12], [to_ps(1e-3)], [10**12])


def test_parts_alike_share_a_sheet_and_no_channels_means_one_per_cell():
    constants = {
        "dac_channels": {"low": 0, "value": 8, "high": 16},
        "dac_rate_hz": {"low": 1e6, "value": 2e6, "high": 4e6},
        "resistance_ohm": {"low": 1e3, "value": 1e3, "high": 2e3},
        "capacitance_f": {"low": 1e-12, "value": 1e-12, "high": 1e-12},
    }
    item = {"sheet": {"kind": "spu", "name": "rc", "constants": constants}}
    sheets = sheets_of({"nodes": [{**item, "name": "spu0"}, {**item, "name": "spu1"}]})
    assert sheets["spu0"] is sheets["spu1"]
    asked = [Asked("spu0", Convert(32, 8)), Asked("spu1", Settle(10, 5))]
    nominal, fastest, slowest = ends_ps(asked, sheets)
    assert nominal == [to_ps(4 / 2e6), to_ps(10e-9)]
    assert fastest == [to_ps(1 / 4e6), to_ps(10e-9)]
    assert slowest == [to_ps(4 / 1e6), to_ps(20e-9)]


def test_the_run_folder_alone_says_the_band(tmp_path):
    hybridsim.run(
        hybridsim.load("tngd-digits", ["training.steps=2"]), tmp_path / "run", backend="timing"
    )
    before = Run.open(tmp_path / "run").time_band
    manifest = Run.open(tmp_path / "run").manifest
    constants = manifest["machine"]["nodes"][0]["sheet"]["constants"]
    constants["launch_interval_s"]["high"] *= 2
    sign(tmp_path / "run", machine=manifest["machine"])
    after = Run.open(tmp_path / "run").time_band
    assert after.low_ps == before.low_ps and after.high_ps > before.high_ps


def fixed(value) -> dict[str, float]:
    return {"low": value, "value": value, "high": value}


GPU = {
    "launch_interval_s": {"low": 5e-12, "value": 10e-12, "high": 40e-12},
    "synchronise_s": fixed(0.0),
    "device_floor_s": fixed(0.0),
    "bandwidth_efficiency": fixed(1.0),
    "peak_fp32_flop_per_s": fixed(1e12),
    "memory_bandwidth_byte_per_s": fixed(1e12),
}
MACHINE = {
    "nodes": [{"name": "gpu0", "sheet": {"kind": "gpu", "name": "g", "constants": GPU}}],
    "edges": [
        {"name": name, "sheet": {"kind": "link", "name": "l", "constants": {
            "bandwidth_bit_per_s": fixed(1e12)}}}
        for name in ("a", "b")
    ],
}  # fmt: skip
LAUNCH, BITS, BOTH = 0, 1, 2
ASKED = {
    LAUNCH: encode(Compute(Work((Kernel("k", flop=0, bytes=0),)))),
    BITS: encode(Transmit(20, 0, ("a",))),
    BOTH: encode(Transmit(20, 0, ("a", "b"))),
}
"""10 [5, 40] ps on the GPU, 20 ps on links."""


def band_of(*rows) -> TimeBand:
    """Of spans (part, request, end, parents, blocker), numbered in order."""
    parents = [row[3] for row in rows]
    texts = {"lane": "compute", "role": "server", "kind": "k", "note": ""}
    chunk = {name: np.array([text] * len(rows), dtype=object) for name, text in texts.items()}
    chunk |= {
        "id": np.arange(len(rows)),
        "parents": np.array([p for own in parents for p in own], dtype=int),
        "parents_offsets": np.cumsum([0, *map(len, parents)]),
        "part": np.array([row[0] for row in rows], dtype=object),
        "step": np.arange(len(rows)),
        **{name: np.array([row[i] for row in rows])
            for name, i in (("request", 1), ("end_ps", 2), ("blocker", 4))},
    }  # fmt: skip
    return time_band(MACHINE, ASKED, [chunk])


def test_what_was_served_before_may_hold_up_what_did_not_wait():
    """The second launch follows the message (20 ps); the slow first one ends at 40."""
    found = band_of(
        ("gpu0", LAUNCH, 10, (), -1), ("a", BITS, 20, (), -1), ("gpu0", LAUNCH, 30, (1,), -1)
    )
    assert found == (20 + 5, 40 + 40, "")


def test_what_held_another_resource_is_waited_for():
    found = band_of(("gpu0", LAUNCH, 10, (), -1), ("a", BITS, 30, (), 0))
    assert found == (5 + 20, 40 + 20, "")


def test_a_message_starts_when_all_of_its_wires_are_free():
    """It holds both; the next one on either follows it, and it follows what ``b`` sent."""
    found = band_of(
        ("gpu0", LAUNCH, 10, (), -1), ("b", BITS, 30, (0,), -1), ("a", BOTH, 50, (), 1),
        ("b", BOTH, 50, (), 1), ("b", BITS, 70, (), 3),
    )  # fmt: skip
    assert found == (5 + 60, 40 + 60, "")
    early = band_of(("gpu0", LAUNCH, 10, (), -1), ("b", BITS, 30, (0,), -1),
        ("a", BOTH, 55, (0,), -1), ("b", BOTH, 55, (0,), -1))  # fmt: skip
    assert "schedule" in early.reason
