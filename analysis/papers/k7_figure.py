"""K7 as a picture: late test accuracy against input and output bits, with intervals, and Adam's band."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from hybridsim.analysis.figures import COLOURS, blank
from hybridsim.analysis.page import chart, columns, legend, paragraph, section, write_page
from hybridsim.analysis.papers.k7_runs import ADAM, BITS, IDEAL, REALISTIC

_THERMO, _ALL, _SHORT, _ADAM = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[11]
_BAND = "rgba(90, 102, 117, 0.18)"
_ENDS = {"all 8": ("all 8", _ALL, "diamond"), f"{REALISTIC}, all 8": ("50 τ", _SHORT, "square")}


def panel(summary: Mapping[str, Any], side: str, limits: tuple[float, float]) -> go.Figure:
    """One study's accuracy in per cent against the bits of one converter, the others ideal; the two settings with
    8 bits everywhere stand at the right.
    """
    settings = summary["settings"]
    names = [*(f"{side} {bits}" for bits in BITS), IDEAL]
    labels = [*map(str, BITS), IDEAL]
    figure = blank(f"{side} bits", "late test accuracy (%)")
    _points(figure, labels, [settings[name] for name in names], _THERMO, "circle")
    for name, (label, colour, symbol) in _ENDS.items():
        _points(figure, [label], [settings[name]], colour, symbol)
    if ADAM in settings:
        _band(figure, settings[ADAM]["late_test_accuracy"])
    figure.update_xaxes(type="category", showgrid=False, tickfont={"size": 13}, tickangle=0)
    return figure.update_yaxes(range=list(limits), tickfont={"size": 13}).update_layout(height=300)


def _points(figure: go.Figure, labels: list[str], means: list[dict[str, Any]], colour: str, symbol: str) -> None:
    found = [mean["late_test_accuracy"] for mean in means]
    figure.add_scatter(
        x=labels, y=[100 * f["mean"] for f in found], mode="lines+markers", line={"color": colour, "width": 1.5},
        marker={"size": 9, "symbol": symbol},
        error_y={
            "array": [100 * (f["high"] - f["mean"]) for f in found],
            "arrayminus": [100 * (f["mean"] - f["low"]) for f in found],
            "thickness": 1.5, "width": 5,
        },
    )  # fmt: skip


def _band(figure: go.Figure, found: dict[str, float]) -> None:
    low, high = (100 * found[end] for end in ("low", "high"))
    figure.add_hrect(y0=low, y1=high, fillcolor=_BAND, line_width=0, layer="below")
    figure.add_hline(y=100 * found["mean"], line={"color": _ADAM, "width": 1.5, "dash": "dash"}, layer="below")


def limits_of(summary: Mapping[str, Any]) -> tuple[float, float]:
    """What both panels of a study show, in per cent."""
    found = [mean["late_test_accuracy"] for mean in summary["settings"].values()]
    low, high = 100 * min(f["low"] for f in found), 100 * max(f["high"] for f in found)
    room = max(0.06 * (high - low), 0.2)
    return low - room, high + room


def draw(path: Path, summaries: Mapping[str, Any]) -> None:
    """Write the page; studies without two whole seeds are left out."""
    shown = {name: summary for name, summary in summaries.items() if "settings" in summary}
    colours = {
        "K-FAC on the SPU, settled, the other converters ideal": _THERMO, "8 bits everywhere": _ALL,
        f"8 bits everywhere, {REALISTIC} for a solve": _SHORT, "Adam in float32 (mean, 95 % interval)": _ADAM,
    }  # fmt: skip
    sections = [section(_title(name, summary), _pair(summary)) for name, summary in shown.items()]
    note = paragraph(
        "Means over seeds and 95 % intervals of the mean; differences paired by seed are narrower.", "note"
    )
    write_page(path, "K7", f"<h1>K7: accuracy against converter bits</h1>{note}{legend(colours)}", *sections)


def _title(name: str, summary: Mapping[str, Any]) -> str:
    rate, damping = summary["tuning"]["chosen"]["digital"]
    return f"{name}: K-FAC's rate {rate:g}, damping {damping:g}; {len(summary['seeds'])} seeds"


def _pair(summary: Mapping[str, Any]) -> str:
    limits = limits_of(summary)
    return columns(*(chart(panel(summary, side, limits), "", 300) for side in ("input", "output")), kind="wide")
