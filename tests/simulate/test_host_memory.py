"""A live run that this computer cannot hold is refused before it starts."""

from __future__ import annotations

import pytest
from programs import PROGRAMS
from shared_tasks import task_of

import hybridsim
from hybridsim import host_memory
from hybridsim.errors import CapacityError


@pytest.fixture
def free(monkeypatch):
    """Set what is free."""
    return lambda number: monkeypatch.setattr(host_memory, "free_memory_bytes", lambda _: number)


def test_it_is_refused_and_nothing_is_written(free, tmp_path):
    scenario = hybridsim.load(PROGRAMS["tngd"])
    task = task_of(scenario)
    free(1_000)
    said = r"host: 'linearize' alone needs at least [\d.]+ kB .* of which 1 kB are free\. Lower"
    with pytest.raises(CapacityError, match=said):
        hybridsim.run(scenario, tmp_path / "run", task=task)
    assert not (tmp_path / "run").exists()
    assert hybridsim.run(scenario, backend="timing", task=task).status == "complete"


def test_the_jacobian_counts(free, tmp_path):
    """Of TNGD: r = b * d_z rows of N numbers at least."""
    scenario = hybridsim.load(PROGRAMS["tngd"])
    task = task_of(scenario)
    rows = scenario.training.batch_size * 10
    free(rows * task.layout.size * 4 - 1)
    with pytest.raises(CapacityError):
        hybridsim.run(scenario, tmp_path / "run", task=task)


def test_a_container_may_have_less(monkeypatch, tmp_path):
    free = host_memory.psutil.virtual_memory().available
    monkeypatch.setattr(host_memory, "_GROUP", tmp_path)
    assert host_memory.free_memory_bytes("cpu") > free // 2, "no container"
    (tmp_path / "memory.current").write_text("7000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory.free_memory_bytes("cpu") > free // 2, "without a limit"
    (tmp_path / "memory.max").write_text("10000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert host_memory.free_memory_bytes("cpu") == 3_500
