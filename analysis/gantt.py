"""A window of the run as a Gantt chart: lanes from top to bottom, simulated time from left to right."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hybridsim.analysis.figures import blank, colours_of
from hybridsim.analysis.page import plot_text
from hybridsim.analysis.units_text import Scale, quantity, scale_for, with_band
from hybridsim.results.read import Run

MOST_BARS = 2000
_PS = 1e-12


def middle_step(run: Run) -> Any | None:
    """The row of the step in the middle of the learning curve; None where there is no step."""
    return run.steps.iloc[len(run.steps) // 2] if len(run.steps) else None


def step_window(run: Run, step: Any) -> tuple[pd.DataFrame, int]:
    """Spans that overlap a step, and how many were left out: the shortest, if there are too many to draw."""
    spans = run.spans_between(int(step["start_ps"]), int(step["end_ps"]))
    length, waited = spans["end_ps"] - spans["start_ps"], spans["start_ps"] > spans["queued_ps"]
    longest = length.sort_values(ascending=False, kind="stable").index
    bars = (1 + waited.astype(int)).loc[longest].cumsum()
    shown = spans.loc[bars[bars <= MOST_BARS].index].rename(columns={"count": "operations"})
    return shown.sort_values(["part", "lane", "start_ps"]), len(spans) - len(shown)


def gantt(spans: pd.DataFrame, step: Any, critical: set[int]) -> go.Figure:
    """Bars of service (full) and waiting (pale); an outline marks the critical path, hatching other steps.

    Args:
        spans: what to draw, as ``step_window`` returns it.
        step: row of the step table; its start is the zero of the axis.
        critical: identifiers of the spans on the critical path.
    """
    zero_ps = int(step["start_ps"])
    scale = scale_for((int(step["end_ps"]) - zero_ps) * _PS, "s")
    figure = blank(f"time in the step ({scale.unit})", "", barmode="overlay", bargap=0.35)
    length = (int(step["end_ps"]) - zero_ps) * _PS / scale.factor
    figure.update_xaxes(range=[-0.01 * length, 1.01 * length])
    lanes = [_lane(*key) for key in sorted(set(zip(spans["part"], spans["lane"], strict=True)))]
    figure.update_yaxes(
        categoryorder="array", categoryarray=lanes, autorange="reversed", ticks="", showgrid=False, title=None
    )
    waiting = spans[spans["start_ps"] > spans["queued_ps"]]
    if len(waiting):
        figure.add_bar(**_waits(waiting, zero_ps, scale))
    colours = colours_of(spans["kind"].tolist())
    for kind, rows in spans.groupby("kind", sort=True):
        figure.add_bar(**_services(str(kind), rows, zero_ps, scale, colours[str(kind)], int(step["step"]), critical))
    return figure


def _records(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples())


def _lane(part: str, lane: str) -> str:
    return plot_text(f"{part} · {lane}")


def _waits(rows: pd.DataFrame, zero_ps: int, scale: Scale) -> dict[str, Any]:
    """Pale bars from queueing to start."""
    per = _PS / scale.factor
    texts = [f"{plot_text(row.kind)} of step {row.step} waits {_wait(row)}" for row in _records(rows)]
    return {
        "orientation": "h", "name": "waiting", "width": 0.25,
        "base": ((rows["queued_ps"] - zero_ps) * per).tolist(),
        "x": ((rows["start_ps"] - rows["queued_ps"]) * per).tolist(),
        "y": [_lane(row.part, row.lane) for row in _records(rows)],
        "marker": {"color": "#c9d0d8"},
        "customdata": texts, "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip


def _services(
    kind: str, rows: pd.DataFrame, zero_ps: int, scale: Scale, colour: str, step: int, critical: set[int]
) -> dict[str, Any]:
    """Bars of one kind of operation."""
    per = _PS / scale.factor
    on_path = [span in critical for span in rows["id"]]
    return {
        "orientation": "h", "name": plot_text(kind),
        "base": ((rows["start_ps"] - zero_ps) * per).tolist(),
        "x": ((rows["end_ps"] - rows["start_ps"]) * per).tolist(),
        "y": [_lane(row.part, row.lane) for row in _records(rows)],
        "marker": {
            "color": colour,
            "opacity": [0.3 if lane.startswith("~") else 1.0 for lane in rows["lane"]],
            "pattern": {"shape": ["" if own == step else "/" for own in rows["step"]], "solidity": 0.3},
            "line": {
                "color": ["#1b2430" if on else colour for on in on_path],
                "width": [1.8 if on else 0.5 for on in on_path],
            },
        },
        "customdata": [_hover(row, row.id in critical) for row in _records(rows)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip


def _wait(row: Any) -> str:
    return quantity((row.start_ps - row.queued_ps) * _PS, "s")


def _hover(row: Any, critical: bool) -> str:
    """Everything known about a span, one fact a line."""
    energy = {name: getattr(row, name) for name in ("energy_j", "energy_low_j", "energy_high_j")}
    name = f"{row.kind} {row.layer}".strip() + (f" × {row.operations}" if row.operations > 1 else "")
    lines = [
        f"<b>{plot_text(name)}</b>",
        f"{plot_text(row.part)} · {plot_text(row.lane)}, step {row.step}, span {row.id}",
        f"duration {quantity((row.end_ps - row.start_ps) * _PS, 's')}"
        f" (busy {quantity(row.busy_ps * _PS, 's')}), waited {_wait(row)}",
        f"energy {with_band(energy)}",
    ]
    work = {"bits": row.bits, "conversions": row.conversions, "writes": row.writes, "launches": row.launches}
    counts = [f"{value:,} {unit}" for unit, value in work.items() if value]
    counts += [quantity(row.flop, "FLOP")] if row.flop else []
    parents = ", ".join(map(str, list(row.parents)[:8])) + (" …" if len(row.parents) > 8 else "")
    lines += [", ".join(counts)] if counts else []
    lines += [f"after {parents or 'nothing'}" + (f", held up by {row.blocker}" if row.blocker >= 0 else "")]
    lines += ["on the critical path"] if critical else []
    return "<br>".join(lines + ([plot_text(row.note)] if row.note else []))
