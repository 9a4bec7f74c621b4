"""Releases of torch differ in the operators that they have; counting holds on all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybridsim.operations import formulas

REMOVED = {"aten.cholesky": "2.14"}  # the first release without it


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_operator_that_is_named_is_one_of_torch():
    text = Path(formulas.__file__).read_text()
    named = set(re.findall(r'"(aten\.\w+)"', text))
    assert len(named) > 50
    release = tuple(map(int, torch.__version__.split(".")[:2]))
    unknown = {name for name in named if not hasattr(torch.ops.aten, name.removeprefix("aten."))}
    gone = {n for n, first in REMOVED.items() if release >= tuple(map(int, first.split(".")))}
    assert unknown == gone


@pytest.mark.parametrize("name", ["cholesky", "take_along_dim", "_to_copy"])
def test_a_torch_without_an_operator_still_imports(name):
    run(
        "import torch, torch.utils.flop_counter\n"
        "class Fewer:\n"
        "    def __init__(self, all): self.all = all\n"
        "    def __getattr__(self, name):\n"
        f"        if name == {name!r}: raise AttributeError(name)\n"
        "        return getattr(self.all, name)\n"
        "torch.ops.aten = Fewer(torch.ops.aten)\n"
        "import hybridsim.operations.count"
    )


def test_what_torch_imports_late_is_not_counted():
    """Until 2.8 the first call of torch.func imported modules that compute while they load."""
    first, second = run(
        "import torch\n"
        "from hybridsim.operations.count import count\n"
        "def slope(x): return torch.func.grad(lambda y: (y * y).sum())(x)\n"
        "for _ in range(2): print(count(slope, (torch.ones(3),), {})[0])"
    ).splitlines()
    assert first == second
