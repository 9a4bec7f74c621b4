"""Runs side by side: learning curves on three axes, time and energy to target, and do they differ
at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridsim.errors import InputError
from hybridsim.reports import figures, page
from hybridsim.reports.export import to_latex, write_csv
from hybridsim.reports.groups import Group, Measure, groups_of, per_step, seed_of, verdict
from hybridsim.reports.outcomes import cells_of, common, compare_table, method_note, table_of
from hybridsim.results.read import Run

__all__ = [
    "cells_of",
    "common",
    "compare_table",
    "groups_of",
    "method_note",
    "sentences",
    "to_latex",
    "verdict",
    "write_comparison",
    "write_csv",
]
_GRID = 400
_MOST_FIELDS = 4
_COMPARED: tuple[Measure, ...] = ("seconds", "joules")


def write_comparison(runs: Sequence[Run], path: Path | str) -> None:
    """Write a page that overlays runs; self-contained, like a report.

    Raises:
        InputError: no runs.
    """
    if not runs:
        raise InputError("compare: expected at least one run, got none")
    groups = groups_of(runs)
    title = _heading(groups)
    colours = dict(zip([g.name for g in groups], figures.COLOURS * len(groups), strict=False))
    counts = f"{len(runs)} runs, {len(groups)} settings. {common(groups)}"
    head = f"<h1>{page.escape(title)}</h1>" + page.paragraph(counts, "meta")
    sections = (
        _numbers(groups),
        _verdicts(groups),
        _curves(groups, colours),
        _sources(groups),
        _exports(table_of(groups)),
    )
    page.write_page(path, f"{title} – hybridsim", head, *sections)


def _heading(groups: Sequence[Group]) -> str:
    titles = list(dict.fromkeys(group.title for group in groups))
    if len(titles) == 1 and len(groups) > 1:
        return f"{titles[0]}: {len(groups)} settings"
    return " against ".join(titles[:3]) + (" and others" if len(titles) > 3 else "")


def _verdicts(groups: Sequence[Group]) -> str:
    """Sentences for two groups; more of them are lines of the table, against its first."""
    found = sentences(groups)
    if not found:
        return ""
    note = (
        "Pairs are runs with the same seed. Energies are nominal: constants that both share move "
        "both."
    )
    return page.section("Verdict", *map(page.paragraph, found), page.paragraph(note, "note"))


def sentences(groups: Sequence[Group]) -> list[str]:
    """What can be said about two groups; nothing about another number of them."""
    if len(groups) != 2:
        return []
    first, second = groups
    return [per_step(first, second), *(verdict(first, second, key) for key in _COMPARED)]


def _curves(groups: Sequence[Group], colours: dict[str, str]) -> str:
    steps = pd.concat([run.steps for group in groups for run in group.runs], ignore_index=True)
    charts = [
        page.chart(
            _overlay(groups, metric, axis, colours),
            f"{figures.spell(metric).capitalize()} against {axis.word}.",
            300,
        )
        for metric in figures.metrics_of(steps)
        for axis in figures.axes_of(steps)
    ]
    if not charts:
        return page.section("Learning", page.paragraph("Not evaluated: no loss was recorded."))
    note = (
        "Where there are several seeds: the line is the median, the band the lowest to the "
        "highest seed."
    )
    return page.section(
        "Learning", page.legend(colours), page.paragraph(note, "note"), page.columns(*charts)
    )


_WIDTHS = (3.4, 2.2, 1.3)
"""Later curves are thinner, so that those that coincide can all be seen."""


def _overlay(
    groups: Sequence[Group], metric: str, axis: figures.Axis, colours: dict[str, str]
) -> go.Figure:
    figure, everything = figures.blank(axis.label, figures.spell(metric)), [np.array([])]
    for group in groups:
        curves = [
            curve for curve in (_curve(run, metric, axis) for run in group.runs) if len(curve[0])
        ]
        if not curves:
            continue
        x, rows = common_grid(curves)
        everything.append(rows.ravel())
        if len(curves) > 1:
            _draw_band(figure, x, rows, colours[group.name])
        figure.add_scatter(
            x=x.tolist(),
            y=np.median(rows, axis=0).tolist(),
            mode="lines",
            name=page.plot_text(group.name),
            line={
                "color": colours[group.name],
                "width": _WIDTHS[min(groups.index(group), len(_WIDTHS) - 1)],
            },
            hovertemplate=f"%{{fullData.name}}<br>%{{y:.4g}} at %{{x:.4g}} "
            f"{axis.scale.unit}<extra></extra>",
        )
    if metric.endswith("loss"):
        figures.logarithmic(figure, np.concatenate(everything))
    return figure.update_xaxes(rangemode="tozero")


def _curve(run: Run, metric: str, axis: figures.Axis) -> tuple[np.ndarray, np.ndarray]:
    """One run's values of a metric against an axis."""
    if metric not in run.steps:
        return np.array([]), np.array([])
    rows = figures.thinned(run.steps[run.steps[metric].notna()])
    return rows[axis.column].to_numpy(float) / axis.scale.factor, rows[metric].to_numpy(float)


