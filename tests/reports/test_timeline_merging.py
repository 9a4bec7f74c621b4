"""Merging of bars: never too many, nothing lost, nothing joined that does not belong together."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import operations, simulate

from hybridsim.reports.merging import SEVERAL, bars
from hybridsim.trace.spans import SpanRow


def frame_of(rows) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=SpanRow._fields)
    return found.assign(own=found["step"] % 2 == 0, critical=False)


@settings(max_examples=80, deadline=None)
@given(operations(60), st.integers(6, 40))
def test_what_is_merged_is_still_there(ops, limit):
    spans = frame_of(simulate(ops))
    found = bars(spans, limit)
    assert (
        len(found.service) + len(found.waits) <= limit
    )  # three lanes at most: six bars always suffice
    for name in ("count", "energy_j", "energy_low_j", "energy_high_j", "bits", "flop"):
        assert found.service[name].sum() == pytest.approx(spans[name].sum(), rel=1e-12)
    assert found.service["spans"].sum() == len(spans)
    assert found.service["service_ps"].sum() == (spans["end_ps"] - spans["start_ps"]).sum()
    waited = (spans["start_ps"] - spans["queued_ps"]).sum()
    assert found.service["wait_ps"].sum() == waited == found.waits["wait_ps"].sum()
    assert found.merged == found.service.loc[found.service["spans"] > 1, "spans"].sum()
    for bar in found.service.itertuples():
        same = (spans["part"] == bar.part) & (spans["lane"] == bar.lane)
        own = spans[
            same
            & spans["start_ps"].between(bar.start_ps, bar.end_ps)
            & (spans["end_ps"] <= bar.end_ps)
        ]
        assert len(own) >= bar.spans
        if bar.kind != SEVERAL:
            assert (own["kind"] == bar.kind).sum() >= bar.spans


def test_few_bars_are_left_alone_and_kinds_are_mixed_only_when_nothing_else_helps():
    place = {
        "part": "gpu0",
        "lane": "compute",
        "role": "server",
        "own": True,
        "critical": False,
        "layer": "",
        "note": "",
        "parents": (),
    }
    work = dict.fromkeys(
        (
            "energy_j",
            "energy_low_j",
            "energy_high_j",
            "bits",
            "conversions",
            "writes",
            "launches",
            "flop",
        ),
        1,
    )
    times = [(i, "ab"[(i // 10) % 2], 10 * i, 10 * i + 9) for i in range(40)]
    spans = pd.DataFrame(
        place
        | work
        | {
            "id": i,
            "kind": kind,
            "step": 1,
            "blocker": -1,
            "count": 1,
            "queued_ps": a,
            "start_ps": a,
            "end_ps": b,
        }
        for i, kind, a, b in times
    )
    assert bars(spans, 40).merged == 0 and len(bars(spans, 40).service) == 40
    by_kind = bars(spans, 39).service
    assert (
        by_kind["kind"].tolist() == ["a", "b", "a", "b"] and by_kind["spans"].tolist() == [10] * 4
    )
    assert by_kind["start_ps"].tolist() == [0, 100, 200, 300] and by_kind["end_ps"].tolist() == [
        99,
        199,
        299,
        399,
    ]
    mixed = bars(spans, 3).service
    assert mixed["kind"].tolist() == [SEVERAL] and mixed["spans"].tolist() == [40]


def test_the_closest_neighbours_are_joined_first():
    place = {
        "part": "gpu0",
        "lane": "compute",
        "role": "server",
        "kind": "a",
        "own": True,
        "critical": False,
        "layer": "",
        "note": "",
    }
    work = dict.fromkeys(
        (
            "energy_j",
            "energy_low_j",
            "energy_high_j",
            "bits",
            "conversions",
            "writes",
            "launches",
            "flop",
        ),
        1,
    )
    starts = [cluster * 10**6 + 20 * i for cluster in range(4) for i in range(10)]
    spans = pd.DataFrame(
        place
        | work
        | {
            "id": i,
            "parents": (),
            "step": 1,
            "blocker": -1,
            "count": 1,
            "queued_ps": a,
            "start_ps": a,
            "end_ps": a + 9,
        }
        for i, a in enumerate(starts)
    )
    found = bars(spans, 39).service
    assert found["spans"].tolist() == [10] * 4 and found["start_ps"].tolist() == [
        0,
        10**6,
        2 * 10**6,
        3 * 10**6,
    ]
