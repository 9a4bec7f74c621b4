"""The report of one run: a page that answers whether it trained, how long it took, what it cost and
why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hybridsim.reports import figures, page
from hybridsim.reports.kinds import MOST_LISTED, Kinds, Row, kinds_of, listed
from hybridsim.reports.placement import placement
from hybridsim.reports.provenance import assumptions, events, provenance
from hybridsim.reports.thresholds import thresholds
from hybridsim.reports.timeline import step_section
from hybridsim.reports.units_text import percent, quantity
from hybridsim.reports.verdict import head
from hybridsim.results.keys import ENERGY_NAMES, operation
from hybridsim.results.read import Run
from hybridsim.results.solves import EFFECTS, dissipation_over_minimum


def write_report(run: Run, path: Path | str) -> None:
    """Write the report of a run, finished or not, to one HTML file that needs no network.

    Args:
        run: the run.
        path: the file to write.
    """
    sections = (
        thresholds,
        _learning,
        _fidelity,
        _time,
        _energy,
        step_section,
        placement,
        _lanes,
        events,
        assumptions,
        provenance,
    )
    page.write_page(
        path, f"{run.name} – hybridsim", head(run), *(section(run) for section in sections)
    )


def _learning(run: Run) -> str:
    names, target, energy = (
        figures.metrics_of(run.steps),
        run.summary["target"],
        run.summary["energy"]["total"],
    )
    if not names:
        return page.section(
            "Learning",
            page.paragraph("Not evaluated: a timing-only run has no losses, or no step ended."),
        )
    charts = [
        page.chart(
            figures.learning_curve(run.steps, name, axis, target, energy),
            f"{figures.spell(name).capitalize()} against {axis.word}.",
            height=240,
        )
        for name in names
        for axis in figures.axes_of(run.steps)
    ]
    return page.section(
        "Learning", page.paragraph(_learning_note(run), "note"), page.columns(*charts)
    )


def _fidelity(run: Run) -> str:
    """How well the analog answers solve what was asked; nothing for algorithms that ask for no
    solution.
    """
    parts = [f"solver_error_{effect}" for effect in EFFECTS]
    names = [
        n
        for n in ("solver_cosine", "solver_relative_error", *parts)
        if n in run.steps and run.steps[n].notna().any()
    ]
    if not names:
        return ""
    axis, energy = figures.axes_of(run.steps)[0], run.summary["energy"]["total"]
    charts = [
        page.chart(
            figures.learning_curve(run.steps, name, axis, None, energy),
            figures.spell(name).capitalize(),
            240,
        )
        for name in names
    ]
    note = (
        "Every reading that was checked, against the exact digital solution of the system last "
        "asked for, nothing "
        "rounded. The rest of the difference is settling time, noise and rounding."
    )
    ratio = dissipation_over_minimum(run.steps)
    if ratio is not None:
        note += (
            f" A settle dissipates {ratio:.2g} times the least that moving its state so far in its "
            "time takes (median; the resistors alone)."
        )
    return page.section("Analog fidelity", page.paragraph(note, "note"), page.columns(*charts))


def _learning_note(run: Run) -> str:
    note = (
        "Energy is nominal. Shaded: the whole run, from its low to its high estimate; "
        "dotted: nominal."
    )
    if run.summary["target"]:
        note += " Dashed: the target; diamond: where it was reached."
    if len(run.steps) > figures.MOST_POINTS:
        note += f" Curves show {figures.MOST_POINTS:,} of {len(run.steps):,} steps."
    return note


def _colours(run: Run) -> dict[str, str]:
    rows = (*run.summary["times"], *run.summary["energy"]["by_part_kind"])
    kinds = kinds_of(run)
    return figures.colours_of([kinds.label(row["part"]) for row in rows])


def _time(run: Run) -> str:
    kinds, operations = kinds_of(run), ("kind", "factor")
    shares = kinds.sums(run.summary["critical_path"]["shares"], operations, ("time_s", "share"))
    served = [row for row in run.summary["times"] if row["role"] != "background"]
    rows = kinds.sums(served, operations, ("time_s", "wait_s", "spans"))
    path = page.chart(
        figures.path_shares(shares, _colours(run)),
        "The chain of operations that decided when the run ended. Making anything else faster "
        "gains nothing.",
        figures.height_of(len(shares)),
    )
    times = page.chart(
        figures.times(rows, _colours(run)),
        "Time in service (full) and waiting (pale) of all operations; what overlaps counts each "
        "time.",
        figures.height_of(len(rows)),
    )
    return page.section("Where time went", page.columns(path, times, kind="wide"), _latency(run))


_LATENCIES: dict[Literal["p50_s", "p95_s", "p99_s", "mean_s", "max_s"], str] = {
    "p50_s": "median",
    "p95_s": "95th percentile",
    "p99_s": "99th percentile",
    "mean_s": "mean",
    "max_s": "longest",
}


def _latency(run: Run) -> str:
    latency, rate = run.summary["step_latency"], run.summary["throughput"]
    if latency is None:
        return ""
    cells = [quantity(latency[name], "s") for name in _LATENCIES]
    cells += [_rate(rate["steps_per_s"]), _rate(rate["samples_per_s"])]
    return page.table(
        ["Latency", *_LATENCIES.values(), "steps / s", "samples / s"], [["one step", *cells]]
    )


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _energy(run: Run) -> str:
    energy, kinds = run.summary["energy"], kinds_of(run)
    operations = ("kind", "factor", "origin", "status")
    rows = kinds.sums(energy["by_part_kind"], operations, ENERGY_NAMES)
    chart = page.chart(
        figures.energies(rows, _colours(run)),
        "Nominal joules; whiskers from low to high. Hatched: static power, drawn over the whole "
        "run.",
        figures.height_of(len(rows)),
    )
    whole = energy["total"]["energy_j"] or 1.0
    lines = [{"part": part, **energy["by_part"][part]} for part in energy["by_part"]]
    sums = {row["part"]: row for row in kinds.sums(lines, (), ENERGY_NAMES)}
    groups = [page.Lines([_spent("whole run", energy["total"], whole)], "", [])]
    for label, parts in kinds.grouped(lines).items():
        own = [_spent(row["part"], row, whole) for row in parts[:MOST_LISTED]]
        inner = own if kinds.alike(parts[0]["part"]) else []
        line = _spent(label, sums[label], whole)
        groups.append(page.Lines([line], listed("part by part", len(parts)), inner))
    note = (
        "Low and high take every energy constant at the end of its range at once, on the "
        "nominal schedule."
    )
    by_size = sorted(rows, key=lambda row: -row["energy_j"])
    book = page.table(
        ["Part", "Kind", "Origin", "Rests on", "nominal", "low", "high"],
        [
            [
                row["part"],
                operation(row["kind"], row["factor"]),
                row["origin"],
                row["status"],
                *_three(row),
            ]
            for row in by_size
        ],
        text=4,
    )
    table = (
        page.folding_table(["Energy", "nominal", "low", "high", "share"], groups)
        + page.paragraph(note, "note")
        + page.folded("All lines of the book", book)
    )
    return page.section("Where energy went", page.columns(chart, table, kind="wide"))


def _spent(name: str, row: Mapping[str, Any], whole_j: float) -> list[str]:
    return [name, *_three(row), percent(row["energy_j"] / whole_j)]


def _three(row: Mapping[str, Any]) -> list[str]:
    return [quantity(row[name], "J") for name in ENERGY_NAMES]


_LANES = (
    "Part",
    "Lane",
    "in use",
    "busy",
    "operations",
    "mean wait",
    "95 % wait",
    "longest wait",
    "mean queue",
)


def _lanes(run: Run) -> str:
    kinds, groups = kinds_of(run), []
    for label, lanes in kinds.grouped(run.summary["lanes"]).items():
        several = len(kinds.parts(label)) > 1
        rows = _alike(lanes, kinds, len(kinds.parts(label))) if several else lanes
        own = sorted(lanes, key=lambda row: -row["utilisation"])[:MOST_LISTED] if several else []
        title = listed("part by part, busiest first", len(lanes))
        groups.append(page.Lines([*map(_lane, rows)], title, [*map(_lane, own)]))
    note = (
        "In use: time in service over the simulated time; above 100 % where a lane serves "
        "several at once. "
        "Busy: only the time in which the part did the work it is for, without launches and "
        "fixed overheads. "
        "The waits of 95 % of the operations are at most as long as shown. b: bits moved. Of "
        "parts alike: shares and queues are means over them, operations, bits and conversions sums."
    )
    table = page.folding_table([*_LANES, "bits", "conversions"], groups, text=2)
    memory = _memory(run.summary.get("gpu_peak_bytes") or {}, kinds)
    note += (
        " Most memory in use at once, operands and what stays between steps (not what waits "
        f"between two operations): {memory}."
        if memory
        else ""
    )
    return page.section("Parts and queues", table, page.paragraph(note, "note"))


def _memory(peaks: Mapping[str, float], kinds: Kinds) -> str:
    """The fullest GPU of each kind."""
    most: dict[str, float] = {}
    for name, size in peaks.items():
        most[kinds.label(name)] = max(most.get(kinds.label(name), 0.0), size)
    return ", ".join(f"{name} {quantity(size, 'B')}" for name, size in most.items())


def _lane(row: Row) -> list[str]:
    return [
        *(
            row["part"],
            row["lane"],
            percent(row["utilisation"]),
            percent(row["busy_share"]),
            f"{row['spans']:,}",
        ),
        *(quantity(row[key], "s") for key in ("wait_mean_s", "wait_p95_s", "wait_max_s")),
        f"{row['queue_mean']:.3g}",
        quantity(row["bits"], "b") if row["bits"] else "–",
        f"{row['conversions']:,}" if row["conversions"] else "–",
    ]


_MEANS = ("utilisation", "busy_share", "queue_mean")
_COUNTS = ("spans", "bits", "conversions")


def _alike(lanes: Sequence[Row], kinds: Kinds, parts: int) -> list[Row]:
    """Lanes of parts alike as one: means over the parts, sums of work, the longest waits."""
    waited = [{**row, "waited_s": row["wait_mean_s"] * row["spans"]} for row in lanes]
    rows = kinds.sums(waited, ("lane", "role"), (*_MEANS, *_COUNTS, "waited_s"))
    for row in rows:
        own = [lane for lane in lanes if kinds.lane(lane["lane"]) == row["lane"]]
        row |= {name: row[name] / parts for name in _MEANS}
        row["wait_mean_s"] = row["waited_s"] / max(row["spans"], 1)
        row |= {name: max(lane[name] for lane in own) for name in ("wait_p95_s", "wait_max_s")}
    return [*rows]
