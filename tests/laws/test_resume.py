"""A run that was left anywhere goes on to the digest of one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import PROGRAMS, changed
from shared_tasks import task_of
from typer.testing import CliRunner

import hybridsim
from hybridsim import checkpoints, simulate
from hybridsim.checkpoints import every_of, last_checkpoint
from hybridsim.cli import app
from hybridsim.errors import InputError
from hybridsim.files import DiskFailed
from hybridsim.operations.facts import FactStore
from hybridsim.operations.resumed import NotResumable, Resumable
from hybridsim.results.read import Run
from hybridsim.results.verify import verify

REPEATED = ["tngd-asynchronous", "kfac-stale"]


class Left(BaseException):
    """The process is gone: nothing is finished."""


class Power:
    """Cut after so many evaluations; ``seen`` counts those of numbers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left_after, self.seen = 10**9, 0
        self.live = 0
        evaluate, computed = Resumable.evaluate, Resumable.computed

        def counted(backend, *args, **kwargs):
            self.seen += 1
            if self.seen > self.left_after:
                raise KeyboardInterrupt
            return evaluate(backend, *args, **kwargs)

        def computes(backend, *args):
            self.live += 1
            return computed(backend, *args)

        monkeypatch.setattr(Resumable, "evaluate", counted)
        monkeypatch.setattr(Resumable, "computed", computes)

    def cut(self, after: int) -> None:
        self.left_after, self.seen, self.live = after, 0, 0


@pytest.fixture
def power(monkeypatch):
    return Power(monkeypatch)


