"""Thresholds of a scenario: what was asked, what came out."""

from __future__ import annotations

from hybridsim.reports import page
from hybridsim.reports.units_text import quantity
from hybridsim.results.keys import ThresholdLine
from hybridsim.results.read import Run


def threshold_text(line: ThresholdLine) -> str:
    """Asked, got, met or missed, in one line."""
    return f"asked {line['asked']}, got {_got(line)}: {_verdict(line)}"


def thresholds(run: Run) -> str:
    """A table of all thresholds; nothing where the scenario has none."""
    lines = run.summary.get("thresholds", [])
    if not lines:
        return ""
    rows = [[line["name"], line["asked"], _got(line), _verdict(line)] for line in lines]
    return page.section(
        "Thresholds", page.table(["Number", "asked", "got", "verdict"], rows, text=4)
    )


def missed_text(run: Run) -> str:
    """Which thresholds were missed; nothing where all were met."""
    lines = run.summary.get("thresholds", [])
    missed = [line for line in lines if not line["met"]]
    if not missed:
        return ""
    texts = "; ".join(f"{line['name']}: {threshold_text(line)}" for line in missed)
    return f"{len(missed)} of {len(lines)} thresholds missed. {texts}."


def _got(line: ThresholdLine) -> str:
    got = line["got"]
    if got is None:
        return line["reason"]
    # Enough digits to see on which side of the value it lies.
    return quantity(got, line["unit"], 6) if line["unit"] else f"{got:.6g}"


def _verdict(line: ThresholdLine) -> str:
    return "met" if line["met"] else "missed"
