"""Charts of a study's answer: heat maps, curves with intervals, fronts, bars around no change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from hybridsim.reports.figures import COLOURS, Options, blank
from hybridsim.reports.page import plot_text
from hybridsim.reports.units_text import Scale, scale_for

_BETTER = [[0.0, "#0072B2"], [0.5, "#f7f7f7"], [1.0, "#D55E00"]]
_AMOUNT = [[0.0, "#fff7e6"], [0.5, "#e69f00"], [1.0, "#7a2b05"]]
_MOST_TEXTS = 150
_FEWEST_TICKS = 3
_PREFIXED = ("s", "J", "b/s", "B/s", "Hz", "W", "ohm", "F", "V", "FLOP/s", "J/bit")
LINE: Options = {"color": "#1b2430", "width": 1, "dash": "dash"}
_MARGIN = {"l": 56, "r": 16, "t": 24, "b": 48}


class Axis(NamedTuple):
    """An axis.

    Attributes:
        title: what it says.
        log: it is logarithmic.
        unit: SI unit of its values, which are shown with a prefix that suits them; "" for none.
    """

    title: str
    log: bool = False
    unit: str = ""

    def shown(self, largest: float) -> tuple[str, float]:
        """The title with its unit, and what values are divided by."""
        if not self.unit:
            return self.title, 1.0
        scale = scale_for(largest, self.unit) if self.unit in _PREFIXED else Scale(1.0, self.unit)
        return f"{self.title} ({scale.unit})", scale.factor


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


def heat_map(heat: Heat, x_title: str, y_title: str, caption: str) -> go.Figure:
    """Rows by columns in colours; what is not trusted carries a ring."""
    figure = figure_of(x_title, y_title, caption, 130 + 34 * min(max(len(heat.y), 3), 18))
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
        x=texts_of(heat.x), y=texts_of(heat.y), z=_numbers(logs), zmin=low, zmax=high,
        colorscale=_BETTER if heat.around_one else _AMOUNT, colorbar=bar, xgap=1, ygap=1,
        text=short, customdata=[texts_of(row) for row in heat.texts],
        hovertemplate="%{customdata}<extra></extra>", hoverongaps=False, **options,
    )  # fmt: skip
    figure.add_scatter(
        x=[plot_text(heat.x[column]) for _, column in heat.marked],
        y=[plot_text(heat.y[row]) for row, _ in heat.marked],
        mode="markers", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 36, "color": "#1b2430"},
    )  # fmt: skip
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def curves(
    lines: Sequence[Curve],
    x: Axis,
    y: Axis,
    caption: str,
    level: float | None = None,
    places: Sequence[tuple[float, float, float]] = (),
) -> go.Figure:
    """Lines with their intervals, and a dashed line at ``level``; hollow places are not trusted.
    Vertical lines at ``places`` of the horizontal axis, with their intervals where these are known.
    """
    x_title, x_unit = x.shown(_largest([at for line in lines for at in line.x]))
    y_title, y_unit = y.shown(_largest([at for line in lines for at in line.y]))
    figure = figure_of(x_title, y_title, caption, 400)
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        spots = [at / x_unit if isinstance(at, float) else plot_text(at) for at in line.x]
        low, middle, high = (np.array(one) / y_unit for one in (line.low, line.y, line.high))
        known = [i for i, ends in enumerate(zip(low, high, strict=True)) if _known(ends)]
        if known:
            there = [spots[i] for i in known]
            edge = [float(high[i]) for i in known] + [float(low[i]) for i in reversed(known)]
            figure.add_scatter(
                x=there + there[::-1], y=edge, fill="toself", fillcolor=colour, opacity=0.15,
                mode="none", hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        figure.add_scatter(
            x=spots, y=_numbers(middle), name=plot_text(line.name), mode="lines+markers",
            customdata=texts_of(line.texts), hovertemplate="%{customdata}<extra></extra>",
            line={"color": colour, "width": 1.8},
            marker={"size": 7, "symbol": _symbols(line.hollow), "color": colour},
        )  # fmt: skip
    if level is not None:
        figure.add_hline(y=level / y_unit, line=LINE)
    for at, *ends in places:
        if _known(ends):
            start, stop = (end / x_unit for end in ends)
            figure.add_vrect(x0=start, x1=stop, fillcolor="#5a6675", opacity=0.15, line_width=0)
        figure.add_vline(x=at / x_unit, line={"color": "#5a6675", "width": 1.2})
    return _logarithmic(figure, x, y)


def front(dots: Sequence[Dot], x: Axis, y: Axis, caption: str) -> go.Figure:
    """Points of a plane, those of the front joined; hollow ones are not trusted."""
    x_title, x_unit = x.shown(_largest([dot.x[0] for dot in dots]))
    y_title, y_unit = y.shown(_largest([dot.y[0] for dot in dots]))
    figure = figure_of(x_title, y_title, caption, 420)
    best = sorted((dot for dot in dots if dot.front), key=lambda dot: (dot.x[0], -dot.y[0]))
    figure.add_scatter(
        x=[dot.x[0] / x_unit for dot in best], y=[dot.y[0] / y_unit for dot in best],
        mode="lines", hoverinfo="skip", showlegend=False,
        line={"color": "#1b2430", "width": 1.2, "shape": "hv"},
    )  # fmt: skip
    for index, series in enumerate(dict.fromkeys(dot.series for dot in dots)):
        own = [dot for dot in dots if dot.series == series]
        figure.add_scatter(
            x=[dot.x[0] / x_unit for dot in own], y=[dot.y[0] / y_unit for dot in own],
            mode="markers", name=plot_text(series), customdata=texts_of([dot.text for dot in own]),
            hovertemplate="%{customdata}<extra></extra>",
            error_x=_error([dot.x for dot in own], x_unit),
            error_y=_error([dot.y for dot in own], y_unit),
            marker={
                "color": COLOURS[index % len(COLOURS)], "symbol": _symbols([d.hollow for d in own]),
                "size": [11 if dot.front else 7 for dot in own],
            },
        )  # fmt: skip
    return _logarithmic(figure, x, y)


def bars(curve: Curve, x: Axis, caption: str, level: float | None = None) -> go.Figure:
    """Horizontal points with intervals, one below the other, named by the curve's x."""
    title, unit = x.shown(_largest(curve.y))
    figure = figure_of(title, "", caption, 110 + 30 * min(max(len(curve.x), 2), 40))
    middle = list(zip(curve.y, curve.low, curve.high, strict=True))
    figure.add_scatter(
        x=_numbers(np.array(curve.y) / unit), y=texts_of([str(name) for name in curve.x]),
        mode="markers", error_x=_error(middle, unit), customdata=texts_of(curve.texts),
        hovertemplate="%{y}<br>%{customdata}<extra></extra>", showlegend=False,
        marker={"size": 9, "color": COLOURS[0], "symbol": _symbols(curve.hollow)},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", ticks="")
    if level is not None:
        figure.add_vline(x=level / unit, line=LINE)
    return _logarithmic(figure, x, Axis(""))


def figure_of(x_title: str, y_title: str, caption: str, height: int) -> go.Figure:
    """An empty chart with what is said below it, and its height in pixels."""
    return blank(x_title, y_title, meta=caption, height=height, margin=_MARGIN)


def _logarithmic(figure: go.Figure, x: Axis, y: Axis) -> go.Figure:
    """Logarithmic axes with ticks at 1, 2, 5, of all that is drawn."""
    for axis, letter in ((x, "x"), (y, "y")):
        if axis.log:
            found = [trace[letter] for trace in figure.data if trace[letter] is not None]
            drawn = [at for own in found for at in own if isinstance(at, (int, float)) and at > 0]
            ticks = _log_ticks(drawn)
            texts = [f"{tick:g}" for tick in ticks]
            update = {"type": "log", "tickvals": ticks, "ticktext": texts}
            (figure.update_xaxes if letter == "x" else figure.update_yaxes)(**update)
    return figure


def _log_ticks(values: Sequence[float]) -> list[float]:
    if not values:
        return [1.0]
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = 1 if len(powers) <= 8 else math.ceil(len(powers) / 8)
    for leads in (
        (1,),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (*np.arange(1, 3, 0.1), 3, 4, 5, 6, 7, 8, 9),
    ):
        ticks = [float(f"{a * 10.0**power:.4g}") for power in powers[::every] for a in leads]
        if sum(low <= tick <= high for tick in ticks) >= _FEWEST_TICKS:
            return ticks
    return [float(f"{tick:.3g}") for tick in np.linspace(low, high, 4)]


def _largest(values: Sequence[float | str]) -> float:
    return max((at for at in values if isinstance(at, float) and math.isfinite(at)), default=0.0)


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


def texts_of(values: Sequence[str]) -> list[str]:
    """Texts that stay what they are in a chart."""
    return [plot_text(value) for value in values]


def _symbols(hollow: Sequence[bool]) -> list[str]:
    return ["circle-open" if one else "circle" for one in hollow]


def _error(middle: Sequence[tuple[float, float, float]], unit: float) -> Options:
    """Bars from low to high, in a unit; none where an end is not known."""
    if not any(map(_known, middle)):
        return {"visible": False}
    up = [(high - at) / unit if _known((at, high)) else 0.0 for at, _, high in middle]
    down = [(at - low) / unit if _known((at, low)) else 0.0 for at, low, _ in middle]
    return {
        "type": "data", "symmetric": False, "array": up, "arrayminus": down,
        "thickness": 1, "width": 3, "color": "#5a6675",
    }  # fmt: skip
