"""The manifest names every library that can move a number, and what multiplies on the computer."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import hybridsim
from hybridsim.results.environment import computer, releases

PACKAGE = Path(hybridsim.__file__).parent
MOVES_NOTHING = {
    "typer", "rich", "plotly",  # show
    "pynvml", "zeus", "psutil",  # measure energy, memory
    "dask", "distributed",  # carry scenarios and outcomes
}  # fmt: skip
OTHERWISE_CALLED = {"sklearn": "scikit-learn", "ruamel": "ruamel.yaml"}


def imported() -> set[str]:
    """Top-level names of all that hybridsim imports from elsewhere, wherever it does."""
    found = set()
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE / "models").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"hybridsim", "__future__"}


def test_every_library_that_is_imported_is_named_with_its_release():
    asked = {OTHERWISE_CALLED.get(name, name) for name in imported()} - MOVES_NOTHING
    assert {"torch", "numpy", "scikit-learn", "ruamel.yaml", "pint"} <= asked
    named = releases()
    assert {name: named.get(name) for name in asked} == {name: version(name) for name in asked}


def test_libraries_below_and_the_processor_are_named():
    found = computer("cpu", 3)
    assert found["threads"] == 3 and not found["gpu"]
    for key in ("processor", "capability", "libraries_of_torch", "library_of_numpy"):
        assert found[key], key
    assert "OpenMP" in found["libraries_of_torch"]
    assert "flags" not in found["libraries_of_torch"].lower()


@pytest.mark.parametrize("name", ["MKL_CBWR", "ONEDNN_DEFAULT_FPMATH_MODE"])
def test_what_is_set_from_outside_is_named(name, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    assert name not in computer("cpu", 1)["variables"]
    monkeypatch.setenv(name, "some value")
    assert f"{name}=some value" in computer("cpu", 1)["variables"]
