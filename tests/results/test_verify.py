"""What is amiss in a run folder is found and named; what is whole is said to be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import hybridsim
from hybridsim.cli import app
from hybridsim.errors import InputError
from hybridsim.files import DiskFailed
from hybridsim.results import write
from hybridsim.results.alive import is_gone, this_process
from hybridsim.results.digest import run_digest
from hybridsim.results.integrity import FILES, OWN, file_sha256, manifest_sha256
from hybridsim.results.listing import listed
from hybridsim.results.read import Run
from hybridsim.results.verify import verify

SMALL = [
    "workload={source: digits_mlp, options: {hidden: 3, depth: 1}}",
    "training={batch_size: 4, steps: 3, evaluate_every: 2, algorithm: {kind: tngd, settle: 5 tau}}",
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    hybridsim.run(hybridsim.load("tngd-digits", SMALL), folder)
    return folder


def wrong(folder) -> list[str]:
    return [verdict.what for verdict in verify(folder) if verdict.wrong]


def sign(folder, **changes) -> None:
    """Make the manifest fit the files again, as somebody would who wants to be believed."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    manifest[FILES] = {name: file_sha256(folder / name) for name in manifest[FILES]}
    manifest[OWN] = manifest_sha256(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_is_what_it_says(kept):
    assert wrong(kept) == []
    assert [verdict.what for verdict in verify(kept)][-3:] == ["digest", "books", "critical path"]
    said = CliRunner().invoke(app, ["verify", str(kept)])
    assert said.exit_code == 0 and "digest: " in said.output


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_byte_that_changed_is_found_in_its_file(kept, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(kept, folder)
    names = sorted(json.loads((kept / "manifest.json").read_text())[FILES])
    file = folder / data.draw(st.sampled_from([*names, "manifest.json"]))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    if file.name != "manifest.json":
        assert wrong(folder) == [file.name]
    elif json_of(bytes(content)) == json_of((kept / "manifest.json").read_bytes()):
        assert wrong(folder) == []  # white space between its entries says nothing
    else:
        with pytest.raises(InputError, match=r"manifest\.json"):
            verify(folder)


def json_of(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_a_summary_that_was_made_up_and_signed_is_found_by_digest_and_books(kept, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(kept, folder)
    summary = json.loads((folder / "summary.json").read_text())
    summary["energy"]["total"]["energy_j"] /= 2
    (folder / "summary.json").write_text(json.dumps(summary))
    sign(folder)
    assert wrong(folder) == ["digest", "books"]
    sign(folder, digest=run_digest(folder, summary))
    assert wrong(folder) == ["books"]
    said = CliRunner().invoke(app, ["verify", str(folder)])
    assert "books: WRONG: summary.json: energy: expected what the tables say" in said.output


def test_a_process_is_told_from_others_with_its_number():
    mine = this_process()
    assert is_gone(mine) is False
    assert is_gone(mine | {"started": mine["started"] - 1}) is True
    assert is_gone(mine | {"boot": "another"}) is True
    assert is_gone(mine | {"machine": "another"}) is None
    assert is_gone(mine | {"space": "pid:[1]"}) is None
    code = "import json, hybridsim.results.alive as a; print(json.dumps(a.this_process()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_gone(json.loads(other.stdout)) is True


def test_a_folder_that_is_being_written_is_running_and_its_process_may_end(tmp_path):
    writer = write.RunWriter(tmp_path / "run")
    assert Run.open(tmp_path / "run").status == "running"
    assert listed(tmp_path)[0]["status"] == "running"
    writer._process |= {"started": 1}
    writer.manifest({"status": "running"})
    assert Run.open(tmp_path / "run").status_text == "died at step 0"
    (tmp_path / "run" / "manifest.json").write_text('{"format": "hybridsim run folder 2"')
    assert listed(tmp_path) == []


def test_signals_wait_until_the_folder_is_complete(tmp_path, monkeypatch):
    """Ctrl-C twice in the midst of finishing."""
    merge, sent = write.merge_parts, []

    def interrupted(folder, name):
        sent.append(os.kill(os.getpid(), signal.SIGINT))
        merge(folder, name)

    monkeypatch.setattr(write, "merge_parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hybridsim.run(hybridsim.load("tngd-digits", SMALL), tmp_path / "run")
    assert len(sent) == 4 and Run.open(tmp_path / "run").status == "complete"
    assert wrong(tmp_path / "run") == []


def test_a_disk_that_fills_up_in_the_end_is_said(tmp_path, monkeypatch):
    def full(folder, name):
        raise DiskFailed(f"{folder / name}: could not be written: No space left on device")

    monkeypatch.setattr(write, "merge_parts", full)
    with pytest.raises(hybridsim.HybridsimError, match="could not be completed.*No space"):
        hybridsim.run(hybridsim.load("tngd-digits", SMALL), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.status == "failed" and "No space left" in run.manifest["reason"]
    assert len(run.steps) == 3 and wrong(tmp_path / "run") == []
