"""Charts of what a number rests on: tornados, and the distribution of a ratio above one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.figures import COLOURS
from hybridsim.reports.page import plot_text
from hybridsim.reports.study_figures import LINE, figure_of, texts_of


class Bar(NamedTuple):
    """What something changes: factors at its low and its high end; ``assumed`` ones are hatched."""

    name: str
    low: float
    high: float
    assumed: bool
    text: str


def tornado(rows: Sequence[Bar], title: str, caption: str) -> go.Figure:
    """Factors at the low (pale) and at the high end of each, the first row on top, around 1."""
    figure = figure_of(title, "", caption, 110 + 28 * min(max(len(rows), 2), 40))
    _add_tornado(figure, rows)
    return figure


def _add_tornado(figure: go.Figure, rows: Sequence[Bar], **where: int) -> None:
    """The bars of a tornado, in a panel of a figure."""
    names = [f"{row.name} (assumed)" if row.assumed else row.name for row in rows]
    for end, opacity in (("low", 0.45), ("high", 1.0)):
        figure.add_bar(
            x=[math.log10(float(getattr(row, end))) for row in rows], y=texts_of(names),
            orientation="h", opacity=opacity, customdata=texts_of([row.text for row in rows]),
            hovertemplate="%{y}<br>%{customdata}<extra></extra>", showlegend=False,
            marker={
                "color": COLOURS[0],
                "pattern": {"shape": ["/" if row.assumed else "" for row in rows]},
            },
            **where,
        )  # fmt: skip
    figure.update_layout(barmode="overlay", bargap=0.35)
    figure.update_yaxes(autorange="reversed", type="category", ticks="", **where)
    _ratio_ticks(figure, [end for row in rows for end in (row.low, row.high)], **where)


def _ratio_ticks(figure: go.Figure, ratios: Sequence[float], **where: int) -> None:
    """Ticks of an axis of log10 of ratios: a bar's length on a logarithmic axis has no zero."""
    largest = max((abs(math.log10(ratio)) for ratio in ratios), default=0.0)
    step = next((s for s in (0.005, 0.02, 0.05, 0.1, 0.301, 1, 2, 5) if 4 * s >= largest), 10)
    ticks = [step * index for index in range(-6, 7)]
    texts = [f"{10**tick:.3g}" for tick in ticks]
    figure.update_xaxes(tickvals=ticks, ticktext=texts, **where)


def distribution(
    ratios: np.ndarray, rows: Sequence[Bar], titles: tuple[str, str], caption: str
) -> go.Figure:
    """How often which ratio came out, with a line where both are equal; below it what decides."""
    from plotly.subplots import make_subplots

    figure = figure_of("", "", caption, 330 + 34 * len(rows))
    panels = make_subplots(rows=2, cols=1, row_heights=[0.6, 0.4], vertical_spacing=0.2)
    panels.update_layout(figure.layout)
    counts, edges = np.histogram(np.log10(ratios), _edges(np.log10(ratios)))
    shares = 100 * counts / len(ratios)
    middle = (edges[:-1] + edges[1:]) / 2
    colours = [COLOURS[0] if value < 0 else COLOURS[1] for value in middle]
    texts = [
        f"{share:.3g} % of the draws from {10**a:.3g} to {10**b:.3g}"
        for share, a, b in zip(shares, edges[:-1], edges[1:], strict=True)
    ]
    panels.add_bar(
        x=middle.tolist(), y=shares.tolist(), width=np.diff(edges).tolist(), row=1, col=1,
        marker={"color": colours}, customdata=texts, hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )  # fmt: skip
    panels.add_vline(x=0.0, line=LINE, row=1, col=1)
    _ratio_ticks(panels, ratios.tolist(), row=1, col=1)
    _add_tornado(panels, rows, row=2, col=1)
    panels.update_xaxes(automargin=True, gridcolor="#e8ebef")
    panels.update_yaxes(automargin=True, gridcolor="#e8ebef")
    panels.update_xaxes(title_text=plot_text(titles[0]), row=1, col=1)
    panels.update_yaxes(title_text="draws (%)", row=1, col=1)
    panels.update_xaxes(title_text=plot_text(titles[1]), row=2, col=1)
    return panels


def _edges(logs: np.ndarray) -> np.ndarray:
    """Edges of bars, one of which stands where both are equal."""
    low, high = min(float(logs.min()), 0.0), max(float(logs.max()), 0.0)
    width = (high - low or 1.0) / min(40, max(8, len(logs) // 20))
    return np.arange(math.floor(low / width), math.ceil(high / width) + 2) * width
