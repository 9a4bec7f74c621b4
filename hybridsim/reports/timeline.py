"""The timeline of one run: how busy every lane was, what every part drew, and one step operation by
operation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridsim.errors import HybridsimError, InputError
from hybridsim.reports import page
from hybridsim.reports.activity import Activity, Key, activity, static_power_w
from hybridsim.reports.figures import COLOURS
from hybridsim.reports.kinds import Kinds, kinds_of
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
    kinds = kinds_of(run)
    sections = (
        _utilisation(found, kinds),
        _power(found, static_power_w(run), kinds),
        _step(run, found, window),
    )
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
            f"This run is not complete: {run.status_text}. {reason} The page shows what was "
            "stored.",
            "alarm",
        )
    return f"<h1>{page.escape(run.name)}</h1>{page.paragraph(' · '.join(facts), 'meta')}{alarm}"


def _utilisation(found: Activity, kinds: Kinds) -> str:
    if not found.spans:
        return page.section("Utilisation", page.paragraph("Nothing was recorded."))
    every = select(found.lanes(), lambda key: not found.is_flight(key))
    own = {key: Served(shares, found.is_background(key)) for key, shares in _in(found, every)}
    chart = _lanes_chart(found, every, own)
    if not kinds.several(every):
        return page.section("Utilisation", chart)
    summed: dict[Key, Served] = {}
    rows: dict[str, list[str]] = {}
    for (part, lane), served in own.items():
        key = kinds.label(part), kinds.lane(lane)
        share = served.shares / len(kinds.parts(key[0]))
        before = summed.get(key)
        summed[key] = Served(share if before is None else before.shares + share, served.background)
        if before is None:
            rows.setdefault(key[0], []).append(key[1])
    return page.section(
        "Utilisation", _lanes_chart(found, rows, summed), page.folded("Every part", chart)
    )


class Served(NamedTuple):
    """Mean number in service on a lane, per bin; ``background`` if it occupies nothing."""

    shares: np.ndarray
    background: bool


def _in(found: Activity, lanes: Mapping[str, Sequence[str]]) -> list[tuple[Key, np.ndarray]]:
    shares = found.in_service()
    return [((part, lane), shares[part, lane]) for part, names in lanes.items() for lane in names]


def _lanes_chart(
    found: Activity, every: Mapping[str, Sequence[str]], served: Mapping[Key, Served]
) -> str:
    """A strip per lane; parts alike are one, with the mean over them."""
    lengths = found.bins.lengths_ps()
    time = {key: float(one.shares @ lengths) for key, one in served.items()}
    rows = Rows(busiest(every, time))
    colours = {part: COLOURS[i % len(COLOURS)] for i, part in enumerate(every)}
    length = max(found.bins.end_ps, 1)
    drawn = []
    for (part, lane), row in rows.place.items():
        shares, background = served[part, lane]
        drawn.append(
            Strip(
                row,
                page.plot_text(f"{part} · {lane}"),
                _share(time[part, lane] / length),
                shares,
                max(1.0, float(shares.max())),
                _pale(colours[part]) if background else colours[part],
                "%{z:.3~%} of the time in service",
            )
        )
    caption = (
        "Share of time in which each lane served an operation, of parts alike the mean over "
        "them: a full strip is 100 %; at the right edge the mean over the run. "
        f"{_bins(found)} Drag to zoom, double-click for all."
    )
    if any(served[key].background for key in rows.place):
        caption += (
            " Pale: continuous relaxation, which goes on in the background and occupies nothing."
        )
    return page.chart(strips(rows, drawn, found.bins), caption + left_out(every), rows.height(24))


def _power(found: Activity, static_w: Mapping[str, float], kinds: Kinds) -> str:
    if not found.spans:
        return ""
    watts = found.power_w(static_w)
    chart = _power_chart(found, watts, static_w)
    if not kinds.several(watts):
        return page.section("Power", chart)
    summed: dict[str, np.ndarray] = {}
    for part, values in watts.items():
        label = kinds.label(part)
        summed[label] = summed[label] + values if label in summed else values
    floors: dict[str, float] = {}
    for part, value in static_w.items():
        floors[kinds.label(part)] = floors.get(kinds.label(part), 0.0) + value
    return page.section(
        "Power", _power_chart(found, summed, floors), page.folded("Every part", chart)
    )


def _power_chart(
    found: Activity, watts: Mapping[str, np.ndarray], static_w: Mapping[str, float]
) -> str:
    """A strip for the machine and one for each part, or for all parts alike."""
    colours = {part: COLOURS[i % len(COLOURS)] for i, part in enumerate(watts)}
    total = np.sum(list(watts.values()), axis=0)
    means = {part: _mean(found, values) for part, values in watts.items()}
    kept = sorted(watts, key=lambda part: -means[part])[: MOST_ROWS - 1]
    rows = Rows({"": [_MACHINE, *(part for part in watts if part in kept)]})
    table = {_MACHINE: (total, math.fsum(static_w.values()), "#5a6675")}
    table |= {part: (watts[part], static_w.get(part, 0.0), colours[part]) for part in kept}
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
    return page.chart(strips(rows, drawn, found.bins), caption, rows.height(38))


def _step(run: Run, found: Activity, window: Window | None) -> str:
    if not found.spans:
        return ""
    kinds = kinds_of(run)
    title = f"Step {window.step:,}" if window else "The run so far"
    window = window or Window(-1, 0, found.bins.end_ps)
    every, critical, totals = found.lanes(), _critical(run, found), _totals(found)
    whole = _step_chart(run, window, every, totals, critical)
    if not kinds.several(every):
        return page.section(title, *whole)
    weights = {part: sum(totals[part, lane] for lane in lanes) for part, lanes in every.items()}
    shown = kinds.representatives(weights.__getitem__, every)
    names = {part: f"{part}, of {kinds.label(part)}" for part in shown if kinds.alike(part)}
    note = f"Of parts alike the busiest is drawn: {'; '.join(names.values())}."
    one_each = {part: every[part] for part in shown}
    chart = _step_chart(run, window, one_each, totals, critical)
    return page.section(
        title, page.paragraph(note, "note"), *chart, page.folded("Every part", *whole)
    )


def _step_chart(
    run: Run,
    window: Window,
    lanes: Mapping[str, Sequence[str]],
    totals: Mapping[Key, float],
    critical: set[int],
) -> tuple[str, str, str]:
    """What is to be said, the colours, and the bars of the operations on some lanes."""
    drawing = draw(run, window, busiest(lanes, totals), critical)
    text = page.paragraph(_step_text(drawing, window) + left_out(lanes), "note")
    caption = _legend_text(drawing, window, critical)
    chart = page.chart(drawing.figure, caption, drawing.rows.height(30))
    return text, page.legend(drawing.legend), chart


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
