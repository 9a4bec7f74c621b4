"""The wheel is whole: installed alone in an empty folder, it runs what it ships."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hybridsim

ROOT = Path(hybridsim.__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("hybridsim", "models", "scenarios", "analysis", "tests")
SMALL = ("training.steps=2", "training.batch_size=4", "workload.options.hidden=4")


def call(words: list[str], folder: Path, **variables: str) -> str:
    """Run a command; what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, without a network: with the setuptools that are here."""
    sources, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in FILES:
        shutil.copy(ROOT / name, sources / name)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=ignore)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
    call([sys.executable, "-m", "pip", "wheel", str(sources), *options], sources)
    [file] = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--target", str(folder)]
    call([sys.executable, "-m", "pip", "install", str(wheel), *options], folder)
    return folder


def test_the_wheel_holds_all_of_hybridsim_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    shipped = {"hybridsim/py.typed"}
    for folder, place in (
        ("hybridsim", "hybridsim"),
        ("models", "hybridsim/models"),
        ("scenarios", "hybridsim/scenarios"),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".json"):
                shipped.add(f"{place}/{path.relative_to(ROOT / folder)}")
    assert inside == shipped
    assert wheel.name.startswith(f"hybridsim-{hybridsim.__version__}-")


def test_what_is_installed_runs_from_another_folder(installed, tmp_path):
    def hybridsim_(*words: str) -> str:
        script = str(installed / "bin" / "hybridsim")
        return call([sys.executable, script, *words], tmp_path, PYTHONPATH=str(installed))

    place = "import hybridsim; print(hybridsim.__file__)"
    found = call([sys.executable, "-c", place], tmp_path, PYTHONPATH=str(installed))
    assert Path(found.strip()).is_relative_to(installed)
    assert hybridsim_("--version") == f"hybridsim {hybridsim.__version__}\n"
    assert "a100-sxm4-80gb" in hybridsim_("parts")
    assert hybridsim_("check", "kfac-gpt").endswith("ok\n")
    settings = [word for change in SMALL for word in ("--set", change)]
    hybridsim_("run", "adam-digits", "--out", "run", *settings)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["versions"]["hybridsim"] == hybridsim.__version__
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
