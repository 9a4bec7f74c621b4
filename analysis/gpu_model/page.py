"""Puts tables of errors into the GPU model's page: ``python -m analysis.gpu_model.page``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.gpu_model.fit import RESULT
from analysis.gpu_model.whole import RESULT as WHOLE

PAGE = Path(__file__).parent.parent / "docs" / "pages" / "gpu-model.md"
HEAD = "| family | part | precision | rows | median | p90 | bias | roofline, median | p90 |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text()))


def filled(text: str) -> str:
    """The page with the tables of the committed results in it."""
    for name, table in (("operators", operators()), ("whole", whole())):
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        text = before + mark + table + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    return text


def operators() -> str:
    """Errors of single operators by family, and by family, part and precision."""
    rows = pd.read_csv(RESULT)
    lines = [HEAD, "|---|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows[rows["size"] == "all"].itertuples():
        lines.append(
            f"| {row.family} | {row.part} | {row.dtype} | {row.rows} "
            f"| {row.median:.1%} | {row.p90:.0%} | {row.bias:+.1%} "
            f"| {row.roofline_median:.1%} | {row.roofline_p90:.0%} |"
        )
    return "\n".join(lines)


def whole() -> str:
    """Whole steps and powers, each beside its prediction."""
    lines = ["| what | device | network | batch | precision | measured | predicted | ratio |"]
    lines.append("|---|---|---|--:|---|--:|--:|--:|")
    for row in pd.read_csv(WHOLE).itertuples():
        lines.append(
            f"| {row.what} | {row.device} | {row.model} | {row.batch} | {row.precision} | "
            f"{row.measured:.4g} | {row.predicted:.4g} | {row.ratio:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
