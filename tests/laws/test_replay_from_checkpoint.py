"""A replay that misses a fact goes on from the checkpoint beside the facts: a run made longer."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing

import pytest
from programs import PROGRAMS, changed
from shared_tasks import task_of

import hybridsim
from hybridsim.operations.backend import Live
from hybridsim.operations.facts import FactStore
from hybridsim.results.write import FACTS

STEPS = 3
LONGER = ["tngd", "tngd-asynchronous-pipelined", "kfac-stale", "kfac-4-gpus", "soap"]


@pytest.fixture
def numbers(monkeypatch):
    """How many computations of numbers there were."""
    found: list[str] = []
    computed = Live.computed

    def counted(backend, computation, values, exact):
        found.append(computation.function.__name__)
        return computed(backend, computation, values, exact)

    monkeypatch.setattr(Live, "computed", counted)
    return found


def of_steps(name: str, steps: int) -> hybridsim.Scenario:
    return hybridsim.load(changed(PROGRAMS[name], "training.steps", steps))


@pytest.mark.parametrize("name", LONGER)
def test_a_longer_run_computes_what_is_new(name, numbers, tmp_path):
    short, long = of_steps(name, STEPS), of_steps(name, STEPS + 1)
    task, facts = task_of(short), tmp_path / "short" / FACTS
    hybridsim.run(short, tmp_path / "short", checkpoint="1 steps", task=task)
    numbers.clear()
    whole = hybridsim.run(long, tmp_path / "whole", task=task)
    all_of_them = len(numbers)
    numbers.clear()
    found = hybridsim.run(long, tmp_path / "long", backend="replay", facts=facts, task=task)
    assert found.manifest["digest"] == whole.manifest["digest"]
    assert "no facts of" in found.summary["host"]["replay_missing"]
    assert len(numbers) < all_of_them * 0.6, "of four steps the last alone is new"
    again = hybridsim.run(long, tmp_path / "again", backend="replay", facts=facts, task=task)
    assert again.summary["host"]["replay_missing"] == ""


def test_without_a_checkpoint_it_computes_what_leads_there(numbers, tmp_path):
    scenario, task = of_steps("kfac-stale", STEPS), task_of(of_steps("kfac-stale", STEPS))
    facts = tmp_path / "facts.sqlite"
    whole = hybridsim.run(scenario, tmp_path / "whole", facts=facts, task=task)
    all_of_them = len(numbers)
    with sqlite3.connect(facts) as rows:
        keys = [key for (key,) in rows.execute("SELECT key FROM facts ORDER BY key")]
        for key in random.Random(1).sample(keys, 5):
            rows.execute("DELETE FROM facts WHERE key = ?", (key,))
    numbers.clear()
    found = hybridsim.run(scenario, tmp_path / "again", backend="replay", facts=facts, task=task)
    assert found.manifest["digest"] == whole.manifest["digest"]
    assert 0 < len(numbers) < all_of_them


def test_facts_of_another_computer_are_not_mixed_with_numbers_of_this_one(tmp_path):
    """They differ: it starts over live."""
    short, long = of_steps("tngd", STEPS), of_steps("tngd", STEPS + 1)
    task, facts = task_of(short), tmp_path / "facts.sqlite"
    hybridsim.run(short, tmp_path / "short", facts=facts, task=task)
    with closing(FactStore(facts)) as store, sqlite3.connect(facts) as rows:
        for key, text in rows.execute(
            "SELECT key, facts FROM facts WHERE facts != '{}'"
        ).fetchall():
            store.put(key, {name: _moved(fact) for name, fact in json.loads(text).items()})
    whole = hybridsim.run(long, tmp_path / "whole", task=task)
    found = hybridsim.run(long, tmp_path / "long", backend="replay", facts=facts, task=task)
    assert found.manifest["digest"] == whole.manifest["digest"]
    assert found.summary["host"]["backend"] == "live"


def _moved(fact):
    return fact if isinstance(fact, list | bool | int) else fact * (1 + 1e-12)
