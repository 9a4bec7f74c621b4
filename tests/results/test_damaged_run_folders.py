"""A run folder is read as it was written, or not at all: every byte that changed is named."""

from __future__ import annotations

import json
import shutil

import pytest
from command import call
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import InputError
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter
from hybridsim.trace.spans import Rows

FILES = ("manifest.json", "scenario.yaml", "summary.json", "spans.parquet", "steps.parquet",
         "events.parquet", "requests.parquet")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    small = ["training.steps=3", "workload.options.channels=2", "training.batch_size=4"]
    hybridsim.run(hybridsim.load("tngd-digits", small), folder, backend="timing")
    return folder


def read_all(folder):
    run = Run.open(folder)
    return run.scenario_text, run.summary, run.spans, run.steps, run.events, run.requests


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(FILES[1:]))
def test_a_changed_byte_of_any_file_is_found(finished, tmp_path_factory, data, name):
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("run") / "run")
    content = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    kept = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kept == "flip":
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        content[place:] = b"" if kept == "cut" else b"x" + content[place:]
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(InputError, match=f"{name}: expected the file that the run wrote"):
        read_all(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["report", "timeline", "compare"])
def test_a_missing_file_is_a_mistake_where_it_is_needed(monkeypatch, capsys, copy, name, command):
    (copy / name).unlink()
    out = () if command == "report" else ("--out", copy / "page")
    code, _, err = call(monkeypatch, capsys, command, copy, *out)
    assert (code, err.count("\n")) in ((2, 1), (0, 0))
    assert code == 0 or f"{copy}" in err
    with pytest.raises(InputError):
        read_all(copy)


CHANGES = {
    "seed": '"0"', "status": '"done"', "digest": "7", "schema_version": "99", "name": "[]",
    "backend": '"live"', "static_power": "[{}]", "machine": '{"nodes": [{}]}',
    "model_assumptions": "{}",
    "versions": "null", "hashes": "[]", "files_sha256": "{}", "format": '"hybridsim run folder 3"',
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_manifest_is_found(monkeypatch, capsys, copy, key):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    assert key in manifest
    manifest[key] = json.loads(CHANGES[key])
    path.write_text(json.dumps(manifest))
    code, _, err = call(monkeypatch, capsys, "report", copy)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"hybridsim: {path}: ")


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_part_of_an_unfinished_run_is_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    writer = RunWriter(folder)
    steps = [{"step": n, "start_ps": n, "end_ps": n + 1, "train_loss": n / 7} for n in range(99)]
    writer.write(Rows(steps=steps))
    part = folder / "steps" / "part-00000.parquet"
    content = part.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    changed = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
    part.write_bytes(data.draw(st.sampled_from([changed, content[:place]])))
    before = [row["train_loss"] for row in steps]
    try:
        found = Run.open(folder).steps
    except InputError as error:
        assert "part-00000.parquet: " in str(error)
    else:  # what a reader does not look at
        assert found["train_loss"].tolist() == before
