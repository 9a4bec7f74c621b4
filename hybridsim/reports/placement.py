"""Which SPU solves which factors, what that was predicted to take, and what it took."""

from __future__ import annotations

from collections import defaultdict

from hybridsim.reports import page
from hybridsim.reports.figures import Row
from hybridsim.reports.units_text import natural, percent, quantity
from hybridsim.results.read import Run

_DEVICE = ("array", "dac", "core", "adc")
_NOTE = (
    "Predicted from sizes and datasheets before the run, without any waiting: time on the SPU "
    "(writing, converters, "
    "settling), and on the link. Measured: what the SPU took for one round of all its solves, "
    "and its waits, on average. "
    "A factor that still stood in the SPU was not written again, so the measured time may be "
    "shorter."
)
_HEADERS = (
    "SPU",
    "factors",
    "columns",
    "largest order",
    "predicted",
    "measured",
    "predicted link",
    "waits",
    "in use",
)


def placement(run: Run) -> str:
    """A table of SPUs, and all pieces folded; nothing for algorithms that place nothing."""
    pieces = run.summary.get("placement")
    if not pieces:
        return ""
    by_part: dict[str, list[Row]] = defaultdict(list)
    for piece in pieces:
        by_part[piece["part"]].append(piece)
    measured = {part: _measured(run, part, own) for part, own in by_part.items()}
    rows = [
        _row(part, own, *measured[part])
        for part, own in sorted(by_part.items(), key=lambda item: natural(item[0]))
    ]
    cells = [
        [
            *(
                p["layer"],
                p["factor"],
                p["part"],
                f"{p['first']} – {p['first'] + p['columns'] - 1}",
            ),
            *(
                f"{p['order']:,}",
                f"{p['tiles']:,}",
                quantity(p["device_s"], "s"),
                quantity(p["link_s"], "s"),
            ),
        ]
        for p in pieces
    ]
    headers = ["Layer", "Factor", "SPU", "columns", "order", "tiles", "predicted", "predicted link"]
    return page.section(
        "Placement",
        page.table(_HEADERS, rows),
        page.paragraph(_NOTE + _rounding(run), "note"),
        page.folded(f"All {len(pieces)} pieces", page.table(headers, cells, text=4)),
    )


def _rounding(run: Run) -> str:
    """What rounding added to the damping, at the last step that was evaluated."""
    shift = run.summary["final"].get("rounding_shift")
    if not shift:
        return ""
    return (
        f" Rounding the factors conservatively raised their diagonals by {shift:.3g} on "
        "average, which acts as damping."
    )


def _row(
    part: str, own: list[Row], device_s: float | None, wait_s: float | None, used: float
) -> list[str]:
    predicted = [sum(piece[name] for piece in own) for name in ("device_s", "link_s")]
    return [
        *(
            part,
            f"{len(own):,}",
            f"{sum(p['columns'] for p in own):,}",
            f"{max(p['order'] for p in own):,}",
        ),
        *(quantity(predicted[0], "s"), quantity(device_s, "s"), quantity(predicted[1], "s")),
        *(quantity(wait_s, "s"), percent(used)),
    ]


def _measured(run: Run, part: str, own: list[Row]) -> tuple[float | None, float | None, float]:
    """Time in service and time waited in one round, and the share of the run in which the SPU did
    something.
    """
    times = [row for row in run.summary["times"] if row["part"] == part and row["lane"] in _DEVICE]
    answers = sum(row["spans"] for row in times if row["lane"] == "adc")
    used = sum(row["time_s"] for row in times) / (run.summary["simulated_s"] or 1.0)
    rounds = answers / sum(piece["tiles"] for piece in own)
    if not rounds:
        return None, None, used
    return (
        sum(row["time_s"] for row in times) / rounds,
        sum(row["wait_s"] for row in times) / rounds,
        used,
    )
