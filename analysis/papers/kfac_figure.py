"""A page of stacked shares: where a digital K-FAC step goes, against one size of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from analysis.papers import page
from analysis.papers.kfac_runs import GROUPS
from analysis.papers.step_time import AVERAGES, INVERSION, PASSES, PRODUCTS

_COLOURS = {INVERSION: "#b3400a", PRODUCTS: "#e0a458", AVERAGES: "#0072b2", PASSES: "#7fb2d6"}
_ORDER = (INVERSION, PRODUCTS, AVERAGES, PASSES, *(g for g in GROUPS if g not in _COLOURS))
_REST = "#c3cad2"
Chart = tuple[Sequence[Mapping[str, Any]], str, str]
"""Rows with ``shares``, the column they stand over, and what the chart shows."""


def draw(path: Path, title: str, charts: Sequence[Chart]) -> None:
    """Write the page, self-contained."""
    blocks = [page.chart(figure(rows, axis), caption, 360) for rows, axis, caption in charts]
    page.write_page(path, title, *blocks)


def figure(rows: Sequence[Mapping[str, Any]], axis: str) -> go.Figure:
    """Bars of one height, a colour for each group."""
    names = [row[axis] if isinstance(row[axis], str) else f"{row[axis]:,}" for row in rows]
    found = go.Figure()
    for group in _ORDER:
        values = [row["shares"].get(group, 0.0) for row in rows]
        if any(values):
            found.add_bar(x=names, y=values, name=group, marker_color=_COLOURS.get(group, _REST))
    found.update_layout(
        barmode="stack",
        margin={"l": 60, "r": 10, "t": 10, "b": 50},
        xaxis={"type": "category", "title": {"text": axis}},
        yaxis={"tickformat": ".0%", "range": [0, 1], "title": {"text": "share of the step"}},
        legend={"traceorder": "normal"},
    )
    return found
