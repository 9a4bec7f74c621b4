"""Strip charts: a quantity over the whole run, one filled strip per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.activity import Bins
from hybridsim.reports.figures import Options
from hybridsim.reports.rows import Rows
from hybridsim.reports.units_text import scale_for

FULL = 0.8
_PS = 1e-12
_CLEAR = [[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]]


class Strip(NamedTuple):
    """One row: ``values`` per bin, drawn against ``top``; ``floor`` is the part of them that is
    always there.

    ``name`` and ``note`` (at the right edge) are text for a chart: already escaped.
    """

    row: int
    name: str
    note: str
    values: np.ndarray
    top: float
    colour: str
    hover: str
    floor: float = 0.0


def strips(rows: Rows, found: Sequence[Strip], bins: Bins) -> go.Figure:
    """Strips with their notes at the right edge."""
    edges = bins.edges_ps() * _PS
    scale = scale_for(float(edges[-1]), "s")
    x = edges / scale.factor
    figure = rows.chart(f"simulated time ({scale.unit})", margin={"r": 74})
    figure.update_xaxes(range=[0, float(x[-1])])
    for strip in found:
        figure.add_scatter(**_outline(strip.row, strip.values / strip.top, x, strip.colour))
        if strip.floor > 0:
            figure.add_scatter(
                **_outline(strip.row, np.array([strip.floor / strip.top]), x[[0, -1]], "#9aa5b1")
            )
    for strip in found:
        figure.add_heatmap(**_hover(strip, x, scale.unit))
        figure.add_annotation(
            xref="paper",
            x=1,
            xanchor="left",
            y=strip.row,
            text=f" {strip.note}",
            showarrow=False,
            align="left",
            font={"size": 11},
        )
    return figure


def _outline(row: int, shares: np.ndarray, x: np.ndarray, colour: str) -> Options:
    """A filled staircase that stands on the bottom of its row; only the corners are kept."""
    bottom = row + FULL / 2
    shares = np.round(shares, 4)
    turn = np.flatnonzero(np.diff(shares)) + 1
    corners = np.concatenate([[0], turn, [len(shares)]])
    left, right = x[corners[:-1]], x[corners[1:]]
    tops = bottom - FULL * shares[corners[:-1]]
    xs = [x[0], *np.column_stack([left, right]).ravel(), x[-1]]
    ys = [bottom, *np.column_stack([tops, tops]).ravel(), bottom]
    return {
        "x": [float(f"{v:.6g}") for v in xs],
        "y": [round(float(v), 4) for v in ys],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 0.6, "color": colour},
        "hoverinfo": "skip",
    }


def _hover(strip: Strip, x: np.ndarray, unit: str) -> Options:
    """An invisible heat map that answers wherever the pointer is; its last bin may reach beyond the
    run's end.
    """
    return {
        "z": [[float(f"{v:.4g}") for v in strip.values]],
        "x0": float(x[1]) / 2,
        "dx": float(x[1]),
        "y0": strip.row,
        "dy": 1,
        "colorscale": _CLEAR,
        "showscale": False,
        "meta": [strip.name],
        "hovertemplate": f"<b>%{{meta[0]}}</b><br>{strip.hover}<br>at "
        f"%{{x:.5g}} {unit}<extra></extra>",
    }
