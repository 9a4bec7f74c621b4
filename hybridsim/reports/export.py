"""Tables for papers and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hybridsim.files import write_whole

PAPER_COLUMNS = (
    "name", "seeds", "reached",
    *(f"{name}{end}" for name in ("time_to_target_s", "energy_to_target_j") for end in ("",
        "_ci_low", "_ci_high")),
)  # fmt: skip
"""What a paper shows: medians to target with their intervals."""


def write_csv(table: pd.DataFrame, path: Path | str) -> None:
    """The comparison as CSV, every digit kept."""
    write_whole(path, table.to_csv(index=False))


def to_latex(table: pd.DataFrame, columns: Sequence[str] = PAPER_COLUMNS) -> str:
    """Columns of the comparison as a LaTeX tabular (booktabs), three digits a number."""
    table = table[list(columns)]
    lines = [
        r"\begin{tabular}{" + "".join("r" if kind else "l" for kind in _numeric(table)) + "}",
        r"\toprule",
    ]
    lines += [
        " & ".join(_latex(name.replace("_", " ")) for name in table.columns) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(map(_latex, row)) + r" \\" for row in table.itertuples(index=False)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _numeric(table: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "≥": r"$\geq$", "≤": r"$\leq$", "–": "--", **{sign: "\\" + sign for sign in "&%$#_{}"},
}  # fmt: skip


def _latex(cell: object) -> str:
    if isinstance(cell, float):
        if not np.isfinite(cell):
            return "--" if np.isnan(cell) else r"$\infty$"
        digits, _, power = f"{cell:.3g}".partition("e")
        return rf"${digits}\times10^{{{int(power)}}}$" if power else digits
    return "".join(_LATEX.get(letter, letter) for letter in str(cell))
