"""The command line as a user types it: exit codes, messages, what stays on disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import call

from hybridsim.results.read import Run

SMALL = [
    "--set", "training.steps=3", "--set", "training.batch_size=4", "--set",
        "workload.options.hidden=6",
    "--set", "workload.options.channels=2",
]  # fmt: skip


MSE = """
import torch
from torch import nn
from hybridsim.tasks.task import Data, Workload
def build():
    x = torch.randn(60, 3)
    data = Data(x[:40], x[:40, :1], x[40:], x[40:, :1])
    return Workload(network=lambda: nn.Linear(3, 1), data=data, loss="mse")
"""


def test_run_writes_the_folder_and_prints_one_table(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "run"
    code, out, err = call(monkeypatch, capsys, "run", "tngd-digits", "--out", folder, *SMALL)
    assert code == 0, err
    assert {p.name for p in folder.iterdir()} == {
        "scenario.yaml", "manifest.json", "steps.parquet", "spans.parquet", "events.parquet",
            "requests.parquet", "summary.json",
        "report.html",
    }  # fmt: skip
    assert out.count("\n") >= 8
    assert str(folder) in out
    assert re.search(r"energy +\S+ m?J \(\S+ m?J to \S+ m?J\)", out), "no energy without its band"
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"


def test_nothing_is_overwritten_without_force(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "run"
    words = ("run", "tngd-digits", "--out", folder, "--backend", "timing", *SMALL)
    assert call(monkeypatch, capsys, *words)[0] == 0
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert "--force" in err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert call(monkeypatch, capsys, *words, "--force")[0] == 0


def test_force_never_deletes_what_is_not_a_run(monkeypatch, capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    code, _, err = call(
        monkeypatch, capsys, "run", "tngd-digits", "--out", tmp_path, "--force", *SMALL
    )
    assert code == 2
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert "expected an empty folder or a run folder" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "no-such-scenario"], "expected a shipped scenario"),
        (["check", "tngd-digits", "--set", "machine.link.bandwidth=50"], "bare number"),
        (["run", "tngd-digits", "--backend", "quick"], "expected live, timing or replay"),
        (["run", "tngd-digits", "--backend", "replay"], "expected an existing fact store"),
        (
            ["run", "tngd-digits", "--backend", "replay", "--facts", "nothing.sqlite"],
            "expected an existing fact store",
        ),
        (["run", "tngd-digits", "--set", "training.batch_size=100000"], "training.batch_size"),
        (["run", "mse.yaml"], "expected test_loss"),
        (["compare", "run", "--out", "nowhere/page.html"], "expected a run folder"),
        (["parts", "spu.yaml"], "adc_rate"),
        (["parts", "missing.yaml"], "expected a datasheet file"),
        (["run"], "Missing argument"),
        (["nonsense"], "nonsense"),
        (["report", "no/such/folder"], "expected a run folder"),
        (["compare", "no/such/folder"], "expected a run folder"),
        (["parts", "a100"], "a100"),
        (["run", "mnist-tngd", "--data", "no/such/folder"], "mnist"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(monkeypatch, capsys, tmp_path, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mse.py").write_text(MSE)
    (tmp_path / "mse.yaml").write_text("extends: tngd-digits\nworkload: mse.py\n")
    (tmp_path / "spu.yaml").write_text(
        "kind: spu\nextends: rc-1us\nconstants:\n  adc_rate: {value: 1 s, low: 1 s, high: 1 s, "
        "status: assumed, source: me}\n"
    )
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err


def test_a_run_that_diverges_fails_with_code_1_and_keeps_its_results(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "run"
    words = [
        "run",
        "adam-digits",
        "--out",
        folder,
        "--set",
        "training.algorithm={kind: sgd, learning_rate: 1e30}",
    ]
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 1
    assert "training loss" in err
    run = Run.open(folder)
    assert run.status == "failed"
    assert len(run.steps) >= 1
    assert "non-finite" in set(run.events.kind)


def test_replay_from_the_command_line(monkeypatch, capsys, tmp_path):
    facts = tmp_path / "facts.sqlite"
    live = ("run", "tngd-digits", "--out", tmp_path / "live", "--facts", facts, *SMALL)
    again = (
        "run",
        "tngd-digits",
        "--out",
        tmp_path / "replay",
        "--facts",
        facts,
        "--backend",
        "replay",
        *SMALL,
    )
    assert call(monkeypatch, capsys, *live)[0] == 0
    code, out, _ = call(monkeypatch, capsys, *again)
    assert code == 0
    assert "replay" in out
    digests = [Run.open(tmp_path / name).manifest["digest"] for name in ("live", "replay")]
    assert digests[0] == digests[1]


def test_check_says_what_has_no_effect(monkeypatch, capsys):
    words = ("check", "tngd-digits", "--set", "training.algorithm.readout.spacing=2 tau")
    code, out, _ = call(monkeypatch, capsys, *words)
    assert code == 0
    assert "unused: training.algorithm.readout.spacing" in out


def test_check_draws_nothing():
    code = (
        "import sys\nfrom hybridsim import cli\nsys.argv = ['hybridsim', 'check', 'adam-digits']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print([m for m in ('plotly',) if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-2:] == ["adam-digits: ok", "[]"]


def test_parts_are_listed_shown_and_compared(monkeypatch, capsys):
    assert "a100-sxm4-80gb" in call(monkeypatch, capsys, "parts")[1]
    assert "assumed" in call(monkeypatch, capsys, "parts", "rc-1us")[1]
    assert "ratio" in call(monkeypatch, capsys, "parts", "a100-sxm4-80gb", "h100-sxm5-80gb")[1]


def test_compare_overlays_runs(monkeypatch, capsys, tmp_path):
    for name in ("tngd-digits", "adam-digits"):
        assert call(monkeypatch, capsys, "run", name, "--out", tmp_path / name, *SMALL)[0] == 0
    page = tmp_path / "both.html"
    folders = (tmp_path / "tngd-digits", tmp_path / "adam-digits")
    code, out, _ = call(monkeypatch, capsys, "compare", *folders, "--out", page)
    assert code == 0
    assert page.stat().st_size > 10_000
    assert "TNGD on digits" in out


def test_timelines_of_every_format(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "run"
    assert (
        call(
            monkeypatch,
            capsys,
            "run",
            "tngd-digits",
            "--out",
            folder,
            "--backend",
            "timing",
            *SMALL,
        )[0]
        == 0
    )
    for form, size in (("html", 1_000_000), ("perfetto", 1_000), ("chrome", 1_000)):
        file = tmp_path / form
        assert (
            call(monkeypatch, capsys, "timeline", folder, "--format", form, "--out", file)[0] == 0
        )
        assert file.stat().st_size > size
    assert call(monkeypatch, capsys, "timeline", folder, "--format", "picture")[0] == 2
    assert call(monkeypatch, capsys, "timeline", folder, "--step", "99")[0] == 2
    assert (
        call(monkeypatch, capsys, "timeline", folder, "--step", "1", "--format", "chrome")[0] == 2
    )


def started(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A long timing-only run in a process of its own, once it has written a part."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "hybridsim", "run", "tngd-digits", "--out", str(folder),
        "--backend", "timing",
               "--set", "training.steps=100000000", *words]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("steps/part-*.parquet")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no part was written"
        time.sleep(0.05)
    return process


def test_a_killed_run_leaves_readable_parts(tmp_path, monkeypatch, capsys):
    process = started(tmp_path)
    process.kill()
    process.wait()
    run = Run.open(tmp_path / "run")
    assert run.status == "died"
    assert len(run.spans) > len(run.steps) > 100
    assert run.summary["energy"]["total"]["energy_j"] > 0
    assert call(monkeypatch, capsys, "report", tmp_path / "run")[0] == 0


def test_an_interrupted_run_says_so_and_keeps_its_results(tmp_path):
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    run = Run.open(tmp_path / "run")
    assert run.status == "interrupted"
    assert run.summary["spans"] > 1_000
    assert len(run.spans) == run.summary["spans"]
