"""The break-even's figure, drawn from its result file.

python -m analysis.papers.break_even_figure --out analysis/papers/results/break_even.json --page
/tmp/page.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.papers import page
from analysis.papers.kfac_point import arguments
from analysis.papers.step_time import COLUMNS, FACTORS, HELP, READBACK, SETTLING

_COLOURS = ("#c9b400", "#7ab51d", "#22a884", "#2a788e", "#3b528b", "#5b2a86", "#440154")
_SYMBOLS = {
    SETTLING: "circle",
    FACTORS: "triangle-up",
    COLUMNS: "square",
    READBACK: "triangle-down",
    HELP: "x-thin-open",
}
_RANGE = (-1.62, 1.25)
_SHADE = "rgba(179,64,10,0.07)"


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the page."""
    rows = [dict(zip(result["columns"], values, strict=True)) for values in result["runs"]]
    caption = (
        "Time of a digital over that of a thermodynamic step: four layers of n x n, batch 512, "
        "A100, all factors renewed "
        "every step; SPUs of 1 us, each on a private link, a converter per node. Above 1 (white) "
        "the SPUs pay. Marks: the "
        "largest part of the preconditioning on the critical path. Middle row: against a bound "
        "for the GPU that inverts all "
        "factors side by side, without latency, at 80 % of its peak, and whose products are free."
    )
    chart = page.chart(figure(rows, result), caption, 1040)
    page.write_page(path, "Thermodynamic against digital K-FAC, time per step", chart)


def figure(rows: list[dict[str, Any]], result: Mapping[str, Any]) -> go.Figure:
    """Small multiples: settling and digital side by row, bits and bandwidth by column."""
    paper, *others = dict.fromkeys(row["settle"] for row in rows)
    bound = {n: side["favoured step"] for n, side in result["summary"]["digital step"].items()}
    favoured = [
        r | {"ratio": bound[str(r["n"])] / r["step_s"]} for r in rows if r["settle"] == paper
    ]
    stories = [
        (paper, "", rows),
        (paper, ", the GPU at its best", favoured),
        *((name, "", rows) for name in others),
    ]
    wires = list(dict.fromkeys((row["bits"], row["bandwidth"]) for row in rows))
    titles = [
        f"{bits} bit, {bandwidth}<br><span style='font-size:12px;color:#5a6675'>"
        f"{result['setting']['settle in RC'][f'{settle}, {bits} bit']:.3g} RC a "
        f"solve{suffix}</span>"
        for settle, suffix, _ in stories
        for bits, bandwidth in wires
    ]
    found = make_subplots(
        len(stories),
        len(wires),
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.012,
        vertical_spacing=0.085,
    )
    counts = sorted({row["spus"] for row in rows})
    for i, (settle, _, known) in enumerate(stories, 1):
        for j, wire in enumerate(wires, 1):
            panel = [
                r for r in known if r["settle"] == settle and (r["bits"], r["bandwidth"]) == wire
            ]
            for count, colour in zip(counts, _COLOURS, strict=False):
                found.add_trace(_line([r for r in panel if r["spus"] == count], colour), i, j)
            found.add_hrect(
                y0=1e-3, y1=1, fillcolor=_SHADE, line_width=0, layer="below", row=i, col=j
            )
            found.add_hline(y=1, line={"color": "#1b2430", "width": 1.2}, row=i, col=j)
    _legend(found, counts)
    orders = sorted({row["n"] for row in rows})
    _axes(found, orders, len(stories))
    return found


def _line(line: list[dict[str, Any]], colour: str) -> go.Scatter:
    symbols = [_SYMBOLS.get(row["binds"], "diamond") for row in line]
    marker = {
        "symbol": symbols,
        "size": 8,
        "line": {"width": [2 if s.startswith("x") else 0 for s in symbols], "color": colour},
    }
    return go.Scatter(
        x=[row["n"] for row in line],
        y=[row["ratio"] for row in line],
        mode="lines+markers",
        showlegend=False,
        line={"color": colour, "width": 1.8},
        marker=marker | {"color": colour},
        text=[row["binds"] for row in line],
        hovertemplate="n %{x}: %{y:.3g}, %{text}<extra></extra>",
    )


def _legend(found: go.Figure, counts: list[int]) -> None:
    """SPUs by colour, what binds by symbol."""
    for count, colour in reversed(list(zip(counts, _COLOURS, strict=False))):
        name = f"{count} SPU{'s' * (count > 1)}"
        found.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="lines", name=name, line={"color": colour, "width": 3}
            )
        )
    for name, symbol in _SYMBOLS.items():
        if name == READBACK and not any(READBACK in (t.text or ()) for t in found.data):
            continue
        marker = {
            "symbol": symbol,
            "size": 9,
            "color": "#5a6675",
            "line": {"width": 2, "color": "#5a6675"},
        }
        found.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=name, marker=marker, legend="legend2"
            )
        )


def _axes(found: go.Figure, orders: list[int], rows: int) -> None:
    axis = {"gridcolor": "#e8ebef", "linecolor": "#aab3bd", "type": "log", "zeroline": False}
    found.update_xaxes(**axis, tickvals=orders, ticktext=[str(n) for n in orders], tickangle=-50)
    ticks = [0.03, 0.1, 0.3, 1, 3, 10]
    found.update_yaxes(
        **axis, range=list(_RANGE), tickvals=ticks, ticktext=[f"{t:g}" for t in ticks]
    )
    found.update_yaxes(title={"text": "digital / thermodynamic"}, col=1)
    found.update_xaxes(title={"text": "order n of the factors"}, row=rows)
    below = {
        "x": 0.985,
        "y": 0.965,
        "xref": "x domain",
        "yref": "y domain",
        "showarrow": False,
        "xanchor": "right",
    }
    found.add_annotation(**below, text="SPUs faster", font={"size": 12, "color": "#00754f"})
    found.add_annotation(
        **below | {"y": 0.05}, text="digital faster", font={"size": 12, "color": "#b3400a"}
    )
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "font": {"size": 13}}
    found.update_layout(
        template="none",
        font=page.FONT,
        paper_bgcolor="#fff",
        plot_bgcolor="#fff",
        margin={"l": 58, "r": 10, "t": 112, "b": 62},
        legend={**legend, "y": 1.135, "traceorder": "normal", "title": {"text": ""}},
        legend2={**legend, "y": 1.105, "title": {"text": "binds: "}},
    )


def main() -> None:
    """Draw an existing result."""
    given = arguments(__doc__)
    draw(json.loads(given.out.read_text()), given.page)


if __name__ == "__main__":
    main()
