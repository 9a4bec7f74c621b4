"""The salt of all keys covers every source that can change a number, wherever it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hybridsim
from hybridsim.operations.keys import code_digest, sources

PACKAGE = Path(hybridsim.__file__).parent
PATHS = [path for path, _ in sources(PACKAGE)]
SHOWN_ONLY = ("reports/", "studies/questions/", "cli.py", "progress.py", "__main__.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A package with the sources of this one."""
    folder = tmp_path_factory.mktemp("package") / "hybridsim"
    shutil.copytree(
        PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.yaml", "*.json")
    )
    return folder


@pytest.mark.parametrize("path", PATHS)
def test_a_source_that_is_edited_or_moved_changes_the_salt(copy, path):
    file, before = copy / path, code_digest(copy)
    text = file.read_bytes()
    file.write_bytes(text + b"\n")
    assert code_digest(copy) != before
    file.write_bytes(text)
    deeper = file.parent / "deeper" / "still"
    deeper.mkdir(parents=True)
    moved = file.rename(deeper / file.name)
    assert code_digest(copy) != before
    before_edit = code_digest(copy)
    moved.write_bytes(text + b"\n")
    assert code_digest(copy) != before_edit, "a source in a sub-package counts too"
    moved.write_bytes(text)
    moved.rename(file)
    shutil.rmtree(file.parent / "deeper")
    assert code_digest(copy) == before


def test_nothing_is_left_out_but_what_shows_results():
    every = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.glob("**/*.py")}
    every |= {
        f"models/{p.relative_to(PACKAGE / 'models').as_posix()}"
        for p in (PACKAGE / "models").glob("**/*.py")
    }
    left_out = every - set(PATHS)
    assert left_out and all(path.startswith(SHOWN_ONLY) for path in left_out)
    assert {"models/workloads/digits_cnn.py", "rng.py", "simulate.py"} <= set(PATHS)


def test_the_order_in_which_a_folder_is_listed_does_not_count(copy, tmp_path):
    other = shutil.copytree(copy, tmp_path / "elsewhere")
    assert code_digest(other) == code_digest(copy)
