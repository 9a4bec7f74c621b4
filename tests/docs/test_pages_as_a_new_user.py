"""Pages for newcomers, followed to the letter: copy the files, type the commands, open what is
there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import command
import pytest

import hybridsim

ROOT = Path(hybridsim.__file__).resolve().parent.parent
BLOCK = re.compile(r"`([\w.-]+\.(?:yaml|py))`(?:(?!```).)*?```(?:yaml|python)\n(.*?)```", re.S)
COMMAND = re.compile(r"^ {4}hybridsim (.*?)(?:\s+#.*)?$", re.M)


started: set[str] = set()
"""Commands that have been a process of their own."""


@pytest.fixture
def user(tmp_path, monkeypatch, capsys):
    """Someone in an empty folder, who types a command's words and gets what it prints.

    The first time a command is typed it is a process of its own, later it runs in this one: most of
    a process is the loading of torch.
    """
    monkeypatch.chdir(tmp_path)

    def types(*words: str) -> str:
        if words[0] in started:
            code, out, err = command.call(monkeypatch, capsys, *words)
        else:
            started.add(words[0])
            run = [sys.executable, "-m", "hybridsim", *words]
            done = subprocess.run(run, capture_output=True, text=True)
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{words}\n{out}{err}"
        return out

    return types


def follow(user, page: str, *added: str) -> str:
    """Write the files of a page, then type its commands in order; what was printed."""
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text())
    for name, content in BLOCK.findall(text):
        Path(name).write_text(content)
    printed = ""
    for line in COMMAND.findall(text):
        words = shlex.split(line)
        printed += user(*words, *(added if words[0] == "run" else ()))
    return printed


def test_the_readme(user, tmp_path):
    """Shortened to two steps a run; `make run` has made the first run before."""
    short = ("--set", "training.steps=2")
    user("run", "kfac-digits", "--out", "runs/kfac-digits", *short)
    follow(user, "README.md", *short)
    assert hybridsim.load(tmp_path / "my.yaml").machine.spus.count == 8
    for path in ("mine/report.html", "comparison.html", "16/report.html", "gpt/report.html"):
        assert (tmp_path / "runs" / path).stat().st_size > 10_000


def test_the_readme_is_short():
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text())
    assert len(text.split()) <= 650, "read aloud at 130 words a minute it would take over five"


def test_bring_your_own_network(user, tmp_path):
    printed = follow(user, "analysis/docs/pages/own-network.md")
    assert "rings.yaml: ok" in printed
    assert re.search(r"target +test_accuracy >= 0.95: step \d+", printed)
    assert (tmp_path / "runs/rings/report.html").stat().st_size > 10_000


def test_bring_your_own_part(user, tmp_path):
    """Shortened to ten steps a run."""
    printed = follow(user, "analysis/docs/pages/own-part.md", "--set", "training.steps=10")
    assert "fast.yaml: ok" in printed and "2 pJ/bit" in printed
    report = (tmp_path / "runs/fast/report.html").read_text()
    assert "our test chip, scaled" in report
    assert (tmp_path / "comparison.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", ["README.md", "analysis/docs/pages/use.md"])
def test_commands_exist(page):
    from typer.main import get_command

    from hybridsim.cli import app

    known = set(get_command(app).commands)
    named = {command.split()[0] for command in COMMAND.findall((ROOT / page).read_text())}
    assert named and named <= known
