"""A workload's key stands for the code that runs, whatever Python's caches hold."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import torch

from hybridsim.errors import InputError
from hybridsim.tasks.task import load_workload

TEXT = """
from dataclasses import dataclass
import torch
from torch import nn
from hybridsim.tasks.task import Data, Workload

@dataclass
class Sizes:
    width: int = 5

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        width = Sizes().width
        self.inner = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))
        EXTRA

    def forward(self, x):
        return self.inner(x) * SCALE

def build():
    x = torch.randn(12, 4)
    y = torch.arange(12) % 3
    return Workload(network=Net, data=Data(x[:8], y[:8], x[8:], y[8:]), loss="cross_entropy")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on sys.path; modules imported from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(
    folder, scale="1", extra="pass", head="from __future__ import annotations", name="mine.py"
):
    path = folder / name
    path.write_text(head + TEXT.replace("SCALE", scale).replace("EXTRA", extra))
    return path


def helper(folder, text, second=1_700_000_000):
    path = folder / "own_helper.py"
    path.write_text(text)
    os.utime(path, (second, second))
    importlib.invalidate_caches()
    return path


def fresh_keys(*folders):
    """The keys of their ``mine.py`` that a new process finds for each, forked from one that has
    loaded all but them.
    """
    code = (
        "import os, sys\n"
        "from hybridsim.tasks.task import load_workload\n"
        "load_workload('digits_mlp', {'hidden': 2, 'depth': 1}).key\n"
        "for folder in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        sys.path.insert(0, folder)\n"
        "        print(load_workload(folder + '/mine.py', {}).key, flush=True)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
    )
    command = [sys.executable, "-c", code, *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    keys = run.stdout.split()
    assert len(keys) == len(folders)
    return keys


def outputs(task):
    theta = task.initial_parameters(0)
    return task.apply(task.layout.unflatten(theta), task.data.train_x)


def test_an_edit_of_the_same_size_in_the_same_second_counts(folder):
    first_path = write(folder, scale="2.0")
    os.utime(first_path, (1_700_000_000, 1_700_000_000))
    first = load_workload(str(first_path), {})
    write(folder, scale="4.0")
    os.utime(first_path, (1_700_000_000, 1_700_000_000))
    second = load_workload(str(first_path), {})
    assert torch.allclose(outputs(second), 2 * outputs(first))
    assert second.key != first.key
    assert not (folder / "__pycache__").exists() and sys.dont_write_bytecode is False


def test_the_key_is_the_same_in_another_process(folder):
    helper(folder, "SCALE = 2.0\n")
    path = write(folder, head="import own_helper", scale="own_helper.SCALE")
    keys = [load_workload(str(path), {}).key for _ in range(2)]
    assert [keys[0]] == keys[1:] == fresh_keys(folder)
    assert not (folder / "__pycache__").exists()


LAZY = "__import__('importlib').import_module('own_helper').SCALE"


IMPORTS = [
    ("from own_helper import SCALE", "1"),  # a comment in it changes no result, yet the key
    ("", "__import__('own_helper').SCALE"),
    ("", LAZY),
    ("import between", "between.SCALE"),
]


def test_helper_modules_are_part_of_the_key(tmp_path):
    folders = []
    for number, (head, scale) in enumerate(IMPORTS):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        (folders[-1] / "between.py").write_text(
            "def late():\n    from own_helper import SCALE\n    return SCALE\nSCALE = late()\n"
        )
        write(folders[-1], head=head, scale=scale)
    found = []
    for text in ("SCALE = 2.0\n", "SCALE = 2.0 \n", "SCALE = 2.0\n"):
        for one in folders:
            helper(one, text)
        found.append(fresh_keys(*folders))
    for first, other, again in zip(*found, strict=True):
        assert first == again != other


@pytest.mark.parametrize("scale", ["own_helper.SCALE", LAZY])
def test_a_helper_that_changed_since_it_was_imported_is_refused(folder, scale):
    text = helper(folder, "SCALE = 2.0\n").read_text()
    path = write(folder, head="import own_helper" if scale != LAZY else "", scale=scale)
    first = load_workload(str(path), {})
    helper(folder, "SCALE = 4.0\n")
    with pytest.raises(
        InputError,
        match="own_helper.py: expected the text that module 'own_helper' was imported from",
    ):
        load_workload(str(path), {})
    helper(folder, text)
    assert load_workload(str(path), {}).key == first.key


def test_a_helper_imported_before_and_written_after_python_started_is_refused(folder):
    helper(folder, "SCALE = 2.0\n")
    path = write(folder, head="", scale="__import__('between').SCALE")
    (folder / "between.py").write_text("import own_helper\nSCALE = own_helper.SCALE\n")
    importlib.import_module("own_helper")
    helper(
        folder, "SCALE = 4.0\n"
    )  # its time of modification is in the past; that of its change is not
    with pytest.raises(InputError, match="restart Python"):
        load_workload(str(path), {})


def test_stale_bytecode_of_a_helper_is_refused(folder):
    write(folder, head="import own_helper", scale="own_helper.SCALE")
    helper(folder, "SCALE = 2.0\n")
    subprocess.run(
        [sys.executable, "-c", "import own_helper"], cwd=folder, env=_writing(), check=True
    )
    assert (folder / "__pycache__").exists()
    helper(folder, "SCALE = 4.0\n")
    with pytest.raises(InputError, match="own_helper.py: expected bytecode of this text"):
        load_workload(str(folder / "mine.py"), {})


def _writing():
    return {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    }


@pytest.mark.parametrize(
    ("extra", "scale"),
    [
        ("self.register_buffer('w', torch.load(FILE), persistent=False)", "1"),
        ("self.register_buffer('w', torch.load(FILE))", "1"),
        ("self.w = nn.Parameter(torch.load(FILE), requires_grad=False)", "1"),
        (
            "self.w = torch.load(FILE)",
            "self.w",
        ),  # neither parameter nor buffer: seen in the outputs
    ],
)
def test_what_a_network_loads_is_part_of_the_key(folder, extra, scale):
    weights = folder / "w.pt"
    path = write(folder, extra=extra.replace("FILE", repr(str(weights))), scale=scale)
    keys = []
    for value in (2.0, 3.0, 2.0):
        torch.save(torch.tensor(value), weights)
        keys.append(load_workload(str(path), {}).key)
    assert keys[0] == keys[2] != keys[1]


def test_the_number_of_threads_does_not_enter_the_key():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        key = load_workload("digits_cnn", {}).key
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert load_workload("digits_cnn", {}).key == key
    finally:
        torch.set_num_threads(threads)


def test_a_failed_load_does_not_hold_up_the_next(folder):
    helper(folder, "SCALE = 2.0\n")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_workload(str(write(folder, head="import own_helper; 1 / 0", scale="1")), {})
    load_workload(str(write(folder, head="import own_helper", scale="1")), {})
