"""What collectors make of what their places of work say; nothing is simulated here."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest
from small_studies import adam, computed, document, tngd

from hybridsim.studies.collect import collector as collecting
from hybridsim.studies.collect.base import Died, Done, Event, Settings
from hybridsim.studies.collect.collector import Collector, DrawsFailed
from hybridsim.studies.drawing import Drawn, Draws
from hybridsim.studies.evaluate import Evaluated, Group, Keyed
from hybridsim.studies.folder import Folder
from hybridsim.studies.load import load_study
from hybridsim.studies.outcome import Outcome
from hybridsim.studies.points import points_of


class Pretend:
    """Places of work that say what they are told to; jobs end in any order."""

    def __init__(self, size=2, seed=0, dies=lambda point: False, takes_s=0.0):
        self.size, self.dies, self.takes_s = size, dies, takes_s
        self.jobs, self.begun, self.rng = {}, Counter(), random.Random(seed)

    def submit(self, job):
        assert len(self.jobs) < self.size and job.name not in self.jobs
        self.jobs[job.name] = list(self.says(job))
        self.begun[job.name] += 1

    def says(self, job):
        if isinstance(job, Draws):
            yield Drawn(
                job.name, ("retimed",) * len(job.settings), ((1.0,) * 7,) * len(job.settings)
            )
        for point in () if isinstance(job, Draws) else job.points:
            if self.dies(point.id):
                yield Died("it died")
                return
            if isinstance(job, Group):
                yield Evaluated(point.id, Outcome("ok", how="live"), job.backend, "ab" * 16)
            else:
                yield Keyed(point.id, f"{point.scenario.seed:032x}")
        yield Done()

    def events(self, timeout_s):
        if not self.jobs:
            time.sleep(timeout_s)
            return
        time.sleep(self.takes_s)
        name = self.rng.choice(sorted(self.jobs))
        what = self.jobs[name].pop(0)
        if isinstance(what, Done | Died):
            del self.jobs[name]
        yield Event(name, what)

    def close(self):
        self.jobs.clear()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(collecting, "_WAIT_S", 0.02)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    axes = [
        {"field": "machine.link.bandwidth", "grid": ["10 Gb/s", "20 Gb/s"], "sides": ["tngd"]},
        {"field": "machine.spus.count", "grid": [1, 2, 3], "sides": ["tngd"]},
    ]
    sides = {"tngd": tngd(folder), "adam": adam(folder)}
    return points_of(load_study(document(sides, axes=axes, seeds=4)))


@pytest.fixture
def collector_on(tmp_path):
    made = []

    def make(pool):
        made.append(Collector(Folder(tmp_path), pool, Settings("live", 0.3)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_groups_are_points_of_one_last_key(points, collector_on):
    pool = Pretend()
    plan = collector_on(pool).plan(points)
    assert sorted(len(group.points) for group in plan) == [1] * 4 + [6] * 4
    assert sum(name.startswith("key ") for name in pool.begun) == 3 * 4  # one for each signature
    again = Pretend(seed=1)
    assert {g.name for g in collector_on(again).plan(points)} == {g.name for g in plan}
    assert not again.begun  # they are kept


def at_once(work, number):
    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("seed", range(3))
def test_launches_at_once_do_everything_once(points, collector_on, tmp_path, seed):
    collectors = [collector_on(Pretend(2, seed + k, takes_s=0.004)) for k in range(3)]
    found = [None] * 3

    def work(k):
        found[k] = collectors[k].outcomes(points)

    at_once(work, 3)
    ids = {point.id for point in points}
    assert all(set(outcomes) == ids for outcomes in found)
    assert computed(tmp_path) == dict.fromkeys(ids, 1)
    assert not [*tmp_path.glob("**/*claim*")]


def draws(name: str, count: int) -> Draws:
    return Draws(name, None, Outcome("ok"), (), ({},) * count, 0, "", "")


def test_draws_are_done_once_and_read_again(collector_on, tmp_path):
    jobs = [draws(f"job{k}", k + 1) for k in range(8)]
    collectors = [collector_on(Pretend(2, k, takes_s=0.004)) for k in range(2)]
    found = [None] * 2

    def work(k):
        found[k] = collectors[k].perform(jobs)

    at_once(work, 2)
    assert found[0] == found[1] and list(map(len, (found[0][j.name].how for j in jobs)))
    assert computed(tmp_path) == dict.fromkeys((job.name for job in jobs), 1)
    idle = Pretend()
    assert collector_on(idle).perform(jobs) == found[0] and not idle.begun


def test_what_nobody_survives_fails_alone(points, collector_on, tmp_path):
    deadly = {points[0].id, points[-1].id}
    pool = Pretend(dies=lambda point: point in deadly)
    found = collector_on(pool).outcomes(points)
    for name, outcome in found.items():
        expected = ("failed", "it died, 3 times") if name in deadly else ("ok", "")
        assert (outcome.status, outcome.reason) == expected
    assert set(computed(tmp_path).values()) == {1}
    healed = Pretend()
    found = collector_on(healed).outcomes(points)
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert computed(tmp_path) == {name: 1 + (name in deadly) for name in found}


def test_draws_that_nobody_survives_end_the_study(collector_on):
    pool = Pretend()
    pool.says = lambda job: iter([Died("it died")])
    with pytest.raises(DrawsFailed, match="draws of constants: it died"):
        collector_on(pool).perform([draws("job", 3)])
    assert pool.begun == {"job": 3}


def test_groups_that_are_not_wanted_are_left(points, collector_on):
    plan = collector_on(Pretend()).plan(points)
    mine = {group.name for group in plan[::2]}
    found = collector_on(Pretend()).outcomes(points, lambda group: group.name in mine)
    assert set(found) == {p.id for group in plan[::2] for p in group.points}
