"""K7 as a picture: late test accuracy against input and output bits, with paired intervals, and
Adam's band.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from analysis.papers.k7_runs import ADAM, BITS, IDEAL, REALISTIC
from analysis.papers.page import FONT, chart, legend, write_page

_THERMO, _ALL, _SHORT, _ADAM = "#0072B2", "#D55E00", "#009E73", "#5A6675"
_MARGIN = "#E69F00"
_KEYS = ("mean", "low", "high")
_HEIGHT = 280
_AXIS = {"gridcolor": "#e8ebef", "zeroline": False, "linecolor": "#aab3bd", "automargin": True}
_BAND = "rgba(90, 102, 117, 0.18)"
_ENDS = {"all 8": ("all 8", _ALL, "diamond"), f"{REALISTIC}, all 8": ("50 τ", _SHORT, "square")}


def gaps_of(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Accuracy minus that of ideal converters, in points with paired intervals: of every setting,
    and of Adam.
    """
    found = {name: dict(gap) for name, gap in summary["accuracy minus ideal"].items()}
    found[IDEAL] = dict.fromkeys(_KEYS, 0.0)
    if ADAM in summary["settings"]:
        low, mean, high = (
            -summary["accuracy minus adam"][IDEAL][end] for end in ("high", "mean", "low")
        )
        found[ADAM] = {"mean": mean, "low": low, "high": high}
    return {name: {key: 100 * gap[key] for key in _KEYS} for name, gap in found.items()}


def panel(summary: Mapping[str, Any], side: str) -> go.Figure:
    """One study's accuracy against the bits of one converter, the others ideal; the two settings
    with 8 bits everywhere stand at the right, the margin is dotted.
    """
    gaps = gaps_of(summary)
    figure = go.Figure()
    figure.update_layout(
        template="none",
        font=FONT,
        margin={"l": 56, "r": 12, "t": 10, "b": 44},
        showlegend=False,
        xaxis={**_AXIS, "title": {"text": f"{side} bits"}},
        yaxis={**_AXIS, "title": {"text": "accuracy minus ideal (points)"}},
    )
    _points(
        figure,
        [*map(str, BITS), IDEAL],
        [gaps[n] for n in (*(f"{side} {b}" for b in BITS), IDEAL)],
        _THERMO,
    )
    for name, (label, colour, symbol) in _ENDS.items():
        _points(figure, [label], [gaps[name]], colour, symbol)
    for edge in (-100 * summary["margin"], 100 * summary["margin"]):
        figure.add_hline(y=edge, line={"color": _MARGIN, "width": 1, "dash": "dot"}, layer="below")
    if ADAM in gaps:
        figure.add_hrect(
            y0=gaps[ADAM]["low"],
            y1=gaps[ADAM]["high"],
            fillcolor=_BAND,
            line_width=0,
            layer="below",
        )
        figure.add_hline(
            y=gaps[ADAM]["mean"], line={"color": _ADAM, "width": 1.5, "dash": "dash"}, layer="below"
        )
    figure.update_xaxes(type="category", showgrid=False, tickfont={"size": 13}, tickangle=0)
    return figure.update_yaxes(range=list(limits_of(summary)), tickfont={"size": 13}).update_layout(
        height=_HEIGHT
    )


def _points(
    figure: go.Figure,
    labels: list[str],
    gaps: list[dict[str, float]],
    colour: str,
    symbol: str = "circle",
) -> None:
    figure.add_scatter(
        x=labels, y=[gap["mean"] for gap in gaps], mode="lines+markers", line={"color": colour,
            "width": 1.5},
        marker={"size": 9, "symbol": symbol},
        error_y={
            "array": [gap["high"] - gap["mean"] for gap in gaps],
            "arrayminus": [gap["mean"] - gap["low"] for gap in gaps],
            "thickness": 1.5, "width": 5,
        },
    )  # fmt: skip


def limits_of(summary: Mapping[str, Any]) -> tuple[float, float]:
    """What both panels of a study show, in points."""
    gaps = gaps_of(summary).values()
    low, high = (
        min(gap["low"] for gap in gaps),
        max(100 * summary["margin"], *(gap["high"] for gap in gaps)),
    )
    room = max(0.06 * (high - low), 0.2)
    return low - room, high + room


def draw(path: Path, summaries: Mapping[str, Any]) -> None:
    """Write the page; studies without two whole seeds are left out."""
    shown = {name: summary for name, summary in summaries.items() if "settings" in summary}
    colours = {
        "K-FAC on the SPU, settled, the other converters ideal": _THERMO, "8 bits everywhere": _ALL,
        f"8 bits everywhere, {REALISTIC} for a solve": _SHORT, "Adam in float32": _ADAM,
            "margin (dotted)": _MARGIN,
    }  # fmt: skip
    sections = [
        f"<h2>{escape(_title(name, summary))}</h2>{_pair(summary)}"
        for name, summary in shown.items()
    ]
    note = (
        "<p>Late test accuracy at equal steps, minus that of settled K-FAC with ideal converters: "
        "means over seeds, 95 % "
        "intervals paired by seed.</p>"
    )
    write_page(path, "K7: accuracy against converter bits", note, legend(colours), *sections)


def _title(name: str, summary: Mapping[str, Any]) -> str:
    rate, damping = summary["tuning"]["chosen"]["digital"]
    ideal = 100 * summary["settings"][IDEAL]["late_test_accuracy"]["mean"]
    return (
        f"{name} (ideal: {ideal:.1f} %): rate {rate:g}, damping {damping:g}, "
        f"{len(summary['seeds'])} seeds"
    )


def _pair(summary: Mapping[str, Any]) -> str:
    charts = (chart(panel(summary, side), "", _HEIGHT) for side in ("input", "output"))
    return f'<div class="columns">{"".join(charts)}</div>'
