"""Rows of a chart: a heading per part and a row per lane below it, from top to bottom on a numeric
axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from hybridsim.reports.figures import Options, blank
from hybridsim.reports.page import plot_text

MOST_ROWS = 80
_LONGEST = 15
_LEFT = 112


class Rows:
    """Where each lane stands.

    Args:
        lanes: lanes by part, in the order in which they are to stand; a part called "" gets no
            heading.
    """

    def __init__(self, lanes: Mapping[str, Sequence[str]]) -> None:
        self.place: dict[tuple[str, str], int] = {}
        self.headings: dict[str, int] = {}
        self.count = 0
        for part, names in lanes.items():
            if names and part:
                self.headings[part] = self.count
                self.count += 1
            for lane in names:
                self.place[part, lane] = self.count
                self.count += 1

    def axis(self) -> Options:
        """Settings of the vertical axis: lanes as labels, parts in bold, no zoom."""
        labels = {row: f"<b>{short(part)}</b>" for part, row in self.headings.items()}
        labels |= {row: short(lane) for (_, lane), row in self.place.items()}
        return {
            "tickmode": "array", "tickvals": list(labels), "ticktext": list(labels.values()),
                "ticks": "", "title": None,
            "automargin": False, "range": [self.count - 0.45, -0.55], "fixedrange": True,
                "showgrid": False, "showline": False,
        }  # fmt: skip

    def lines(self) -> list[Options]:
        """A hairline above every part."""
        line = {"color": "#dde2e8", "width": 1}
        return [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": row - 0.5, "y1": row - 0.5,
                "line": line, "layer": "below"}
            for row in self.headings.values()
        ]  # fmt: skip

    def chart(self, x_title: str, **layout: Any) -> go.Figure:  # Any: as Options
        """An empty chart with these rows."""
        margin = {"l": _LEFT, "r": 10, "t": 6, "b": 44, **layout.pop("margin", {})}
        figure = blank(x_title, "", shapes=self.lines(), margin=margin, **layout)
        return figure.update_yaxes(**self.axis()).update_xaxes(showgrid=True)

    def height(self, pixels: int) -> int:
        """Height of a chart with rows of so many pixels."""
        return 64 + pixels * self.count


def busiest(
    lanes: Mapping[str, Sequence[str]], time: Mapping[tuple[str, str], float]
) -> dict[str, list[str]]:
    """The ``MOST_ROWS`` lanes with the most time on them, in their old order."""
    keys = [(part, lane) for part, names in lanes.items() for lane in names]
    kept = set(sorted(keys, key=lambda key: -time.get(key, 0.0))[:MOST_ROWS])
    return {part: [lane for lane in names if (part, lane) in kept] for part, names in lanes.items()}


def left_out(lanes: Mapping[str, Sequence[str]]) -> str:
    """A sentence that says how many lanes ``busiest`` left out, or nothing."""
    more = sum(map(len, lanes.values())) - MOST_ROWS
    return f" The {MOST_ROWS} busiest lanes are shown, {more:,} more are not." if more > 0 else ""


def short(name: str) -> str:
    """A label that leaves room for the chart; the full name stands in the hover text."""
    return plot_text(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")


def select(
    lanes: Mapping[str, Iterable[str]], keep: Callable[[tuple[str, str]], bool]
) -> dict[str, list[str]]:
    """The lanes that satisfy ``keep((part, lane))``."""
    return {part: [lane for lane in names if keep((part, lane))] for part, names in lanes.items()}
