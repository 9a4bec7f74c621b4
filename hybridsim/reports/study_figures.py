"""Charts of a study's answer: heat maps, curves with intervals, fronts, bars around no change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.figures import COLOURS, Options, blank
from hybridsim.reports.page import plot_text

_BETTER = [[0.0, "#0072B2"], [0.5, "#f7f7f7"], [1.0, "#D55E00"]]
_AMOUNT = [[0.0, "#fff7e6"], [0.5, "#e69f00"], [1.0, "#7a2b05"]]
_MOST_TEXTS = 150
_LINE = {"color": "#1b2430", "width": 1, "dash": "dash"}
_MARGIN = {"l": 56, "r": 16, "t": 24, "b": 48}


class Axis(NamedTuple):
    """An axis: what it says, and whether it is logarithmic."""

    title: str
    log: bool = False


class Heat(NamedTuple):
    """A heat map.

    Attributes:
        x: labels of the columns.
        y: labels of the rows.
        z: values, shape (rows, columns); NaN where there is none.
        texts: of each field, as hovering shows it: shape of z.
        marked: places (row, column) that are not trusted.
        unit: title of the colours.
        around_one: z are ratios, the first side's colour below 1, the second's above.
    """

    x: list[str]
    y: list[str]
    z: np.ndarray
    texts: list[list[str]]
    marked: list[tuple[int, int]]
    unit: str
    around_one: bool


class Curve(NamedTuple):
    """A line with its interval: ``hollow`` places are not trusted; NaN where there is no value."""

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    hollow: Sequence[bool]
    texts: Sequence[str]


class Dot(NamedTuple):
    """A point of a plane, with intervals in both directions; NaN where there is none."""

    series: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    hollow: bool
    front: bool
    text: str


class Bar(NamedTuple):
    """What something changes: factors at its low and its high end; ``assumed`` ones are hatched."""

    name: str
    low: float
    high: float
    assumed: bool
    text: str


def heat_map(heat: Heat, x_title: str, y_title: str, caption: str) -> go.Figure:
    """Rows by columns in colours; what is not trusted carries a ring."""
    figure = _figure(x_title, y_title, caption, 130 + 34 * min(max(len(heat.y), 3), 18))
    shown = np.where(np.isfinite(heat.z) & (heat.z > 0), heat.z, np.nan)
    logs = np.log2(shown)
    low, high = _range(logs, heat.around_one)
    ticks = np.linspace(low, high, 5)
    bar = {
        "title": {"text": plot_text(heat.unit), "side": "right"}, "thickness": 12,
        "tickvals": ticks.tolist(), "ticktext": [f"{2**tick:.3g}" for tick in ticks],
    }  # fmt: skip
    options: Options = {"texttemplate": "%{text}"} if logs.size <= _MOST_TEXTS else {}
    short = [[f"{value:.3g}" if value == value else "" for value in row] for row in shown]
    figure.add_heatmap(
        x=_texts(heat.x), y=_texts(heat.y), z=_numbers(logs), zmin=low, zmax=high,
        colorscale=_BETTER if heat.around_one else _AMOUNT, colorbar=bar, xgap=1, ygap=1,
        text=short, customdata=[_texts(row) for row in heat.texts],
        hovertemplate="%{customdata}<extra></extra>", hoverongaps=False, **options,
    )  # fmt: skip
    figure.add_scatter(
        x=[plot_text(heat.x[column]) for _, column in heat.marked],
        y=[plot_text(heat.y[row]) for row, _ in heat.marked],
        mode="markers", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 22, "color": "#1b2430"},
    )  # fmt: skip
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def curves(
    lines: Sequence[Curve], x: Axis, y: Axis, caption: str, level: float | None = None
) -> go.Figure:
    """Lines with their intervals, and a dashed line at ``level``; hollow places are not trusted."""
    figure = _figure(x.title, y.title, caption, 400)
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        known = [i for i, ends in enumerate(zip(line.low, line.high, strict=True)) if _known(ends)]
        if known:
            there = [line.x[i] for i in known]
            edge = [line.high[i] for i in known] + [line.low[i] for i in reversed(known)]
            figure.add_scatter(
                x=there + there[::-1], y=edge, fill="toself", fillcolor=colour, opacity=0.15,
                mode="none", hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        figure.add_scatter(
            x=list(line.x), y=_numbers(line.y), name=plot_text(line.name), mode="lines+markers",
            customdata=_texts(line.texts), hovertemplate="%{customdata}<extra></extra>",
            line={"color": colour, "width": 1.8},
            marker={"size": 7, "symbol": _symbols(line.hollow), "color": colour},
        )  # fmt: skip
    if level is not None:
        figure.add_hline(y=level, line=_LINE)
    return _logarithmic(figure, x, y)


def span(figure: go.Figure, at: float, low: float, high: float) -> None:
    """A place on the horizontal axis with its interval, where that is known."""
    if _known((low, high)):
        figure.add_vrect(x0=low, x1=high, fillcolor="#5a6675", opacity=0.15, line_width=0)
    figure.add_vline(x=at, line={"color": "#5a6675", "width": 1.2})


def front(dots: Sequence[Dot], x: Axis, y: Axis, caption: str) -> go.Figure:
    """Points of a plane, those of the front joined; hollow ones are not trusted."""
    figure = _figure(x.title, y.title, caption, 420)
    best = sorted((dot for dot in dots if dot.front), key=lambda dot: (dot.x[0], -dot.y[0]))
    figure.add_scatter(
        x=[dot.x[0] for dot in best], y=[dot.y[0] for dot in best], mode="lines",
        hoverinfo="skip", line={"color": "#1b2430", "width": 1.2, "shape": "hv"}, showlegend=False,
    )  # fmt: skip
    for index, series in enumerate(dict.fromkeys(dot.series for dot in dots)):
        own = [dot for dot in dots if dot.series == series]
        figure.add_scatter(
            x=[dot.x[0] for dot in own], y=[dot.y[0] for dot in own], mode="markers",
            name=plot_text(series), customdata=_texts([dot.text for dot in own]),
            hovertemplate="%{customdata}<extra></extra>",
            error_x=_error([dot.x for dot in own]), error_y=_error([dot.y for dot in own]),
            marker={
                "color": COLOURS[index % len(COLOURS)], "symbol": _symbols([d.hollow for d in own]),
                "size": [11 if dot.front else 7 for dot in own],
            },
        )  # fmt: skip
    return _logarithmic(figure, x, y)


def bars(curve: Curve, x: Axis, caption: str, level: float | None = None) -> go.Figure:
    """Horizontal points with intervals, one below the other, named by the curve's x."""
    figure = _figure(x.title, "", caption, 110 + 30 * min(max(len(curve.x), 2), 40))
    middle = list(zip(curve.y, curve.low, curve.high, strict=True))
    figure.add_scatter(
        x=_numbers(curve.y), y=_texts([str(name) for name in curve.x]), mode="markers",
        error_x=_error(middle), customdata=_texts(curve.texts),
        hovertemplate="%{y}<br>%{customdata}<extra></extra>", showlegend=False,
        marker={"size": 9, "color": COLOURS[0], "symbol": _symbols(curve.hollow)},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", ticks="")
    if level is not None:
        figure.add_vline(x=level, line=_LINE)
    return _logarithmic(figure, x, Axis(""))


def tornado(rows: Sequence[Bar], x: Axis, caption: str) -> go.Figure:
    """Factors at the low (pale) and at the high end of each, the first row on top, around 1."""
    figure = _figure(x.title, "", caption, 110 + 28 * min(max(len(rows), 2), 40))
    _add_tornado(figure, rows)
    return figure


def _add_tornado(figure: go.Figure, rows: Sequence[Bar], **where: int) -> None:
    """The bars of a tornado, in a panel of a figure."""
    names = [f"{row.name} (assumed)" if row.assumed else row.name for row in rows]
    for end, opacity in (("low", 0.45), ("high", 1.0)):
        figure.add_bar(
            x=[math.log10(float(getattr(row, end))) for row in rows], y=_texts(names),
            orientation="h", opacity=opacity, customdata=_texts([row.text for row in rows]),
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

    figure = _figure("", "", caption, 330 + 34 * len(rows))
    panels = make_subplots(rows=2, cols=1, row_heights=[0.6, 0.4], vertical_spacing=0.2)
    panels.update_layout(figure.layout)
    counts, edges = np.histogram(np.log10(ratios), bins=min(40, max(8, len(ratios) // 20)))
    middle = (edges[:-1] + edges[1:]) / 2
    colours = [COLOURS[0] if value < 0 else COLOURS[1] for value in middle]
    texts = [
        f"{count} draws from {10**a:.3g} to {10**b:.3g}"
        for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    panels.add_bar(
        x=middle.tolist(), y=counts.tolist(), width=np.diff(edges).tolist(), row=1, col=1,
        marker={"color": colours}, customdata=texts, hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )  # fmt: skip
    panels.add_vline(x=0.0, line=_LINE, row=1, col=1)
    _ratio_ticks(panels, ratios.tolist(), row=1, col=1)
    _add_tornado(panels, rows, row=2, col=1)
    panels.update_xaxes(automargin=True, gridcolor="#e8ebef")
    panels.update_yaxes(automargin=True, gridcolor="#e8ebef")
    panels.update_xaxes(title_text=plot_text(titles[0]), row=1, col=1)
    panels.update_yaxes(title_text="draws", row=1, col=1)
    panels.update_xaxes(title_text=plot_text(titles[1]), row=2, col=1)
    return panels


def _figure(x_title: str, y_title: str, caption: str, height: int) -> go.Figure:
    return blank(x_title, y_title, meta=caption, height=height, margin=_MARGIN)


def _logarithmic(figure: go.Figure, x: Axis, y: Axis) -> go.Figure:
    if x.log:
        figure.update_xaxes(type="log")
    if y.log:
        figure.update_yaxes(type="log")
    return figure


def _range(logs: np.ndarray, around_one: bool) -> tuple[float, float]:
    known = logs[np.isfinite(logs)]
    if not len(known):
        return -1.0, 1.0
    if around_one:
        end = max(float(np.abs(known).max()), 0.1)
        return -end, end
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.1, high + 0.1)


def _known(ends: Sequence[float]) -> bool:
    return all(map(math.isfinite, ends))


def _numbers(values: Sequence[float] | np.ndarray) -> list[object]:
    """JSON has no NaN: None where there is no value."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return [_numbers(row) for row in values]
    return [float(value) if math.isfinite(value) else None for value in values]


def _texts(values: Sequence[str]) -> list[str]:
    return [plot_text(value) for value in values]


def _symbols(hollow: Sequence[bool]) -> list[str]:
    return ["circle-open" if one else "circle" for one in hollow]


def _error(middle: Sequence[tuple[float, float, float]]) -> Options:
    """Bars from low to high; none where an end is not known."""
    up = [high - at if _known((at, high)) else 0.0 for at, _, high in middle]
    down = [at - low if _known((at, low)) else 0.0 for at, low, _ in middle]
    return {
        "type": "data", "symmetric": False, "array": up, "arrayminus": down,
        "thickness": 1, "width": 3, "color": "#5a6675",
    }  # fmt: skip
