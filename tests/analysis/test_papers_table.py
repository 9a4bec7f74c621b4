"""The table of claims is what the results say; behind every claim stands a page."""

from __future__ import annotations

import pytest

from analysis.papers import table
from analysis.papers.verdicts import CLAIMS

CODES = [claim.code for claim in CLAIMS]


def page(name: str) -> str:
    return (table.FOLDER / "claims" / f"{name}.md").read_text()


def test_the_committed_table_is_current():
    committed = (table.FOLDER / "README.md").read_text()
    assert committed == table.text(), "run: python -m analysis.papers.table"


def test_every_result_and_every_page_belongs_to_a_claim():
    results = {path.stem for path in (table.FOLDER / "results").glob("*.json")}
    assert results == {claim.result for claim in CLAIMS}
    pages = {path.stem for path in (table.FOLDER / "claims").glob("*.md")}
    assert pages == {claim.page for claim in CLAIMS} | {"method"}
    assert len(set(CODES)) == len(CODES)


@pytest.mark.parametrize("claim", CLAIMS, ids=CODES)
def test_the_page_of_a_claim_names_its_result_and_its_revision(claim):
    text, found = page(claim.page), table.result(claim)
    assert f"results/{claim.result}.json" in text and "*Verdict.*" in text
    assert found.get("revision", "a revision that was not noted") in text
    codes = [other.code for other in CLAIMS if other.page == claim.page]
    assert len(codes) == 1 or f"## {claim.code}. " in text


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (0.9, 1.1, "not separable"), (1.06, 1.1, "does not"), (1.0, 1.04, "holds"),
])  # fmt: skip
def test_a_verdict_follows_its_result(low, high, verdict):
    """T6b is read from what the result found, not written beside it."""
    [claim] = [claim for claim in CLAIMS if claim.code == "T6b"]
    row = {"mean": (low + high) / 2, "low": low, "high": high}
    loss = {"50 tau within 5 % of exact": verdict, "ratio to exact": {"50 tau": row}}
    assert claim.verdict({"test_loss": loss}) == verdict
    assert f"[{low:.3f}, {high:.3f}]" in claim.figure({"test_loss": loss})
