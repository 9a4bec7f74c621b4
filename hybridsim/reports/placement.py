"""Which SPU solves which factors, what that was predicted to take, and what it took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hybridsim.reports import page
from hybridsim.reports.kinds import MOST_LISTED, Row, kinds_of, listed
from hybridsim.reports.units_text import percent, quantity
from hybridsim.results.read import Run

_DEVICE = ("array", "dac", "core", "adc")
_NOTE = (
    "Predicted from sizes and datasheets before the run, without any waiting: time on the SPU "
    "(writing, converters, "
    "settling), and on the link. Measured: what the SPU took for one round of all its solves, "
    "and its waits, on average. "
    "A factor that still stood in the SPU was not written again, so the measured time may be "
    "shorter; where full scales are chosen from the past the first solve is made twice, so it may "
    "be longer. Of SPUs alike the longest times, and the mean share in use."
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
    pieces, kinds = run.summary.get("placement"), kinds_of(run)
    if not pieces:
        return ""
    by_part: dict[str, list[Row]] = defaultdict(list)
    for piece in pieces:
        by_part[piece["part"]].append(piece)
    shares = [_share(run, part, own) for part, own in by_part.items()]
    groups = []
    for label, alike in kinds.grouped(shares).items():
        several = kinds.alike(alike[0]["part"])
        own = [_cells(row) for row in alike[:MOST_LISTED]] if several else []
        line = _cells(_longest(label, alike, len(kinds.parts(label))))
        groups.append(page.Lines([line], listed("SPU by SPU", len(alike)), own))
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
        for p in pieces[:MOST_LISTED]
    ]
    headers = ["Layer", "Factor", "SPU", "columns", "order", "tiles", "predicted", "predicted link"]
    return page.section(
        "Placement",
        page.folding_table(_HEADERS, groups),
        page.paragraph(_NOTE + _rounding(run), "note"),
        page.folded(listed("Pieces", len(pieces)), page.table(headers, cells, text=4)),
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


_SUMS = ("factors", "columns")
_LONGEST = ("order", "predicted_s", "measured_s", "link_s", "wait_s")


def _share(run: Run, part: str, own: list[Row]) -> dict[str, Any]:
    """What one SPU solves, and what that takes."""
    device_s, wait_s, used = _measured(run, part, own)
    return {
        "part": part,
        "factors": len(own),
        "columns": sum(p["columns"] for p in own),
        "order": max(p["order"] for p in own),
        "predicted_s": sum(p["device_s"] for p in own),
        "measured_s": device_s,
        "link_s": sum(p["link_s"] for p in own),
        "wait_s": wait_s,
        "used": used,
    }


def _longest(label: str, alike: Sequence[Row], parts: int) -> dict[str, Any]:
    """SPUs alike: pieces and columns of all, the longest times, mean use."""
    sums = {name: sum(row[name] for row in alike) for name in _SUMS}
    known = {n: [row[n] for row in alike if row[n] is not None] for n in _LONGEST}
    longest = {name: max(values) if values else None for name, values in known.items()}
    return {"part": label, **sums, **longest, "used": sum(row["used"] for row in alike) / parts}


def _cells(row: Row) -> list[str]:
    times = (quantity(row[name], "s") for name in _LONGEST[1:])
    counts = (f"{row[name]:,}" for name in (*_SUMS, "order"))
    return [row["part"], *counts, *times, percent(row["used"])]


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
