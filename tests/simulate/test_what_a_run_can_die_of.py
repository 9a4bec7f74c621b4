"""A run that cannot go on says why, keeps what it had, and never calls itself complete."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hybridsim
from hybridsim.errors import HybridsimError, InputError
from hybridsim.results.listing import listed
from hybridsim.results.read import Run
from hybridsim.results.verify import verify
from hybridsim.results.write import RunWriter, Superseded
from hybridsim.trace.spans import Rows

SMALL = {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}}


def scenario(algorithm, **changes):
    machine = {
        "gpu": "a100-sxm4-80gb",
        "link": "paper-50gbps",
        "spus": {"count": 1, "part": "rc-1us", "imperfections": "ideal"},
    }
    training = {
        "batch_size": 4,
        "steps": 5,
        "evaluate_every": 2,
        "algorithm": algorithm,
    } | changes.pop("training", {})
    document = {"name": "t", "seed": 3, "workload": SMALL, "training": training, "machine": machine}
    return hybridsim.load(document | changes)


DEADLY = {
    "sgd": {"kind": "sgd", "learning_rate": 1e30},
    "adam": {"kind": "adam", "learning_rate": 1e38},
    "tngd": {"kind": "tngd", "learning_rate": 1e25},
    "tngd long": {"kind": "tngd", "settle": "1e13 tau"},
}


@pytest.mark.parametrize("name", sorted(DEADLY))
def test_a_run_that_cannot_go_on_fails_by_name_and_keeps_its_results(tmp_path, name):
    asked = scenario(DEADLY[name], training={"steps": 60})
    with pytest.raises(HybridsimError):
        hybridsim.run(asked, tmp_path / "run")
    if (tmp_path / "run").exists():
        run = Run.open(tmp_path / "run")
        assert run.status == "failed"
        assert run.manifest["reason"]
        assert run.summary["status"] == "failed"


@pytest.mark.parametrize("backend", ["live", "timing"])
def test_a_settle_beyond_the_clock_keeps_what_was_done(tmp_path, backend):
    """Each step settles for a week, or as long as a double can say: the last step is missing."""
    asked = scenario({"kind": "tngd", "settle": "6.0e11 tau"}, training={"steps": 60})
    with pytest.raises(HybridsimError, match=r"spu0: 'settle' of step 16 takes 600 ks and would"):
        hybridsim.run(asked, tmp_path / "run", backend=backend)
    run = Run.open(tmp_path / "run")
    assert run.status == run.summary["status"] == "failed"
    assert "the clock ends at 9.22 Ms (106 days)" in run.manifest["reason"]
    assert len(run.steps) == run.summary["steps"] == 15
    assert 15 * 600_000 < run.summary["simulated_s"] < 2**63 * 1e-12
    assert (run.spans["kind"] == "settle").sum() == 15


def test_a_dead_layer_does_not_stop_kfac(tmp_path):
    """A factor that is exactly zero has no pi; the split of the damping falls back to equal
    parts."""
    algorithm = {"kind": "kfac", "learning_rate": 0.01, "damping": 0.1}
    document = {"source": "digits_mlp", "options": {"hidden": 1, "depth": 3}}
    asked = scenario(algorithm, workload=document, training={"batch_size": 1, "steps": 12})
    assert hybridsim.run(asked, tmp_path / "run").status == "complete"


def test_diagnostics_decide_nothing(tmp_path):
    """Even where the exact solve is singular or overflows, training goes on as it does
    unobserved."""
    algorithm = {"kind": "tngd", "learning_rate": 1000}
    workload = {"source": "digits_mlp", "options": {"hidden": 8, "depth": 2}}
    losses = []
    for every in (1, 1000):
        asked = scenario(
            algorithm,
            workload=workload,
            training={"steps": 40, "evaluate_every": every, "batch_size": 32},
        )
        losses.append(hybridsim.run(asked, tmp_path / str(every)).steps.train_loss.tolist())
    assert losses[0] == losses[1]


def test_a_folder_taken_over_by_another_run_stops_the_first(tmp_path):
    first = RunWriter(tmp_path / "run")
    RunWriter(tmp_path / "run", force=True)
    with pytest.raises(Superseded, match="another run"):
        first.write(Rows(steps=[{"step": 1, "start_ps": 0, "end_ps": 1}]))
    with pytest.raises(Superseded, match="another run"):
        first.finish({"status": "complete"}, [], {})


@pytest.mark.parametrize("place", ["file/below", "/proc/nowhere/run"])
def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file")
    with pytest.raises(InputError, match="expected a folder that can be written"):
        hybridsim.run(scenario({"kind": "sgd", "learning_rate": 0.1}), place)


def test_a_damaged_part_is_named(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.write(Rows(steps=[{"step": 1, "start_ps": 0, "end_ps": 1}]))
    part = next((tmp_path / "run" / "steps").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-00000.parquet: expected a whole parquet file"):
        _ = Run.open(tmp_path / "run").steps


def damaged_store(path: Path) -> Path:
    """A store whose header is whole and whose pages are not."""
    hybridsim.run(scenario({"kind": "tngd"}), path.parent / "filled", facts=path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    return path


def test_a_damaged_fact_store_costs_a_live_run_its_facts_and_nothing_else(tmp_path):
    store = damaged_store(tmp_path / "facts.sqlite")
    run = hybridsim.run(scenario({"kind": "tngd"}), tmp_path / "live", facts=store)
    assert run.status == "complete"
    assert "could not be stored" in run.summary["host"]["facts_failure"]
    with pytest.raises(InputError, match="expected a whole fact store"):
        hybridsim.run(
            scenario({"kind": "tngd"}), tmp_path / "replay", facts=store, backend="replay"
        )


def killed(tmp_path: Path, with_signal: int) -> subprocess.Popen[str]:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "hybridsim", "run", "tngd-digits", "--out", str(folder),
        "--backend", "timing",
               "--set", "training.steps=100000000"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while len(list(folder.glob("steps/part-*.parquet"))) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(with_signal)
    process.communicate(timeout=60)
    return process


def test_the_energy_of_a_killed_run_includes_static_power(tmp_path):
    killed(tmp_path, signal.SIGKILL)
    run = Run.open(tmp_path / "run")
    assert run.status == "died" and run.status_text == f"died at step {len(run.steps):,}"
    assert {row["status"] for row in listed(tmp_path)} == {"died"}
    assert not any(verdict.wrong for verdict in verify(tmp_path / "run"))
    assert run.summary["energy"]["static_share"] > 0.5
    assert run.summary["energy"]["total"]["energy_j"] == pytest.approx(
        run.steps.energy_j.max(), rel=1e-3
    )


def test_a_scheduler_that_stops_a_run_leaves_it_interrupted(tmp_path):
    assert killed(tmp_path, signal.SIGTERM).returncode == 130
    assert Run.open(tmp_path / "run").status == "interrupted"
