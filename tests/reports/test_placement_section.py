"""Which SPU solves what, as the report tells it."""

from __future__ import annotations

import html
import re

import pytest

import hybridsim
from hybridsim.reports.placement import placement
from hybridsim.reports.report import write_report
from hybridsim.results.read import Run


def cells(section: str, table: int) -> list[list[str]]:
    bodies = re.findall(r"<tbody>((?:(?!<tbody>).)*?)</tbody>", section, re.DOTALL)
    body = bodies[table]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    return [
        [html.unescape(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows
    ]


def sum_row(section: str) -> list[list[str]]:
    """The one row of SPUs alike, above those that unfold."""
    return cells(re.sub(r"<details>.*?</details>", "", section, flags=re.DOTALL), 0)[:1]


def run(*overrides):
    return hybridsim.run(
        hybridsim.load("kfac-digits", ["training.steps=6", *overrides]), backend="timing"
    )


@pytest.mark.parametrize("rule", ["auto", "layers", "columns"])
def test_predicted_and_measured_times_agree_without_leftovers(rule):
    """What an SPU takes does not depend on waiting, so a round takes what was predicted."""
    known = "machine.spus.imperfections.full_scales=false"  # no solve is made twice to find ranges
    found = run(f"training.algorithm.placement={rule}", "machine.spus.count=3", known)
    section = placement(found)
    rows = cells(section, 0)
    assert [row[0] for row in rows] == ["spu0", "spu1", "spu2"]
    assert [row[4] for row in rows] == [row[5] for row in rows]
    pieces = cells(section, 1)
    assert sum(int(row[1]) for row in rows) == len(pieces)
    ((label, factors, *_, used),) = sum_row(section)
    assert (label, int(factors)) == ("3 × spu", len(pieces))
    shares = [float(row[-1].removesuffix(" %")) for row in rows]
    assert float(used.removesuffix(" %")) == pytest.approx(sum(shares) / 3, rel=0.02)
    columns = {
        ("0", "A"): 32,
        ("0", "G"): 65,
        ("2", "A"): 32,
        ("2", "G"): 33,
        ("4", "A"): 10,
        ("4", "G"): 33,
    }
    totals = dict.fromkeys(columns, 0)
    for layer, factor, _, stretch, *_ in pieces:
        first, last = (int(n) for n in stretch.split(" – "))
        totals[layer, factor] += last - first + 1
    assert totals == columns


def test_spus_are_listed_in_their_order_and_others_have_no_section():
    section = placement(run("machine.spus.count=12", "training.algorithm.placement=columns"))
    assert [row[0] for row in cells(section, 0)] == [f"spu{k}" for k in range(12)]
    adam = hybridsim.run(hybridsim.load("adam-digits", ["training.steps=2"]), backend="timing")
    assert placement(adam) == ""


def test_the_section_stands_in_the_report(tmp_path):
    hybridsim.run(hybridsim.load("kfac-digits", ["training.steps=2"]), tmp_path / "run")
    write_report(Run.open(tmp_path / "run"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert (
        "<h2>Placement</h2>" in page
        and "raised their diagonals by" in page
        and "Most memory in use" in page
    )


@pytest.mark.parametrize(
    ("name", "analog"),
    [("kfac-digits", True), ("kfac-digits-digital", False), ("adam-digits", False)],
)
def test_only_runs_with_spus_rest_on_assumptions_about_them(name, analog):
    found = hybridsim.run(hybridsim.load(name, ["training.steps=1"]), backend="timing")
    assert any("SPU" in text for text in found.manifest["model_assumptions"]) == analog
