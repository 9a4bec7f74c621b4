"""Workloads, analysis and documentation use hybridsim as a user does: by its public names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybridsim

ROOT = Path(hybridsim.__file__).resolve().parent.parent
PUBLIC = {*hybridsim.__all__, "__version__"}
REFERENCE = "analysis/docs/reference.py"  # it describes what lies below the public names
HELPERS = "hybridsim.models.workloads._"  # what shipped workloads share with one another


def sources() -> Iterator[tuple[str, str]]:
    """(where, Python text) of all that is written for users or as a user would."""
    for folder in ("models", "analysis"):
        for path in (ROOT / folder).rglob("*.py"):
            yield str(path.relative_to(ROOT)), path.read_text()
    for path in (ROOT / "analysis").rglob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        yield str(path.relative_to(ROOT)), "\n".join(code)
    pages = [*ROOT.glob("*.md"), *(p for f in ("models", "scenarios", "analysis")
                                   for p in (ROOT / f).rglob("*.md"))]  # fmt: skip
    for path in pages:
        for number, text in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S)):
            yield f"{path.relative_to(ROOT)}, block {number}", text


SOURCES = dict(sources())


def private(text: str) -> list[str]:
    """What a text takes from hybridsim beyond its public names."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("hybridsim.")]
        elif isinstance(node, ast.ImportFrom) and node.module == "hybridsim":
            found += [a.name for a in node.names if a.name not in PUBLIC]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hybridsim."):
            found.append(str(node.module))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "hybridsim":
            found += [node.attr] if node.attr not in PUBLIC else []
    return found


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 40
    assert any(name.startswith("analysis/docs/pages/own-network.md") for name in SOURCES)
    assert any(name.endswith(".ipynb") for name in SOURCES)


@pytest.mark.parametrize("where", SOURCES)
def test_only_public_names_are_used(where):
    found = private(SOURCES[where])
    if where.startswith("models/workloads/"):
        found = [name for name in found if not name.startswith(HELPERS)]
    assert not found or where == REFERENCE


@pytest.mark.parametrize(
    "text",
    [
        "import hybridsim.simulate",
        "from hybridsim.tasks.task import Data",
        "from hybridsim import simulate",
        "import hybridsim\nhybridsim.simulate.run",
        "def f():\n    from hybridsim.reports import page",
    ],
)
def test_other_names_are_found(text):
    assert private(text)


def test_public_names_are_there_and_listed():
    for name in hybridsim.__all__:
        assert getattr(hybridsim, name).__name__ == name
    assert set(hybridsim.__all__) <= set(dir(hybridsim))
    assert sorted(hybridsim.__all__) == hybridsim.__all__
    with pytest.raises(AttributeError, match="no attribute 'simulated'"):
        _ = hybridsim.simulated


def test_type_checkers_see_what_python_imports():
    """Every public name is imported, under its own name, from where it is looked up."""
    tree = ast.parse(Path(hybridsim.__file__).read_text())
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: (hybridsim._HOME[name], name) for name in hybridsim.__all__}


@pytest.mark.parametrize(
    "code",
    [
        "import hybridsim; hybridsim.load('tngd-digits')",
        "from hybridsim import InputError, Scenario, load_part; load_part('gpu', 'a100-sxm4-80gb')",
        "import sys; sys.argv = ['hybridsim', '--version']\n"
        "try:\n    from hybridsim.cli import main; main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['hybridsim', '--help']\n"
        "try:\n    from hybridsim.cli import main; main()\nexcept SystemExit: pass",
    ],
)
def test_what_needs_no_tensors_does_not_import_torch(code):
    ending = "\nimport sys; sys.exit('torch' in sys.modules or 'plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
