"""Books that must balance, for every program: energy, time, capacity, causality, queues, scaling,
determinism."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import simulate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import changed

TIME = ["part", "lane", "kind", "step", "layer", "count", "queued_ps", "start_ps", "end_ps"]


def serving(spans: pd.DataFrame) -> pd.DataFrame:
    """Spans that hold a server: neither background nor propagation nor pauses."""
    return spans[spans.role == "server"]


def test_energy_is_spans_plus_static_power(program):
    _, _, run, _ = program
    makespan_s = run.spans.end_ps.max() * 1e-12
    static_w = sum(row["power_w"] for row in run.manifest["static_power"])
    expected = run.spans.energy_j.sum() + static_w * makespan_s
    assert run.summary["energy"]["total"]["energy_j"] == pytest.approx(expected, rel=1e-9)
    assert run.summary["energy"]["total"]["energy_low_j"] <= expected
    assert expected <= run.summary["energy"]["total"]["energy_high_j"]
    assert (run.spans.energy_low_j <= run.spans.energy_j).all()
    assert (run.spans.energy_j <= run.spans.energy_high_j).all()


def test_no_lane_serves_two_at_once(program):
    _, _, run, _ = program
    for _, lane in serving(run.spans).groupby(["part", "lane"]):
        ordered = lane.sort_values(["start_ps", "end_ps"])
        assert (ordered.start_ps.to_numpy()[1:] >= ordered.end_ps.to_numpy()[:-1]).all()


def test_effects_never_precede_causes(program):
    _, _, run, _ = program
    spans = run.spans.set_index("id")
    assert (spans.queued_ps <= spans.start_ps).all()
    assert (spans.start_ps <= spans.end_ps).all()
    for span in spans.itertuples():
        for parent in span.parents:
            assert spans.end_ps[parent] <= span.queued_ps or span.role == "background"
            assert spans.role[parent] != "background", "continuous relaxation is never a parent"
        if span.blocker >= 0:
            assert spans.end_ps[span.blocker] == span.start_ps
        elif span.role != "background":
            assert span.start_ps == span.queued_ps, "a wait without a culprit"


def test_critical_path_covers_the_run_without_a_gap(program):
    _, _, run, _ = program
    path = run.summary["critical_path"]
    assert "error" not in path, path["error"]
    assert path["length_s"] == pytest.approx(run.spans.end_ps.max() * 1e-12, rel=1e-12)
    times = [(segment.start_ps, segment.end_ps) for segment in run.path]
    assert times[0][0] == 0
    assert times[-1][1] == run.spans[~run.spans.lane.str.startswith("~")].end_ps.max()
    assert all(before[1] == after[0] for before, after in pairwise(times))


def test_wires_carry_the_same_bits_at_both_ends(program):
    """Whatever a direction carried, its far end received: payload sizes follow from the task
    alone."""
    name, document, run, _ = program
    wires = serving(run.spans[run.spans.bits > 0])
    wires = wires[wires.lane.str.startswith("to ")]
    if name == "adam-four-gpus":
        piece = math.ceil(32 * (64 * 6 + 6 + 6 * 10 + 10) / 4)
        sums = wires.groupby(["part", "lane"]).bits.sum()
        steps = document["training"]["steps"]
        assert set(sums) == {2 * 3 * piece * steps} and len(sums) == 2 * 4
    if not name.startswith("tngd") or "split" in name:
        return
    size, rows, outputs = 64 * 6 + 6 + 6 * 10 + 10, 4 * 10, 10
    by_kind = wires.groupby("kind").bits.agg(["min", "max"])
    expected = {
        "upload jacobian": rows * size * 8,
        "upload hessian": rows * outputs * 8,
        "upload gradient": size * 10,
        "download": size * (9 + 1),  # the mean of two readings has one bit more
    }
    for kind, bits in expected.items():
        assert tuple(by_kind.loc[kind]) == (bits, bits)


def test_littles_law_on_every_queue(program):
    """Mean number waiting (swept over events) = arrivals per second x mean wait."""
    _, _, run, _ = program
    end = run.spans.end_ps.max()
    for (part, lane), spans in serving(run.spans).groupby(["part", "lane"]):
        times = np.concatenate([spans.queued_ps, spans.start_ps])
        steps = np.concatenate([np.ones(len(spans)), -np.ones(len(spans))])
        order = np.argsort(times, kind="stable")
        waiting = np.cumsum(steps[order])
        area = float((waiting[:-1] * np.diff(times[order])).sum())
        row = next(r for r in run.summary["lanes"] if (r["part"], r["lane"]) == (part, lane))
        assert row["queue_mean"] == pytest.approx(area / end, abs=1e-12)


def test_the_same_scenario_gives_the_same_digest(program, tmp_path):
    assert (
        simulate(program[1], tmp_path / "again").manifest["digest"] == program[2].manifest["digest"]
    )


def test_timing_only_gives_the_live_schedule_and_keys(program, tmp_path):
    """Solves that are stopped by what they find take all iterations where nothing is found."""
    name, document, run, _ = program
    timing = simulate(document, tmp_path / "timing", backend="timing")
    if name == "kfac-newton-schulz":
        assert len(timing.spans) > len(run.spans)
        return
    if name == "ngd-cg":
        most = document["training"]["algorithm"]["iterations"]
        assert (timing.steps["cg_iterations"] == most).all()
        assert (run.steps["cg_iterations"] < most).all()
        return
    pd.testing.assert_frame_equal(timing.spans[TIME], run.spans[TIME])
    assert timing.manifest["last_key"] == run.manifest["last_key"]


def to_spus(spans: pd.DataFrame) -> pd.Series:
    """Wires that lead to SPUs and back, not those between GPUs."""
    return spans.lane.str.startswith("to ") & ~spans.part.str.contains("fabric")


SCALED = {
    "bandwidth": (
        "machine.link.bandwidth",
        lambda k: f"{50 / k!r} Gb/s",
        lambda s: s.lane.str.startswith("to "),
    ),
    "resistance": (
        "machine.spus.resistance",
        lambda k: f"{k!r} kohm",
        lambda s: s.kind.str.startswith("settle"),
    ),
    "capacitance": (
        "machine.spus.capacitance",
        lambda k: f"{k!r} nF",
        lambda s: s.kind.str.startswith("settle"),
    ),
}


@pytest.mark.parametrize("what", sorted(SCALED))
@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(k=st.floats(0.05, 50))
def test_scaling_a_constant_scales_its_spans_and_no_others(program, tmp_path, what, k):
    """Bandwidth by 1/k, R or C by k: the matching spans take k times as long, within 1 ps of the
    shorter one."""
    name, document, run, _ = program
    path, value, matching = SCALED[what]
    if (
        "spus" not in document["machine"]
        and "interconnect" in document["machine"]["gpu"]
        and what == "bandwidth"
    ):
        own = run.manifest["machine"]["edges"][0]["sheet"]["constants"]["bandwidth_bit_per_s"][
            "value"
        ]
        path, value = "machine.gpu.interconnect.bandwidth", lambda k: f"{own * 1e-9 / k!r} Gb/s"
    elif "spus" not in document["machine"] or ("asynchronous" in name and what != "bandwidth"):
        return
    elif document["machine"]["spus"]["imperfections"] != "ideal" and what != "bandwidth":
        return  # R and C size amplifiers' lag and noise, and so the numbers
    elif what == "bandwidth":
        matching = to_spus
    if name == "kfac-auto":
        return  # what is faster gets more to do
    if name == "tngd-asynchronous-pipelined":
        return  # the link decides what is still in flight when the run ends
    if name == "tngd-split-2-gpus" and what == "bandwidth":
        return  # a route over several links holds all of them for as long as the slowest
    other = simulate(changed(document, path, value(k)), tmp_path / "scaled", backend="timing")
    order = ["step", "part", "lane", "kind", "layer", "count", "start_ps"]
    before, after = (serving(r.spans).sort_values(order, ignore_index=True) for r in (run, other))
    assert before[order[:-1]].equals(after[order[:-1]])
    lengths = [(spans.end_ps - spans.start_ps).to_numpy() for spans in (before, after)]
    hit = matching(before).to_numpy()
    np.testing.assert_allclose(
        lengths[1][hit] / max(k, 1), lengths[0][hit] * k / max(k, 1), rtol=1e-12, atol=1
    )
    np.testing.assert_array_equal(lengths[1][~hit], lengths[0][~hit])


def test_four_spus_change_no_number_of_a_synchronous_run(program, tmp_path):
    name, document, run, _ = program
    if "spus" not in document["machine"] or "asynchronous" in name:
        return
    algorithm = document["training"]["algorithm"]
    if algorithm["kind"] == "kfac" and document["machine"]["spus"]["imperfections"] != "ideal":
        return  # each SPU is another device
    spread = algorithm.get("placement") in ("auto", "columns")
    for count in (1, 2, 4):
        other = simulate(changed(document, "machine.spus.count", count), tmp_path / str(count))
        columns = [c for c in run.steps.columns if not c.endswith(("_ps", "_s", "energy_j"))]
        pd.testing.assert_frame_equal(other.steps[columns], run.steps[columns])
        # columns solved apart are other computations: equal numbers up to the rounding of a matrix
        # product
        assert spread or other.manifest["last_key"] == run.manifest["last_key"]
