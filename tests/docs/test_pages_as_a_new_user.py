"""Pages for newcomers, followed to the letter: copy the files, type the commands, open what is
there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hybridsim

ROOT = Path(hybridsim.__file__).resolve().parent.parent
BLOCK = re.compile(r"`([\w.-]+\.(?:yaml|py))`(?:(?!```).)*?```(?:yaml|python)\n(.*?)```", re.S)
COMMAND = re.compile(r"^ {4}hybridsim (.*?)(?:\s+#.*)?$", re.M)


def follow(page: str, folder: Path, *added: str) -> str:
    """Write the files of a page, then run its commands in order; what was printed."""
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text())
    for name, content in BLOCK.findall(text):
        (folder / name).write_text(content)
    printed = ""
    for command in COMMAND.findall(text):
        words = shlex.split(command)
        words += added if words[0] == "run" else ()
        printed += call(words, folder)
    return printed


def call(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hybridsim", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_readme(tmp_path):
    """Shortened to two steps a run; `make run` has made the first run before."""
    call(["run", "kfac-digits", "--out", "runs/kfac-digits", "--set", "training.steps=2"], tmp_path)
    follow("README.md", tmp_path, "--set", "training.steps=2")
    assert hybridsim.load(tmp_path / "my.yaml").machine.spus.count == 8
    for path in ("mine/report.html", "comparison.html", "16/report.html", "gpt/report.html"):
        assert (tmp_path / "runs" / path).stat().st_size > 10_000


def test_the_readme_is_short():
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text())
    assert len(text.split()) <= 650, "read aloud at 130 words a minute it would take over five"


def test_bring_your_own_network(tmp_path):
    printed = follow("analysis/docs/pages/own-network.md", tmp_path)
    assert "rings.yaml: ok" in printed
    assert re.search(r"target +test_accuracy >= 0.95: step \d+", printed)
    assert (tmp_path / "runs/rings/report.html").stat().st_size > 10_000


def test_bring_your_own_part(tmp_path):
    printed = follow("analysis/docs/pages/own-part.md", tmp_path)
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
