"""Interrupts, and streams that take no more: one message, the right exit code, and files that are
whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import call

import hybridsim
from hybridsim.errors import HybridsimError
from hybridsim.files import whole_file, write_whole
from hybridsim.results.read import Run

AT = """
import os, signal, sys
moment, which = sys.argv.pop(1), getattr(signal, sys.argv.pop(1))
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), which)
def interrupted(number, real=os.fsync):
    real(number)
    os.kill(os.getpid(), which)
if moment == "the last byte":
    os.fsync = interrupted
sys.meta_path.insert(0, Finder)
from hybridsim.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    small = ["training.steps=3", "workload.options.channels=2", "training.batch_size=4"]
    hybridsim.run(hybridsim.load("tngd-digits", small), folder, backend="timing")
    return folder


def interrupted(
    moment: str, *words: object, by: str = "SIGINT"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AT, moment, by, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("typer", ("parts",)),
        ("pydantic", ("check", "tngd-digits")),
        ("torch", ("run", "tngd-digits", "--out", "{out}")),
        ("hybridsim.algorithms.loop", ("run", "tngd-digits", "--out", "{out}")),
        ("pandas", ("report", "{run}")),
        ("plotly", ("timeline", "{run}", "--out", "{out}")),
        ("the last byte", ("timeline", "{run}", "--out", "{out}")),
        ("the last byte", ("timeline", "{run}", "--format", "perfetto", "--out", "{out}")),
        ("the last byte", ("timeline", "{run}", "--format", "chrome", "--out", "{out}")),
        ("the last byte", ("compare", "{run}", "--out", "{out}")),
    ],
)
def test_an_interrupt_ends_any_command_with_130_and_one_line(tmp_path, run_folder, moment, words):
    out = tmp_path / "out"
    done = interrupted(moment, *(word.format(run=run_folder, out=out) for word in words))
    assert (done.returncode, done.stderr) == (130, "hybridsim: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_a_scheduler_stops_a_command_as_a_user_does(run_folder):
    done = interrupted("pandas", "report", run_folder, by="SIGTERM")
    assert (done.returncode, done.stderr) == (130, "hybridsim: interrupted\n")


def test_an_interrupt_that_is_raised_is_none_of_success(monkeypatch, capsys, run_folder):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hybridsim.reports.report.write_report", interrupt)
    code, _, err = call(monkeypatch, capsys, "report", run_folder)
    assert (code, err) == (130, "hybridsim: interrupted\n")


@pytest.mark.parametrize("before", [None, b"the page of yesterday"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError(28, "full"), ValueError])
def test_a_file_is_whole_or_absent_whatever_stops_its_writer(tmp_path, before, stop):
    path = tmp_path / "page.html"
    if before is not None:
        path.write_bytes(before)
    expected = HybridsimError if isinstance(stop, OSError) else stop
    with pytest.raises(expected), whole_file(path) as file:
        file.write(b"half of")
        raise stop
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["page.html"])
    assert before is None or path.read_bytes() == before


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "page")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page").read_text() == "text"
    write_whole("/dev/null", "text")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("place", "code"), [("a folder", 2), ("no/folder", 2), ("a file/page", 2), ("/dev/full", 1)]
)
def test_a_page_that_cannot_be_written(monkeypatch, capsys, tmp_path, run_folder, place, code):
    monkeypatch.chdir(tmp_path)
    Path("a folder").mkdir()
    Path("a file").write_text("")
    for words in (("timeline", run_folder), ("timeline", run_folder, "--format", "chrome")):
        found, _, err = call(monkeypatch, capsys, *words, "--out", place)
        assert found == code
        assert err.startswith(f"hybridsim: {place}: ")
        assert err.count("\n") == 1


def streams(redirected: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -m hybridsim {" ".join(words)} {redirected}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("redirected", "code", "message"),
    [
        (">&-", 1, "hybridsim: standard output: expected an open file, got a closed one\n"),
        (">/dev/full", 1, "hybridsim: standard output: No space left on device\n"),
        ("| true", 141, ""),
        ("2>&-", 0, ""),
    ],
)
def test_output_that_nobody_takes_is_no_success_and_no_traceback(redirected, code, message):
    done = streams(redirected, "schema")
    assert (done.returncode, done.stderr) == (code, message)


@pytest.mark.parametrize("writes", [0, 2, 4, 6, 8, 11])  # of the twelve of this run
def test_a_disk_that_is_full_is_no_success(monkeypatch, capsys, tmp_path, writes):
    """Whatever file it is that finds no room; what was written before can be read."""
    left = iter(range(writes))

    def sync(number, real=os.fsync):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", sync)
    small = ("training.steps=3", "workload.options.hidden=3", "training.batch_size=4")
    words = [word for setting in small for word in ("--set", setting)]
    code, _, err = call(monkeypatch, capsys, "run", "adam-digits", "--out", tmp_path / "r", *words)
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("hybridsim: ")
    assert "No space left on device" in last
    assert not list(tmp_path.rglob("*.tmp"))
    if (tmp_path / "r" / "manifest.json").exists():
        run = Run.open(tmp_path / "r")
        begun = "complete" if "report.html" in last else "running"
        assert run.status == ("failed" if writes == 2 else begun)
        assert len(run.steps) == run.summary["steps"]


def test_a_read_only_place_is_a_mistake(monkeypatch, capsys):
    for words in (("run", "adam-digits"), ("timeline", "/proc/self")):
        code, _, err = call(monkeypatch, capsys, *words, "--out", "/proc/run")
        assert (code, len(err.splitlines())) == (2, 1)
