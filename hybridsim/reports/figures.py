"""Charts of one run: learning curve, where time went, where energy went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridsim.reports.page import plot_text
from hybridsim.reports.units_text import Scale, energies_of, quantity, scale_for, with_band
from hybridsim.results.keys import ENERGY_NAMES, Energies, operation

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6A3D9A",
    "#8C564B",
    "#B8A200",
    "#1B9AAA",
    "#A6192E",
    "#5A6675",
)
_FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif",
    "size": 12,
    "color": "#1b2430",
}
_AXIS = {
    "gridcolor": "#e8ebef",
    "zeroline": False,
    "linecolor": "#aab3bd",
    "ticks": "outside",
    "tickcolor": "#aab3bd",
}
Options = dict[str, Any]
"""What plotly is given: nested settings, whose types it checks itself."""
Row = Mapping[str, Any]
"""A row of a run's summary or manifest: names, counts and quantities."""
MOST_POINTS = 2000
MOST_BARS = 14


class Axis(NamedTuple):
    """What a learning curve is drawn against: a column of the steps, its unit, its label, a word
    for it.
    """

    column: str
    scale: Scale
    label: str
    word: str


def blank(x_title: str, y_title: str, **layout: Any) -> go.Figure:  # Any: as Options
    """An empty chart in the house style."""
    figure = go.Figure()
    figure.update_layout(
        template="none", font=_FONT, paper_bgcolor="#fff", plot_bgcolor="#fff", hovermode="closest",
        margin={"l": 56, "r": 12, "t": 10, "b": 44}, showlegend=False,
        hoverlabel={"align": "left", "bgcolor": "#fff", "bordercolor": "#aab3bd", "font": _FONT},
        xaxis={**_AXIS, "title": {"text": plot_text(x_title), "standoff": 8}, "automargin": True},
        yaxis={**_AXIS, "title": {"text": plot_text(y_title), "standoff": 8}, "automargin": True},
    )  # fmt: skip
    return figure.update_layout(**layout)


def axes_of(steps: pd.DataFrame) -> tuple[Axis, Axis, Axis]:
    """Steps, simulated time and energy, each in a unit that suits the run."""
    time, energy = scale_for(steps["time_s"].max(), "s"), scale_for(steps["energy_j"].max(), "J")
    return (
        Axis("step", Scale(1.0, "steps"), "training step", "training steps"),
        Axis("time_s", time, f"simulated time ({time.unit})", "simulated time"),
        Axis("energy_j", energy, f"energy, nominal ({energy.unit})", "energy"),
    )


def metrics_of(steps: pd.DataFrame) -> list[str]:
    """Columns of the learning curve that hold a loss or an accuracy, and at least one value."""
    names = [name for name in steps.columns if name.endswith(("loss", "accuracy"))]
    return [name for name in names if pd.to_numeric(steps[name], errors="coerce").notna().any()]


def spell(metric: str) -> str:
    """A column's name as words."""
    return metric.replace("_", " ")


def thinned(steps: pd.DataFrame) -> pd.DataFrame:
    """At most ``MOST_POINTS`` rows, evenly spaced, the last always among them."""
    if len(steps) <= MOST_POINTS:
        return steps
    return steps.iloc[np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int))]


def learning_curve(
    steps: pd.DataFrame,
    metric: str,
    axis: Axis,
    target: Row | None,
    energy: Energies,
) -> go.Figure:
    """One metric against one axis, with the target; on the energy axis the run's low to high is
    shaded.
    """
    rows = thinned(steps[steps[metric].notna()])
    figure = blank(axis.label, spell(metric))
    x, y = rows[axis.column].to_numpy(float) / axis.scale.factor, rows[metric].to_numpy(float)
    end = float(steps[axis.column].max()) / axis.scale.factor
    if axis.column == "energy_j":
        end = max(end, _shade_band(figure, energy, axis))
    figure.update_xaxes(range=[0, 1.03 * end])
    figure.add_scatter(
        x=x.tolist(), y=y.tolist(), mode="lines+markers" if len(rows) < 80 else "lines",
        hovertemplate=f"%{{y:.4g}} at %{{x:.4g}} {axis.scale.unit}<extra></extra>",
        line={"color": COLOURS[0], "width": 1.8}, marker={"size": 4},
    )  # fmt: skip
    if target is not None and target["metric"] == metric:
        _mark_target(figure, target, axis, end)
    if metric.endswith(("loss", "error")):
        logarithmic(figure, y)
    return figure


def logarithmic(figure: go.Figure, values: np.ndarray) -> None:
    """A logarithmic vertical axis with ticks at 1, 2, 5, where the values span enough for it."""
    known = values[np.isfinite(values)]
    if not len(known) or known.min() <= 0 or known.max() < 3 * known.min():
        return
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    leads = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [lead * 10.0**power for power in np.arange(low, high + 1) for lead in leads]
    figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_yaxes(title_text=f"{figure.layout.yaxis.title.text} (log)")


