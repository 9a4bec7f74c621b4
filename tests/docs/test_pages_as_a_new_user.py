"""Pages for newcomers, followed to the letter: copy the files, type the commands, open what is
there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import command
import pytest

import hybridsim

ROOT = Path(hybridsim.__file__).resolve().parent.parent
BLOCK = re.compile(r"`([\w.-]+\.(?:yaml|py))`(?:(?!```).)*?```(?:yaml|python)\n(.*?)```", re.S)
COMMAND = re.compile(r"^ {4}hybridsim (.*?)(?:\s+#.*)?$", re.M)


SHORT = {
    "run": ["--set", "training.steps=2"],
    "study": [
        *("--set", "set.training.steps=2", "--set", "gate.solver_error=2", "--set", "seeds=1"),
        *("--set", "question.draws=10", "--set", "question.measures=[step_seconds]"),
    ],
}
"""What makes the README's commands quick."""
started: list[str] = []
"""Commands that have been typed."""


@pytest.fixture
def user(tmp_path, monkeypatch, capsys):
    """Someone in an empty folder, who types a command's words and gets what it prints.

    The first one is a process of its own, later ones run in this one: most of a process is the
    loading of torch.
    """
    monkeypatch.chdir(tmp_path)

    def types(*words: str) -> str:
        if started:
            code, out, err = command.call(monkeypatch, capsys, *words)
        else:
            run = [sys.executable, "-m", "hybridsim", *words]
            done = subprocess.run(run, capture_output=True, text=True)
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{words}\n{out}{err}"
        started.append(words[0])
        return out

    return types


def follow(user, page: str, added: Mapping[str, Sequence[str]]) -> str:
    """Write the files of a page, then type its commands in order; what was printed.

    ``added``: further words by command.
    """
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text())
    for name, content in BLOCK.findall(text):
        Path(name).write_text(content)
    printed = ""
    for line in COMMAND.findall(text):
        words = shlex.split(line)
        printed += user(*words, *added.get(words[0], ()))
    return printed


def test_the_readme(user, tmp_path):
    """Shortened to two steps a run; `make run` has made the first run before."""
    user("run", "kfac-digits", "--out", "runs/kfac-digits", *SHORT["run"])
    follow(user, "README.md", SHORT)
    assert hybridsim.load(tmp_path / "my.yaml").machine.spus.count == 8
    for path in ("mine", "one-fast-spu", "16", "gpt"):
        assert (tmp_path / "runs" / path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "runs/comparison.html").stat().st_size > 10_000


def test_the_readme_is_short():
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text())
    assert len(text.split()) <= 650, "read aloud at 130 words a minute it would take over five"


def test_bring_your_own_network(user, tmp_path):
    printed = follow(user, "analysis/docs/pages/own-network.md", {})
    assert "rings.yaml: ok" in printed
    assert re.search(r"target +test_accuracy >= 0.95: step \d+", printed)
    assert (tmp_path / "runs/rings/report.html").stat().st_size > 10_000


def test_bring_your_own_part(user, tmp_path):
    """Shortened to ten steps a run."""
    printed = follow(
        user, "analysis/docs/pages/own-part.md", {"run": ["--set", "training.steps=10"]}
    )
    assert "fast.yaml: ok" in printed and "2 pJ/bit" in printed
    report = (tmp_path / "runs/fast/report.html").read_text()
    assert "our test chip, scaled" in report
    assert (tmp_path / "comparison.html").stat().st_size > 10_000


def test_the_guide_of_studies(user, tmp_path):
    """Shortened to two steps a run, of which nothing but the schedule is asked."""
    words = ("set.training.steps=2", "gate.solver_error=2", "question.measure=step_seconds")
    added = [word for text in words for word in ("--set", text)]
    printed = follow(user, "analysis/docs/pages/studies.md", {"study": added})
    assert "12 points, 8 distinct runs; 8 live runs expected" in printed
    assert "(8 in the folder); nothing is left to run" in printed
    assert re.search(r"beats \w+ in seconds a step", printed)
    assert (tmp_path / "runs/links/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", ["README.md", "analysis/docs/pages/use.md"])
def test_commands_exist(page):
    from typer.main import get_command

    from hybridsim.cli import app

    known = set(get_command(app).commands)
    named = {command.split()[0] for command in COMMAND.findall((ROOT / page).read_text())}
    assert named and named <= known
