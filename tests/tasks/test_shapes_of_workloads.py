"""A workload without numbers has every shape of the loaded one."""

from __future__ import annotations

import pytest

import hybridsim
from hybridsim.tasks.task import Task, load_shapes, load_workload
from hybridsim.unread import load_shapes as shapes_of
from hybridsim.unread import unread_constants

NUMBERS_NEEDED = """
import torch
from torch import nn
from hybridsim import Data, Workload

def network():
    layer = nn.Linear(4, 3)
    return layer if layer.weight.sum().item() < 1e9 else None

def build():
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    return Workload(network, Data(x[:8], y[:8], x[8:], y[8:]), "cross_entropy")
"""


def forms(task: Task) -> list[object]:
    tensors = [*task.data, *task.network.parameters(), *task.network.buffers()]
    found: list[object] = [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]
    return [*found, task.layout, task.outputs, task.terms, task.loss, task.options, task.dtype]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits_mlp", {"hidden": 5, "depth": 3}),
        ("digits_cnn", {"channels": 3}),
        ("gpt", {"vocabulary": 12, "width": 16, "sequence": 7, "depth": 1, "train_size": 9}),
        ("gnn", {"latent": 12, "nodes": 10, "train_size": 9}),
        ("molecules", {"latent": 8, "steps": 1, "nodes": 16, "train_size": 9}),
        ("vit", {"image": 8, "width": 16, "mlp": 24, "depth": 1}),
        ("mlp_cifar", {"depth": 3, "width": 24, "synthetic": True}),
    ],
)
def test_shapes_are_those_of_the_loaded_workload(name, options):
    assert forms(load_shapes(name, options)) == forms(load_workload(name, options).meta())


def test_a_network_that_needs_numbers_is_loaded(tmp_path):
    (tmp_path / "mine.py").write_text(NUMBERS_NEEDED)
    path = str(tmp_path / "mine.py")
    assert forms(load_shapes(path, {})) == forms(load_workload(path, {}).meta())


def test_check_loads_no_numbers_and_finds_the_same(monkeypatch):
    scenario = hybridsim.load("tngd-digits", ["machine.gpu.peak_bf16=99 TFLOP/s"])
    expected = unread_constants(scenario, hybridsim.load_task(scenario))
    monkeypatch.setattr("hybridsim.tasks.task.as_task", None)
    assert unread_constants(scenario, shapes_of(scenario)) == expected
