"""The table of claims: README.md of this folder, written from the results.

python -m analysis.papers.table
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.papers.claim import Claim
from analysis.papers.verdicts import CLAIMS

FOLDER = Path(__file__).parent
UNKNOWN = "not noted"
HEAD = """\
# Claims of the papers, measured here

One row for each claim: what came out, the figure that the verdict rests on, and the revision of the
simulator that measured it. The page behind it has setting, intervals and caveats; [how verdicts are
found](claims/method.md) holds for all. Prices have been mended since some of these revisions:
seconds and joules are those of the revision named.

This page is written by `python -m analysis.papers.table` from the files in `results`.
"""


def result(claim: Claim) -> dict[str, Any]:
    """The result file of a claim."""
    found: dict[str, Any] = json.loads((FOLDER / "results" / f"{claim.result}.json").read_text())
    return found


def row(claim: Claim) -> str:
    """A line of the table."""
    found = result(claim)
    verdict, figure = claim.verdict(found["summary"]), claim.figure(found["summary"])
    page = f"[{claim.code}](claims/{claim.page}.md)"
    revision = found.get("revision", UNKNOWN)
    return f"| {page} {claim.text} | {verdict} | {figure} | {revision} |"


def text() -> str:
    """The whole page."""
    blocks = [HEAD]
    for paper in dict.fromkeys(claim.paper for claim in CLAIMS):
        rows = [row(claim) for claim in CLAIMS if claim.paper == paper]
        head = ["| claim | verdict | figure | revision |", "|---|---|---|---|"]
        blocks.append("\n".join([f"## {paper}", "", *head, *rows, ""]))
    return "\n".join(blocks)


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(text(), encoding="utf-8")