def _mark_target(figure: go.Figure, target: Row, axis: Axis, end: float) -> None:
    """A dashed line at the threshold; a diamond where it was reached."""
    threshold = target["threshold"]
    figure.add_scatter(
        x=[0, 1.03 * end], y=[threshold, threshold], mode="lines", hoverinfo="skip",
        line={"dash": "dash", "width": 1.2, "color": COLOURS[1]},
    )  # fmt: skip
    where = {"step": target["step"], "time_s": target["seconds"], "energy_j": target["joules"]}[
        axis.column
    ]
    if where is not None:
        figure.add_scatter(
            x=[where / axis.scale.factor], y=[threshold], mode="markers",
            marker={"size": 10, "symbol": "diamond", "color": COLOURS[1]},
            hovertemplate=f"target reached at %{{x:.4g}} {axis.scale.unit}<extra></extra>",
        )  # fmt: skip


def _shade_band(figure: go.Figure, energy: Energies, axis: Axis) -> float:
    """Shade low to high of the whole run, with a line at nominal; returns the high end."""
    nominal, low, high = (energy[name] / axis.scale.factor for name in ENERGY_NAMES)
    figure.add_vrect(x0=low, x1=high, fillcolor="#e6eaef", line_width=0, layer="below")
    figure.add_vline(x=nominal, line={"color": "#8793a1", "width": 1, "dash": "dot"}, layer="below")
    return high


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour per name, in alphabetic order, the same in every chart."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(sorted(set(names)))}


def largest(rows: Sequence[Row], value: str) -> list[Row]:
    """The largest rows, largest first, and one that sums up the others, where there are many."""
    ordered = sorted(rows, key=lambda row: -row[value])
    if len(ordered) <= MOST_BARS:
        return ordered
    shown, rest = ordered[: MOST_BARS - 1], ordered[MOST_BARS - 1 :]
    numbers = {  # fsum: from 3.12 on, Python's sum rounds floats otherwise than before
        key: (math.fsum if isinstance(cell, float) else sum)(row[key] for row in rest)
        for key, cell in rest[0].items()
        if isinstance(cell, float | int)
    }
    names = {"part": "everything else", "kind": f"{len(rest)} more", "factor": ""}
    return [*shown, {**rest[0], **names, **numbers}]


def _bars(
    rows: Sequence[Row], colours: Mapping[str, str], x_title: str
) -> tuple[go.Figure, Options]:
    """An empty horizontal bar chart, and what its bars have in common: one per part and kind."""
    labels = [
        f"{plot_text(row['part'])} · {plot_text(operation(row['kind'], row['factor']))}"
        for row in rows
    ]
    figure = blank(x_title, "", bargap=0.3)
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, title=None)
    marker = {"color": [colours.get(row["part"], COLOURS[-1]) for row in rows]}
    return figure, {"y": labels, "orientation": "h", "marker": marker}


def path_shares(shares: Sequence[Row], colours: Mapping[str, str]) -> go.Figure:
    """What each part and kind contributes to the critical path, in per cent of its length."""
    rows = largest(shares, "share")
    figure, common = _bars(rows, colours, "share of the critical path (%)")
    inside = ["inside" if row["share"] > 0.5 * rows[0]["share"] else "outside" for row in rows]
    figure.add_bar(
        x=[100 * row["share"] for row in rows], textposition=inside, cliponaxis=False,
        text=[f"{100 * row['share']:.3g} %" for row in rows],
        customdata=[quantity(row["time_s"], "s") for row in rows],
        hovertemplate="%{y}<br>%{x:.4g} % of the path, %{customdata}<extra></extra>", **common,
    )  # fmt: skip
    return figure


def times(rows: Sequence[Row], colours: Mapping[str, str]) -> go.Figure:
    """Time in service (full) and time waited for it (pale), per part and kind."""
    shown = largest(rows, "time_s")
    scale = scale_for(max((row["time_s"] + row["wait_s"] for row in shown), default=0.0), "s")
    figure, common = _bars(shown, colours, f"sum over all operations ({scale.unit})")
    for column, opacity, word in (("time_s", 1.0, "in service"), ("wait_s", 0.35, "waiting")):
        hover = [
            f"{quantity(row[column], 's')} {word}, {row['spans']:,} operations" for row in shown
        ]
        figure.add_bar(
            x=[row[column] / scale.factor for row in shown], customdata=hover, opacity=opacity,
            hovertemplate="%{y}<br>%{customdata}<extra></extra>", **common,
        )  # fmt: skip
    return figure.update_layout(barmode="stack")


def energies(rows: Sequence[Row], colours: Mapping[str, str]) -> go.Figure:
    """Joules per part and kind, with a bar from low to high."""
    shown = largest(rows, "energy_j")
    scale = scale_for(max((row["energy_high_j"] for row in shown), default=0.0), "J")
    figure, common = _bars(shown, colours, f"energy ({scale.unit})")
    nominal, low, high = (
        np.array([row[name] for row in shown]) / scale.factor
        for name in ("energy_j", "energy_low_j", "energy_high_j")
    )
    error = {
        "type": "data",
        "symmetric": False,
        "array": (high - nominal).tolist(),
        "arrayminus": (nominal - low).tolist(),
    }
    common["marker"]["pattern"] = {
        "shape": ["/" if row["origin"] == "static" else "" for row in shown]
    }
    figure.add_bar(
        x=nominal.tolist(), customdata=[with_band(energies_of(row)) for row in shown],
        error_x={**error, "color": "#1b2430", "thickness": 1.2, "width": 4},
        hovertemplate="%{y}<br>%{customdata}<extra></extra>", **common,
    )  # fmt: skip
    return figure


def height_of(rows: int) -> int:
    """Height in pixels of a chart with one bar per row."""
    return 80 + 26 * min(max(rows, 1), MOST_BARS)
