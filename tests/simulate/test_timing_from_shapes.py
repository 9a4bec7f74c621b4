"""Timing-only runs of large networks know their shapes alone."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

import hybridsim
from hybridsim import simulate
from hybridsim.cli import app

GPT = ["workload={source: gpt, options: {train_size: 64, test_size: 8}}", "training.steps=2"]


def test_shapes_alone_give_the_schedule_of_the_network(monkeypatch):
    scenario = hybridsim.load("adam-digits", GPT)
    whole = hybridsim.load_task(scenario, backend="timing")
    assert not whole.is_meta  # a small network has the keys of a live run
    expected = hybridsim.run(scenario, backend="timing", task=whole)
    monkeypatch.setattr(simulate, "LARGE", whole.layout.size - 1)
    task = hybridsim.load_task(scenario, backend="timing")
    kept = [*task.network.parameters(), *task.network.buffers(), *task.data]
    assert all(tensor.is_meta for tensor in kept)
    run = hybridsim.run(scenario, backend="timing")
    assert run.manifest["hashes"]["workload"] == task.key != whole.key
    assert run.manifest["digest"] == expected.manifest["digest"]
    pd.testing.assert_frame_equal(run.spans, expected.spans)
    with pytest.raises(hybridsim.InputError, match=r"host\.device: expected .* cpu, got .* meta"):
        hybridsim.run(scenario, task=task)


def test_the_shapes_key_stands_for_the_options(monkeypatch):
    monkeypatch.setattr(simulate, "LARGE", 0)
    scenarios = [
        hybridsim.load("adam-digits", [*GPT, f"workload.options.depth={k}"]) for k in (1, 2)
    ]
    assert len({hybridsim.load_task(one, backend="timing").key for one in scenarios}) == 2


def test_check_says_what_does_not_fit():
    small = ["--set", "machine.gpu.memory_capacity=1 MB"]
    said = CliRunner().invoke(app, ["check", "adam-digits", *small])
    assert isinstance(said.exception, hybridsim.InputError)
    assert "a100-sxm4-80gb has 1 MB" in str(said.exception)