def scenario(name: str):
    return hybridsim.load(PROGRAMS[name])


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_run_that_was_left_goes_on_to_the_bit(name, live, power, tmp_path):
    (whole, facts), folder = live(name), tmp_path / "run"
    loaded, random_ = scenario(name), random.Random(name)
    task = task_of(loaded)
    with closing(FactStore(facts, read_only=True)) as store:
        evaluations = store.check()  # a key that comes again counts once
    power.cut(random_.randrange(evaluations // 2, evaluations))
    with pytest.raises(KeyboardInterrupt):
        hybridsim.run(loaded, folder, checkpoint="1 steps", task=task)
    kept = last_checkpoint(folder)
    if kept is None:
        return
    for _ in range(2 if name in REPEATED else 0):  # left again, while it replays or later
        power.cut(random_.randrange(1, evaluations))
        with suppress(KeyboardInterrupt):
            simulate.resume(folder)
            break
    power.cut(10**9)
    if Run.open(folder).status != "complete":
        found = simulate.resume(folder)
        assert power.live < evaluations, "it goes on from the checkpoint"
        assert found.manifest["digest"] == whole.manifest["digest"]
    assert Run.open(folder).manifest["digest"] == whole.manifest["digest"]
    assert not any(verdict.wrong for verdict in verify(folder))


@pytest.mark.parametrize("form", ["streamed", "products"])
def test_rows_that_are_made_are_made_again(form, power, tmp_path):
    """Of a Jacobian that is not in memory nothing is kept in a checkpoint."""
    loaded = hybridsim.load(changed(PROGRAMS["tngd"], "host.jacobian", form))
    whole = hybridsim.run(loaded, tmp_path / "whole", checkpoint="1 steps")
    power.cut(power.seen - 3)
    with pytest.raises(KeyboardInterrupt):
        hybridsim.run(loaded, tmp_path / "run", checkpoint="1 steps")
    power.cut(10**9)
    assert simulate.resume(tmp_path / "run").manifest["digest"] == whole.manifest["digest"]


@pytest.fixture
def left(power, tmp_path):
    """A run that was left after its second step, and its power."""
    hybridsim.run(scenario("tngd"), tmp_path / "whole", checkpoint="1 steps")
    power.cut(power.seen - 12)
    with pytest.raises(KeyboardInterrupt):
        hybridsim.run(scenario("tngd"), tmp_path / "run", checkpoint="1 steps")
    power.cut(10**9)
    return tmp_path / "run"


def test_what_is_damaged_is_refused_and_the_run_before_it_stays(left):
    last = left / checkpoints.CHECKPOINT
    values = sorted(last.parent.glob("*.safetensors"))
    assert len(values) == 2, "the last two are kept"
    content = values[-1].read_bytes()
    values[-1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    steps = len(Run.open(left).steps)
    with pytest.raises(InputError, match="expected the values as the run wrote them"):
        simulate.resume(left)
    assert [verdict.what for verdict in verify(left) if verdict.wrong] == ["checkpoint"]
    values[-1].write_bytes(content)
    text = last.read_text()
    last.write_text("{")
    with pytest.raises(InputError, match=r"last\.json: expected a checkpoint"):
        simulate.resume(left)
    last.write_text(json.dumps(json.loads(text) | {"evaluations": "many"}))
    with pytest.raises(InputError, match="evaluations: expected a whole number, got 'many'"):
        simulate.resume(left)
    last.write_text(json.dumps(json.loads(text) | {"numerics": "00"}))
    with pytest.raises(NotResumable, match="code, libraries and processor"):
        simulate.resume(left)
    last.write_text(text)
    assert not any(verdict.wrong for verdict in verify(left))
    assert len(Run.open(left).steps) == steps
    assert simulate.resume(left).status == "complete"
    with pytest.raises(InputError, match="got one that is complete"):
        simulate.resume(left)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_byte_that_changed_is_an_error_or_changes_nothing(left, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(left, folder)
    last = folder / checkpoints.CHECKPOINT
    file = data.draw(st.sampled_from([last, folder / "facts.sqlite", *last.parent.glob("*.safe*")]))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        found = simulate.resume(folder)
    except hybridsim.HybridsimError:
        return
    assert found.manifest["digest"] == Run.open(left.parent / "whole").manifest["digest"]


def test_other_facts_than_were_found_before_are_an_error(left, monkeypatch):
    """This computer finds others: it must not go on as if nothing were."""
    computed = Resumable.computed

    def otherwise(backend, computation, values, exact):
        value, facts = computed(backend, computation, values, exact)
        return value, {name: fact + 1e-9 for name, fact in facts.items()}

    monkeypatch.setattr(Resumable, "computed", otherwise)
    with pytest.raises(NotResumable, match="this computer computes otherwise"):
        simulate.resume(left)


def test_a_run_without_checkpoints_or_under_way_is_not_gone_on_with(tmp_path):
    hybridsim.run(scenario("adam"), tmp_path / "run")
    with pytest.raises(InputError, match="got no checkpoint"):
        simulate.resume(tmp_path / "run")
    with pytest.raises(InputError, match="expected a live run without --facts"):
        hybridsim.run(scenario("adam"), tmp_path / "a", checkpoint="1 steps", backend="timing")
    for text in ("0 steps", "x", "3 kg", "-1 s"):
        with pytest.raises(InputError, match="--checkpoint: expected"):
            every_of(text)
    assert (every_of("50 steps").steps, every_of("5 min").seconds) == (50, 300.0)


def test_a_new_run_in_the_folder_has_no_checkpoint_of_the_old_one(left):
    with pytest.raises(InputError, match=f"hybridsim resume {left} goes on with"):
        hybridsim.run(scenario("tngd"), left)
    hybridsim.run(scenario("tngd"), left, force=True, backend="timing")
    assert last_checkpoint(left) is None


@pytest.mark.parametrize("how", ["anew", "gone on with"])
def test_values_that_a_run_before_left_do_not_drive_out_its_own(left, how):
    """Those of later steps: of a longer run, or of checkpoints that were not completed."""
    values = (left / checkpoints.CHECKPOINT).parent
    for step in (998, 999):
        (values / f"{step:09d}.safetensors").write_bytes(b"nobody's")

    def leave(line):
        if line["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        if how == "anew":
            hybridsim.run(scenario("tngd"), left, checkpoint="1 steps", force=True, progress=leave)
        else:
            simulate.resume(left, progress=leave)
    assert len(list(values.glob("*.safetensors"))) == 2
    assert not any(verdict.wrong for verdict in verify(left))
    whole = Run.open(left.parent / "whole").manifest["digest"]
    assert simulate.resume(left).manifest["digest"] == whole


def test_a_disk_that_is_full_costs_a_checkpoint_and_not_the_run(monkeypatch, tmp_path, live):
    def full(path, values):
        raise DiskFailed(f"{path}: could not be written: No space left on device")

    monkeypatch.setattr(checkpoints, "write_values", full)
    found = hybridsim.run(scenario("tngd"), tmp_path / "run", checkpoint="1 steps")
    assert found.manifest["digest"] == live("tngd")[0].manifest["digest"]
    told = found.summary["host"]["checkpoints"]
    assert told["number"] == 0 and "No space left" in told["failure"]


def test_a_process_that_is_killed_is_gone_on_with_by_the_command_line(tmp_path):
    long = changed(changed(PROGRAMS["tngd-asynchronous"], "training.steps", 90), "seed", 5)
    file, folder = tmp_path / "long.yaml", tmp_path / "run"
    file.write_text(hybridsim.load(long).to_yaml())
    words = ["run", str(file), "--out", str(folder), "--checkpoint", "5 steps"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridsim", *words], stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    deadline = time.monotonic() + 120
    while last_checkpoint(folder) is None:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    refused = CliRunner().invoke(app, ["resume", str(folder)])
    assert isinstance(refused.exception, InputError) and "running" in str(refused.exception)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Run.open(folder).status == "died"
    done = CliRunner().invoke(app, ["resume", str(folder)])
    assert done.exit_code == 0, done.output
    whole = hybridsim.run(hybridsim.load(long), tmp_path / "whole")
    assert Run.open(folder).manifest["digest"] == whole.manifest["digest"]
