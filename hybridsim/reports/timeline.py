"""The timeline of one run: how busy every lane was, what every part drew, and one step operation by
operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hybridsim.errors import HybridsimError, InputError
from hybridsim.reports import page
from hybridsim.reports.activity import Activity, activity, static_power_w
from hybridsim.reports.figures import COLOURS
from hybridsim.reports.rows import MOST_ROWS, Rows, busiest, left_out, select
from hybridsim.reports.step_chart import Drawing, Window, draw
from hybridsim.reports.strips import Strip, strips
from hybridsim.reports.units_text import percent, quantity
from hybridsim.results.read import Run

MOST_BINS = 240
MOST_PATH = 250_000
_MACHINE = "whole machine"


def write_timeline(run: Run, path: Path | str, step: int | None = None) -> None:
    """Write the timeline of a run, finished or not, to one HTML file that needs no network.

    Args:
        run: the run.
        path: the file to write.
        step: the step to draw; one in the middle of the run by default.

    Raises:
        InputError: the run has no such step.
    """
    window = step_window(run, step)
    found = activity(run, MOST_BINS)
    sections = (_utilisation(found), _power(found, static_power_w(run)), _step(run, found, window))
    page.write_page(path, f"{run.name} – timeline", _head(run, found), *sections)


def step_section(run: Run, step: int | None = None) -> str:
    """A step operation by operation, one in the middle by default: a section for a page about the
    run.

    Raises:
        InputError: the run has no such step.
    """
    return _step(run, activity(run, MOST_BINS), step_window(run, step))


def step_window(run: Run, step: int | None) -> Window | None:
    """From start to end of a step; None for a run that has recorded none.

    Raises:
        InputError: the run has no such step.
    """
    steps = run.steps
    if step is None:
        if not len(steps):
            return None
        row = steps.iloc[len(steps) // 2]
    else:
        rows = steps[steps["step"] == step]
        if not len(rows):
            known = (
                f"one of {steps['step'].min()} to {steps['step'].max()}"
                if len(steps)
                else "none (no step ended)"
            )
            raise InputError(f"{run.folder}: step: expected {known}, got {step}")
        row = rows.iloc[0]
    return Window(int(row["step"]), int(row["start_ps"]), int(row["end_ps"]))


def _head(run: Run, found: Activity) -> str:
    facts = [f"status {run.status}", f"simulated time {quantity(found.bins.end_ps * 1e-12, 's')}"]
    facts += [f"{len(run.steps):,} steps", f"{found.spans:,} operations"]
    alarm = ""
    if run.status != "complete":
        reason = run.manifest.get("reason") or ""
        alarm = page.paragraph(
            f"This run is {run.status}, not complete. {reason} The page shows what was stored.",
            "alarm",
        )
    return f"<h1>{page.escape(run.name)}</h1>{page.paragraph(' · '.join(facts), 'meta')}{alarm}"


def _utilisation(found: Activity) -> str:
    if not found.spans:
        return page.section("Utilisation", page.paragraph("Nothing was recorded."))
    shares, time = found.in_service(), _totals(found)
    every = select(found.lanes(), lambda key: not found.is_flight(key))
    lanes = busiest(every, time)
    rows = Rows(lanes)
    colours = {part: COLOURS[i % len(COLOURS)] for i, part in enumerate(every)}
    length = max(found.bins.end_ps, 1)
    drawn = [
        Strip(
            row,
            page.plot_text(f"{part} · {lane}"),
            _share(time[part, lane] / length),
            shares[part, lane],
            max(1.0, float(shares[part, lane].max())),
            _pale(colours[part]) if found.is_background((part, lane)) else colours[part],
            "%{z:.3~%} of the time in service",
        )
        for (part, lane), row in rows.place.items()
    ]
    caption = (
        "Share of time in which each lane served an operation: a full strip is 100 %; at the "
        "right edge the mean over the run. "
        f"{_bins(found)} Drag to zoom, double-click for all."
    )
    if any(map(found.is_background, rows.place)):
        caption += (
            " Pale: continuous relaxation, which goes on in the background and occupies nothing."
        )
    caption += left_out(every)
    return page.section(
        "Utilisation", page.chart(strips(rows, drawn, found.bins), caption, rows.height(24))
    )


def _power(found: Activity, static_w: Mapping[str, float]) -> str:
    if not found.spans:
        return ""
    watts = found.power_w(static_w)
    colours = {part: COLOURS[i % len(COLOURS)] for i, part in enumerate(found.lanes())}
    total = np.sum(list(watts.values()), axis=0)
    means = {part: _mean(found, values) for part, values in watts.items()}
    kept = sorted(watts, key=lambda part: -means[part])[: MOST_ROWS - 1]
    rows = Rows({"": [_MACHINE, *(part for part in watts if part in kept)]})
    table = {_MACHINE: (total, sum(static_w.values()), "#5a6675")}
    table |= {
        part: (watts[part], static_w.get(part, 0.0), colours.get(part, COLOURS[-1]))
        for part in kept
    }
    drawn = [
        Strip(
            row,
            page.plot_text(part),
            f"{quantity(_mean(found, values), 'W')}<br> ≤ {quantity(float(values.max()), 'W')}",
            values,
            float(values.max()) or 1.0,
            colour,
            "%{z:.3~s}W",
            floor,
        )
        for (_, part), row in rows.place.items()
        for values, floor, colour in [table[part]]
    ]
    caption = (
        "Nominal power, every strip on its own scale; at the right edge the mean over the run "
        "and the highest bin. Grey foot: static "
        f"power. {_bins(found)}"
    )
    more = len(watts) - len(kept)
    caption += f" {more:,} parts with less power are not shown." if more > 0 else ""
    return page.section(
        "Power", page.chart(strips(rows, drawn, found.bins), caption, rows.height(38))
    )


def _step(run: Run, found: Activity, window: Window | None) -> str:
    if not found.spans:
        return ""
    title = f"Step {window.step:,}" if window else "The run so far"
    window = window or Window(-1, 0, found.bins.end_ps)
    every = found.lanes()
    critical = _critical(run, found)
    drawing = draw(run, window, busiest(every, _totals(found)), critical)
    chart = page.chart(
        drawing.figure, _legend_text(drawing, window, critical), drawing.rows.height(30)
    )
    text = page.paragraph(_step_text(drawing, window) + left_out(every), "note")
    return page.section(title, text, page.legend(drawing.legend), chart)


def _critical(run: Run, found: Activity) -> set[int]:
    """Spans on the critical path; none where it has a gap, or would take too much memory."""
    if found.spans > MOST_PATH:
        return set()
    try:
        return {segment.id for segment in run.path}
    except HybridsimError:
        return set()


def _step_text(drawing: Drawing, window: Window) -> str:
    length = quantity((window.end_ps - window.start_ps) * 1e-12, "s")
    text = (
        f"{length} long, from {quantity(window.start_ps * 1e-12, 's')}; "
        f"{drawing.operations:,} operations."
    )
    merged = drawing.bars.merged
    if merged:
        count = int((drawing.bars.service["spans"] > 1).sum())
        text += (
            f" {merged:,} of them are merged with close neighbours of their lane into "
            f"{count:,} bars."
        )
    return text


def _legend_text(drawing: Drawing, window: Window, critical: set[int]) -> str:
    service, text = (
        drawing.bars.service,
        "Point at a bar for its figures; drag to zoom, double-click for all.",
    )
    if len(drawing.bars.waits):
        text += " Thin grey bars below a lane: operations that wait to start."
    if not service["own"].all():
        text += " Hatched: other steps that overlap."
    if "background" in set(service["role"]):
        text += " Faint: continuous relaxation in the background."
    if "flight" in set(service["role"]):
        text += " Slim: propagation on a link, which holds nothing."
    if critical:
        text += " Dark line above a lane: the critical path, which decided when the run ended."
    elif drawing.operations:
        text += " The critical path is not marked in a run of this length."
    return text + " Upright strokes: operations too short to see at this width, or of no length."


def _totals(found: Activity) -> dict[tuple[str, str], float]:
    """Picoseconds in service per lane."""
    lengths = found.bins.lengths_ps()
    return {key: float(values @ lengths) for key, values in found.in_service().items()}


def _mean(found: Activity, values: np.ndarray) -> float:
    lengths = found.bins.lengths_ps()
    return float(values @ lengths / lengths.sum())


def _bins(found: Activity) -> str:
    return f"One bin is {quantity(found.bins.width_ps * 1e-12, 's')}."


def _share(share: float) -> str:
    return percent(share) if share == 0 or share >= 1e-3 else "< 0.1 %"


def _pale(colour: str) -> str:
    """The colour mixed with two parts of white."""
    mixed = [(int(colour[i : i + 2], 16) + 2 * 255) // 3 for i in (1, 3, 5)]
    return "#" + "".join(f"{value:02x}" for value in mixed)
