"""Scenarios, datasheets and run folders that are there need no torch."""

from __future__ import annotations

import os
import subprocess
import sys

import without_torch

import hybridsim

SMALL = [
    "workload={source: digits_mlp, options: {hidden: 3, depth: 1}}",
    "training.batch_size=4",
    "training.steps=3",
]


def test_what_only_reads_does_without_it(tmp_path):
    run, out = str(tmp_path / "run"), tmp_path / "out"
    hybridsim.run(hybridsim.load("tngd-digits", SMALL), run)
    words = [sys.executable, without_torch.__file__, str(out), run, run]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "first" in done.stdout and "complete" in done.stdout
    texts = {name: (out / f"{name}.txt").read_text() for name in without_torch.TEXTS}
    assert all(texts.values())
    assert "digest: " in texts["verify"] and "WRONG" not in texts["verify"]
    pages = ("report.html", "timeline.html", "timeline.pftrace", "timeline.json")
    assert all((out / "first" / page).stat().st_size > 1000 for page in pages)
    assert (out / "comparison.html").stat().st_size > 1000


def test_what_computes_says_what_is_missing(tmp_path):
    code = (
        "import sys, without_torch as w; sys.meta_path.insert(0, w.Refuse()); w.call(*sys.argv[1:])"
    )
    place = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "kfac-gpt", "--backend", "timing"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | place,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hybridsim: torch: expected to be installed")
    assert done.stderr.count("\n") == 1
