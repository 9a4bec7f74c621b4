"""Runs side by side: learning curves on three axes, time and energy to target, and do they differ
at all.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridsim.errors import InputError
from hybridsim.reports import figures, page
from hybridsim.reports.export import to_latex, write_csv
from hybridsim.reports.groups import (
    Group,
    Measure,
    groups_of,
    per_step,
    seed_of,
    to_target,
    verdict,
)
from hybridsim.reports.statistics import FEWEST_FOR_INTERVAL, Interval, median_interval
from hybridsim.reports.units_text import band, energies_of, quantity
from hybridsim.reports.verdict import goal_text
from hybridsim.results.keys import ENERGY_NAMES
from hybridsim.results.read import Run

__all__ = ["compare_table", "groups_of", "to_latex", "verdict", "write_comparison", "write_csv"]
_GRID = 400
_COMPARED: tuple[Measure, ...] = ("seconds", "joules")


def compare_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per group: medians over its seeds, and bootstrap 95 % intervals of time and energy
    to target.

    A target that a run did not reach counts as infinitely late; intervals need 3 seeds.
    ``energy_low_j`` and ``energy_high_j`` are the bands of the datasheets' constants, ``*_ci_low``
    and ``*_ci_high`` the spread over seeds.

    Raises:
        InputError: no runs.
    """
    if not runs:
        raise InputError("compare: expected at least one run, got none")
    return pd.DataFrame([_line(group) for group in groups_of(runs)])


def _line(group: Group) -> dict[str, str | int | float]:
    summaries = [run.summary for run in group.runs]
    line: dict[str, str | int | float] = {"name": group.name, "seeds": len(summaries)}
    line["status"] = ", ".join(sorted({run.status for run in group.runs}))
    line["steps"] = float(np.median([summary["steps"] for summary in summaries]))
    line["simulated_s"] = float(np.median([summary["simulated_s"] for summary in summaries]))
    for name in ENERGY_NAMES:
        line[name] = float(np.median([summary["energy"]["total"][name] for summary in summaries]))
    for metric in ("train_loss", "test_loss", "test_accuracy"):
        values = [summary["final"][metric] for summary in summaries if metric in summary["final"]]
        line[f"final_{metric}"] = float(np.median(values)) if values else np.nan
    targets = [summary["target"] for summary in summaries if summary["target"]]
    line["target"] = ", ".join(sorted({goal_text(target) for target in targets})) or "none"
    line["reached"] = (
        f"{sum(target['reached'] for target in targets)}/{len(targets)}" if targets else "–"
    )
    columns: dict[str, Measure] = {"time_to_target_s": "seconds", "energy_to_target_j": "joules"}
    for column, key in columns.items():
        interval = median_interval(to_target(group, key))
        line |= {
            column: interval.median,
            f"{column}_ci_low": interval.low,
            f"{column}_ci_high": interval.high,
        }
    return line


def write_comparison(runs: Sequence[Run], path: Path | str) -> None:
    """Write a page that overlays runs; self-contained, like a report.

    Raises:
        InputError: no runs.
    """
    table, groups = compare_table(runs), groups_of(runs)
    title = " against ".join(group.name for group in groups[:3]) + (
        " and others" if len(groups) > 3 else ""
    )
    colours = dict(zip([g.name for g in groups], figures.COLOURS * len(groups), strict=False))
    head = f"<h1>{page.escape(title)}</h1>" + page.paragraph(
        f"{len(runs)} runs in {len(groups)} groups", "meta"
    )
    sections = (
        _verdicts(groups),
        _curves(groups, colours),
        _numbers(table),
        _sources(groups),
        _exports(table),
    )
    page.write_page(path, f"{title} – hybridsim", head, *sections)


def _verdicts(groups: Sequence[Group]) -> str:
    sentences = [page.paragraph(per_step(groups[0], other)) for other in groups[1:]]
    sentences += [
        page.paragraph(verdict(first, second, key))
        for first, second in combinations(groups, 2)
        for key in _COMPARED
    ]
    note = (
        "Pairs are runs with the same seed. The p-value is that of the exact sign-flip test of "
        "the log ratios, "
        "the interval a bootstrap over seeds. Energies are nominal: constants that both share "
        "move both."
    )
    return page.section("Verdict", *sentences, page.paragraph(note, "note")) if sentences else ""


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


def _numbers(table: pd.DataFrame) -> str:
    headers = [
        "Runs",
        "Target",
        "seeds",
        "reached",
        "time to target",
        "energy to target",
        "whole run",
        "energy",
        "low – high",
        "train loss",
        "accuracy",
    ]
    rows = [
        [
            *(line["name"], line["target"], line["seeds"], line["reached"]),
            _interval(line, "time_to_target_s", "s"),
            _interval(line, "energy_to_target_j", "J"),
            *(
                quantity(line["simulated_s"], "s"),
                quantity(line["energy_j"], "J"),
                band(energies_of(line)),
            ),
            *(_plain(line["final_train_loss"]), _plain(line["final_test_accuracy"])),
        ]
        for line in table.to_dict("records")
    ]
    note = (
        f"Medians over seeds; in brackets bootstrap 95 % intervals, from {FEWEST_FOR_INTERVAL} "
        "seeds on. "
        "A target not reached counts as infinitely late. Low – high: the band of the constants "
        "in the datasheets. "
        "Train loss and accuracy are the last ones."
    )
    return page.section("Numbers", page.table(headers, rows, text=2), page.paragraph(note, "note"))


def _interval(line: Mapping[Hashable, float], column: str, unit: str) -> str:
    found = Interval(line[column], line[f"{column}_ci_low"], line[f"{column}_ci_high"])
    if np.isnan(found.median):
        return "–"
    middle, low, high = ("never" if np.isinf(value) else quantity(value, unit) for value in found)
    return middle if np.isnan(found.low) else f"{middle} ({low} – {high})"


def _plain(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4g}"


def _sources(groups: Sequence[Group]) -> str:
    rows = [
        [group.name, str(run.folder), run.status, seed_of(run), run.manifest.get("digest", "")[:16]]
        for group in groups
        for run in group.runs
    ]
    return page.section(
        "Runs", page.table(["Group", "Folder", "Status", "seed", "digest"], rows, text=3)
    )


def _exports(table: pd.DataFrame) -> str:
    return page.section(
        "To take away",
        page.folded("CSV", page.preformatted(table.to_csv(index=False))),
        page.folded("LaTeX", page.preformatted(to_latex(table))),
    )
