"""Whatever the user's code raises, wherever it does: its file and line, the right code, and what
the run had found."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from command import call

from hybridsim.results.read import Run

FAILING = """
import sys
import torch
from torch import nn
from hybridsim import Data, Workload

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")

class Beyond(BaseException): pass

def deep(): return deep()
def fail(): WHAT
calls = 0

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        global calls
        calls += not x.is_meta
        if calls > LIMIT: fail()
        return self.layer(x)

def network():
    if WHERE == "network": fail()
    return Network()

def draw():
    if WHERE == "data": fail()
    x = torch.randn(60, 3)
    y = (x.sum(1) > 0).long()
    return Data(x[:40], y[:40], x[40:], y[40:])

if WHERE == "import": fail()
def build():
    return Workload(network, draw(), "cross_entropy")
"""
ERRORS = {
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit()": "SystemExit",
    "deep()": "RecursionError: maximum recursion depth exceeded",
    "raise MemoryError": "MemoryError",
    "raise Odd(1, 2)": "Odd: odd",
    "raise Beyond('far')": "Beyond: far",
    "{}['key']": "KeyError: 'key'",
    "raise StopIteration": "StopIteration",
    "raise BrokenPipeError(32, 'Broken pipe')": "BrokenPipeError: [Errno 32] Broken pipe",
}
PLACES = {"import": 10**9, "data": 10**9, "network": 10**9, "forward": 0, "later": 30}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_the_users_code_fails_by_file_and_line(monkeypatch, capsys, tmp_path, place, error):
    monkeypatch.chdir(tmp_path)
    text = FAILING.replace("WHAT", error).replace("LIMIT", str(PLACES[place]))
    Path("mine.py").write_text(text.replace("WHERE", repr(place)))
    Path("s.yaml").write_text("extends: adam-digits\nworkload: mine.py\n")
    code, _, err = call(monkeypatch, capsys, "run", "s.yaml", "--out", "run")
    assert code == (1 if place == "later" else 2), err
    last = err.splitlines()[-1]
    line = text.splitlines().index(f"def fail(): {error}") + 1
    line -= error == "deep()"
    assert re.search(rf"mine\.py:{line}: .*got {re.escape(ERRORS[error])}", last), err
    assert "Traceback" not in err
    if place == "later":
        run = Run.open("run")
        assert run.status == run.summary["status"] == "failed"
        assert run.manifest["reason"] in err
        assert 0 < len(run.steps) < 200
    else:
        assert not os.path.exists("run")


def test_a_network_that_fails_for_the_runs_seed_alone(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = FAILING.replace("WHAT", "sys.exit(0)").replace("LIMIT", "10**9")
    text = text.replace('if WHERE == "network"', "if torch.initial_seed() != FIRST[0]")
    text = text.replace("def network():", "FIRST = []\ndef network():")
    text = text.replace(
        "    if torch.init", "    FIRST.append(torch.initial_seed())\n    if torch.init"
    )
    Path("mine.py").write_text(text.replace("WHERE", "''"))
    Path("s.yaml").write_text("extends: adam-digits\nworkload: mine.py\nseed: 5\n")
    code, _, err = call(monkeypatch, capsys, "run", "s.yaml", "--out", "run")
    assert code == 2
    assert "mine.py:" in err.splitlines()[-1]
    assert Run.open("run").status == "failed"
