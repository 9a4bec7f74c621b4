"""Studies beside what they replace; ratios measured side by side, nothing asserted."""

from __future__ import annotations

import statistics
import time

import pytest

import hybridsim
from hybridsim.studies.collect.base import Settings
from hybridsim.studies.collect.collector import Collector
from hybridsim.studies.collect.here import Here
from hybridsim.studies.collect.local import LocalWorkers
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.folder import Folder
from hybridsim.studies.load import load_study
from hybridsim.studies.points import point, points_of

pytestmark = pytest.mark.benchmark
POINTS, REPEATS = 8, 5
LINK = [
    {"field": "machine.link.bandwidth", "grid": [f"{10 * k} Gb/s" for k in range(1, 11)]},
    {"field": "machine.link.latency", "grid": [f"{k} us" for k in range(1, 11)]},
]


def study(base: str, **changes):
    return load_study({"name": "b", "base": base, "question": {"kind": "table"}} | changes)


def test_two_workers_beside_one(tmp_path):
    """Eight live points of their own seeds; workers are warm: they have run others before."""
    asked = study("tngd-digits", set={"training.steps": 30})
    side = asked.sides[0].name
    places = {}
    for number in (1, 2):
        folder = Folder(tmp_path / str(number))
        pool = LocalWorkers(number, folder.facts, None)
        places[number] = Collector(folder, pool, Settings("live", 0.3))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(-1, REPEATS):
        seeds = range(1000 * (repeat + 1), 1000 * (repeat + 1) + POINTS)
        for number, collector in places.items():
            points = [point(asked, side, seed, {}) for seed in seeds]
            started = time.perf_counter()
            collector.outcomes(points)
            seconds[number].append(time.perf_counter() - started)
    for collector in places.values():
        collector.close()
    one, two = (statistics.median(found[1:]) for found in seconds.values())
    print(
        f"\n{POINTS} live points: one worker {one:.2f} s, two {two:.2f} s (ratio {one / two:.2f})"
    )


@pytest.mark.parametrize("base", ["tngd-digits", "kfac-digits"])
def test_a_hundred_points_that_only_costs_set_apart_beside_live_runs(tmp_path, base):
    asked = study(base, axes=LINK)
    folder = Folder(tmp_path / "study")
    collector = Collector(folder, Here(Desk(tmp_path, folder.facts, None)), Settings("live", 0.3))
    scenario = asked.expansion.scenario(asked.sides[0].name, {})
    task = hybridsim.load_task(scenario)
    collector.outcomes([point(asked, asked.sides[0].name, 99, {"training.steps": 2})])  # warm
    alone = []
    for _ in range(2):
        started = time.perf_counter()
        hybridsim.run(scenario, task=task)
        alone.append(time.perf_counter() - started)
    points = points_of(asked)
    started = time.perf_counter()
    found = collector.outcomes(points)
    shared = time.perf_counter() - started
    collector.close()
    live = statistics.median(alone)
    ways = {
        way: sum(o.how == way for o in found.values()) for way in ("live", "replayed", "retimed")
    }
    print(
        f"\n{base}: {len(points)} points in {shared:.2f} s ({ways}); a live run {live:.2f} s, so "
        f"all live {live * len(points):.0f} s (ratio {live * len(points) / shared:.0f})"
    )
