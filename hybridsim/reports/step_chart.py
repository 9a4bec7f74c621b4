"""One step as bars: part and lane from top to bottom, simulated time from left to right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import pandas as pd
import plotly.graph_objects as go

from hybridsim.reports.figures import COLOURS, Options
from hybridsim.reports.merging import SEVERAL, Bars, bars
from hybridsim.reports.page import plot_text
from hybridsim.reports.rows import Rows
from hybridsim.reports.units_text import Scale, energies_of, quantity, scale_for, with_band
from hybridsim.results.keys import operation
from hybridsim.results.read import Run

MOST_BARS = 2000
_PALETTE = (*COLOURS, "#5C7A29", "#E58B88", "#3E4C5E", "#9C8AA5")
_PS = 1e-12
_INK, _WAIT, _MIXED = "#1b2430", "#b4bdc7", "#8d99a6"
_INVISIBLE = 1 / 1500
_MOST_PARENTS = 5


class Window(NamedTuple):
    """A stretch of simulated time, and the step that it shows (-1: the whole run)."""

    step: int
    start_ps: int
    end_ps: int


class Drawing(NamedTuple):
    """The chart with what is to be said about it; ``legend`` names its colours."""

    figure: go.Figure
    rows: Rows
    legend: dict[str, str]
    bars: Bars
    operations: int


class _Bar(NamedTuple):
    """A row of ``Bars``; of those that wait only what ``_waiting`` shows is there."""

    part: str
    lane: str
    role: str
    kind: str
    layer: str
    note: str
    id: int
    step: int
    start_ps: int
    end_ps: int
    wait_ps: int
    service_ps: int
    spans: int
    operations: int
    blocker: int
    parents: Sequence[int]
    own: bool
    critical: bool
    bits: int
    conversions: int
    writes: int
    launches: int
    flop: float


def draw(
    run: Run, window: Window, lanes: Mapping[str, Iterable[str]], critical: set[int]
) -> Drawing:
    """Bars of all operations that overlap a window on the given lanes, ``MOST_BARS`` at most."""
    spans = run.spans_between(window.start_ps, window.end_ps)
    factors = zip(spans["kind"], spans["factor"], strict=True)
    spans = spans.assign(kind=[operation(kind, factor) for kind, factor in factors])
    known = {int(id): str(kind) for id, kind in zip(spans["id"], spans["kind"], strict=True)}
    present = set(zip(spans["part"], spans["lane"], strict=True))
    rows = Rows(
        {part: [lane for lane in names if (part, lane) in present] for part, names in lanes.items()}
    )
    spans = spans[[key in rows.place for key in zip(spans["part"], spans["lane"], strict=True)]]
    own = (spans["step"] == window.step) if window.step >= 0 else True
    found = bars(spans.assign(own=own, critical=spans["id"].isin(critical)), MOST_BARS)
    kinds = list(dict.fromkeys(spans.sort_values(["start_ps", "id"])["kind"]))
    legend = _legend(kinds)
    colours = {kind: legend.get(kind) or legend[_verb(kind)] for kind in kinds} | {SEVERAL: _MIXED}
    if SEVERAL in set(found.service["kind"]):
        legend[SEVERAL] = _MIXED
    return Drawing(_figure(rows, found, window, colours, known), rows, legend, found, len(spans))


def _legend(kinds: list[str]) -> dict[str, str]:
    """A colour per kind in the order of first use; where there are too many kinds, per first word
    of their names.
    """
    names = kinds if len(kinds) <= len(_PALETTE) else list(dict.fromkeys(map(_verb, kinds)))
    return {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(names)}


def _verb(kind: str) -> str:
    return kind.split(" ")[0]


def _figure(
    rows: Rows, found: Bars, window: Window, colours: dict[str, str], known: dict[int, str]
) -> go.Figure:
    length = max(window.end_ps - window.start_ps, 1)
    scale = scale_for(length * _PS, "s")
    figure = rows.chart(
        f"time since the start of the step ({scale.unit})"
        if window.step >= 0
        else f"simulated time ({scale.unit})",
        barmode="overlay",
        uniformtext={"mode": "hide", "minsize": 9},
    )
    width = length * _PS / scale.factor
    figure.update_xaxes(range=[-0.004 * width, 1.004 * width])
    if len(found.waits):
        figure.add_bar(**_waits(found.waits, rows, window, scale, known))
    for kind, service in found.service.groupby("kind", sort=False):
        figure.add_bar(**_service(service, rows, window, scale, colours[str(kind)], known))
    critical = found.service[found.service["critical"]]
    if len(critical):
        figure.add_bar(**_path(critical, rows, window, scale))
    tiny = found.service[found.service["end_ps"] - found.service["start_ps"] < length * _INVISIBLE]
    if len(tiny):
        figure.add_scatter(**_ticks(tiny, rows, window, scale, colours, known))
    return figure


def _waits(
    waits: pd.DataFrame, rows: Rows, window: Window, scale: Scale, known: dict[int, str]
) -> Options:
    """Pale, thin bars below the service of others, from the moment of queueing to the start."""
    texts = [_waiting(bar, known) for bar in _records(waits)]
    return {
        **_extent(waits, window, scale),
        "orientation": "h",
        "width": 0.14,
        "marker": {"color": _WAIT},
        "y": [rows.place[bar.part, bar.lane] + 0.37 for bar in _records(waits)],
        "customdata": texts,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _waiting(bar: _Bar, known: dict[int, str]) -> str:
    place = f"{plot_text(bar.part)} · {plot_text(bar.lane)}"
    if bar.spans > 1:
        return f"<b>{bar.spans:,} operations wait</b><br>{place}<br>{_time(bar.wait_ps)} in sum"
    held = f"<br>held up by {_name(bar.blocker, known)}" if bar.blocker >= 0 else ""
    return f"<b>{plot_text(bar.kind)} waits</b><br>{place}<br>{_time(bar.wait_ps)}{held}"


def _service(
    service: pd.DataFrame,
    rows: Rows,
    window: Window,
    scale: Scale,
    colour: str,
    known: dict[int, str],
) -> Options:
    """Bars of one kind; hatching marks other steps, pallor the background."""
    found = _records(service)
    return {
        **_extent(service, window, scale),
        "orientation": "h",
        "width": [0.3 if bar.role == "flight" else 0.64 for bar in found],
        "y": [rows.place[bar.part, bar.lane] for bar in found],
        "text": [plot_text(bar.kind) for bar in found],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "insidetextfont": {"color": "#fff", "size": 10},
        "marker": {
            "color": colour,
            "opacity": [0.35 if bar.role == "background" else 1.0 for bar in found],
            "pattern": {
                "shape": ["" if bar.own else "/" for bar in found],
                "solidity": 0.35,
                "size": 6,
            },
            "line": {"color": colour, "width": 0.6},
        },
        "customdata": [_hover(bar, window, known) for bar in found],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _path(critical: pd.DataFrame, rows: Rows, window: Window, scale: Scale) -> Options:
    """A dark line above the service that lies on the critical path."""
    return {
        **_extent(critical, window, scale),
        "orientation": "h",
        "width": 0.09,
        "hoverinfo": "skip",
        "y": [rows.place[bar.part, bar.lane] - 0.4 for bar in _records(critical)],
        "marker": {"color": _INK, "line": {"color": _INK, "width": 0.8}},
    }


def _ticks(
    tiny: pd.DataFrame,
    rows: Rows,
    window: Window,
    scale: Scale,
    colours: dict[str, str],
    known: dict[int, str],
) -> Options:
    """Upright strokes for what is too short to see at this width, or has no length at all."""
    found = _records(tiny)
    middle = [
        ((bar.start_ps + bar.end_ps) / 2 - window.start_ps) * _PS / scale.factor for bar in found
    ]
    return {
        "x": _numbers(middle),
        "y": [rows.place[bar.part, bar.lane] for bar in found],
        "mode": "markers",
        "marker": {
            "symbol": "line-ns",
            "size": 13,
            "line": {"width": 2, "color": [colours[bar.kind] for bar in found]},
        },
        "customdata": [_hover(bar, window, known) for bar in found],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _extent(frame: pd.DataFrame, window: Window, scale: Scale) -> dict[str, list[float]]:
    """Base and length: differences are taken in whole picoseconds."""
    per = _PS / scale.factor
    return {
        "base": _numbers((frame["start_ps"] - window.start_ps) * per),
        "x": _numbers((frame["end_ps"] - frame["start_ps"]) * per),
    }


def _hover(bar: _Bar, window: Window, known: dict[int, str]) -> str:
    """Everything known about a bar, one fact a line."""
    return "<br>".join(_merged_lines(bar, window) if bar.spans > 1 else _lines(bar, window, known))


def _lines(bar: _Bar, window: Window, known: dict[int, str]) -> Iterator[str]:
    layer = f", layer {plot_text(bar.layer)}" if bar.layer else ""
    yield f"<b>{plot_text(bar.kind)}</b>" + (f" × {bar.operations:,}" if bar.operations > 1 else "")
    yield f"{plot_text(bar.part)} · {plot_text(bar.lane)}, step {bar.step}{layer}, #{bar.id}"
    yield f"{_time(bar.end_ps - bar.start_ps)} from {_time(bar.start_ps - window.start_ps)}"
    yield f"energy {with_band(energies_of(bar._asdict()))}"
    yield from _work(bar)
    if bar.wait_ps:
        held = f", held up by {_name(bar.blocker, known)}" if bar.blocker >= 0 else ""
        yield f"waited {_time(bar.wait_ps)}{held}"
    parents = [_name(int(parent), known) for parent in bar.parents]
    more = f" and {len(parents) - _MOST_PARENTS} more" if len(parents) > _MOST_PARENTS else ""
    if parents:
        yield f"after {', '.join(parents[:_MOST_PARENTS])}{more}"
    if bar.critical:
        yield "on the critical path"
    if bar.note:
        yield plot_text(bar.note)


def _merged_lines(bar: _Bar, window: Window) -> Iterator[str]:
    yield f"<b>{plot_text(bar.kind)}</b>, {bar.spans:,} operations merged"
    yield f"{plot_text(bar.part)} · {plot_text(bar.lane)}, from #{bar.id}"
    length = max(bar.end_ps - bar.start_ps, 1)
    yield (
        f"{_time(length)} from {_time(bar.start_ps - window.start_ps)}, "
        f"{100 * bar.service_ps / length:.3g} % in service"
    )
    yield f"energy {with_band(energies_of(bar._asdict()))}"
    yield from _work(bar)
    if bar.wait_ps:
        yield f"waited {_time(bar.wait_ps)} in sum"


def _work(bar: _Bar) -> Iterator[str]:
    work = {
        "bits": bar.bits,
        "conversions": bar.conversions,
        "resistors written": bar.writes,
        "launches": bar.launches,
    }
    found = [f"{value:,} {name}" for name, value in work.items() if value]
    found += [quantity(bar.flop, "FLOP")] if bar.flop else []
    if found:
        yield ", ".join(found)


def _name(span: int, known: dict[int, str]) -> str:
    return (
        f"{plot_text(known[span])} #{span}" if span in known else f"#{span} (outside this window)"
    )


def _time(time_ps: int) -> str:
    return quantity(time_ps * _PS, "s") if time_ps >= 0 else f"−{quantity(-time_ps * _PS, 's')}"


def _numbers(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.10g}") for value in values]


def _records(frame: pd.DataFrame) -> list[_Bar]:
    """Rows as named tuples; ``count`` would hide the tuple's own method."""
    return cast("list[_Bar]", list(frame.rename(columns={"count": "operations"}).itertuples()))
