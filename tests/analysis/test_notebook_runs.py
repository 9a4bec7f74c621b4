"""The notebook runs from top to bottom in a fresh kernel."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "analysis" / "notebooks"


def test_first_what_if():
    notebook = nbformat.read(NOTEBOOKS / "first_what_if.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(o["output_type"] != "error" for cell in outputs for o in cell)
    assert "ms per step" in str(outputs[-2])