def common_grid(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Curves interpolated linearly where all of them are known: grid (n,), values (curves, n)."""
    if all(np.array_equal(x, curves[0][0]) for x, _ in curves):
        return curves[0][0], np.stack([y for _, y in curves])
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(start, max(start, end), _GRID)
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])


def _draw_band(figure: go.Figure, x: np.ndarray, rows: np.ndarray, colour: str) -> None:
    edges = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(x=x.tolist(), y=rows.min(axis=0).tolist(), **edges)
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.18)"}
    figure.add_scatter(x=x.tolist(), y=rows.max(axis=0).tolist(), **edges, **fill)


def _numbers(groups: Sequence[Group]) -> str:
    """One table; two where what differs would push what came out off the page."""
    rows = cells_of(groups)
    headers, texts = list(rows[0]), _texts(groups)
    cells = [list(row.values()) for row in rows]
    note = (
        f"{method_note(groups)} Low – high: the band of the constants in the datasheets; those "
        "that lines share move their bands together. "
        f"{_revisions(groups)}"
    )
    if len(groups[0].fields) <= _MOST_FIELDS:
        tables = [page.table(headers, cells, text=texts)]
    else:
        own = texts - len(groups[0].fields)
        tables = [
            page.table(headers[:texts], [row[:texts] for row in cells], text=texts),
            page.table(
                headers[:own] + headers[texts:],
                [row[:own] + row[texts:] for row in cells],
                text=own,
            ),
        ]
    return page.section("What differs and what came out", *tables, page.paragraph(note, "note"))


def _texts(groups: Sequence[Group]) -> int:
    """Columns of text: number, name, what differs."""
    named = len(groups) == 1 or len({group.title for group in groups}) > 1
    return 1 + named + len(groups[0].fields)


def _revisions(groups: Sequence[Group]) -> str:
    """A warning where runs come from different sources of the simulator."""
    known = {str(run.manifest.get("git_revision") or "") for group in groups for run in group.runs}
    if len(known) < 2:
        return ""
    return f"The runs come from {len(known)} revisions of the simulator (see Provenance of each)."


def _sources(groups: Sequence[Group]) -> str:
    rows = [
        [group.name, str(run.folder), run.status, seed_of(run), run.manifest.get("digest", "")[:16]]
        for group in groups
        for run in group.runs
    ]
    table = page.table(["Group", "Folder", "Status", "seed", "digest"], rows, text=3)
    return page.section("Runs", page.folded(f"{len(rows)} run folders", table))


def _exports(table: pd.DataFrame) -> str:
    return page.section(
        "To take away",
        page.folded("CSV", page.preformatted(table.to_csv(index=False))),
        page.folded("LaTeX", page.preformatted(to_latex(table))),
    )
