"""The end of a report: events, the constants that the numbers rest on, and where the run comes
from.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from hybridsim.reports import page
from hybridsim.reports.kinds import Kinds, Row, kinds_of
from hybridsim.reports.units_text import quantity
from hybridsim.results.read import Run

_MOST_EVENTS = 20
_LONGEST = 400
_SI = ("s", "J", "W", "F", "Ω", "ohm", "V", "A", "bit/s", "b/s", "B/s", "byte/s", "B", "FLOP/s")


def events(run: Run) -> str:
    """What went wrong, by kind, and the first few one by one."""
    found = run.summary["events"]
    if not found:
        return page.section(
            "Events",
            page.paragraph("None: nothing clipped, saturated, ran away or was not finite."),
        )
    kinds = [
        [kind, f"{entry['count']:,}", quantity(entry["first_s"], "s")]
        for kind, entry in found.items()
    ]
    # Any: itertuples makes its class anew.
    shown: list[Any] = list(run.events.head(_MOST_EVENTS).itertuples())
    rows = [
        [
            e.kind,
            e.part,
            e.layer,
            e.note,
            e.step,
            quantity(e.time_ps * 1e-12, "s"),
            f"{e.value:.4g}",
        ]
        for e in shown
    ]
    first = page.table(["Kind", "Part", "Layer", "Note", "step", "time", "value"], rows, text=4)
    counts = page.table(["Kind", "how often", "first at"], kinds)
    return page.section("Events", counts, page.folded(f"The first {len(rows)}", first))


def assumptions(run: Run) -> str:
    """Static power, and every constant of the machine with its range, status and source."""
    machine, kinds = run.manifest.get("machine") or {}, kinds_of(run)
    items = [
        item for group in ("nodes", "edges") for item in machine.get(group, []) if item.get("sheet")
    ]
    firsts = {kinds.label(item["name"]): item for item in reversed(items)}
    sheets = [_datasheet(label, item) for label, item in reversed(firsts.items())]
    blocks = [_model(run), _static(run, kinds), *sheets]
    if not any(blocks):
        return ""
    return page.section(
        "What the numbers rest on", page.paragraph(_statuses(items), "note"), *blocks
    )


def _statuses(items: list[Row]) -> str:
    """How many constants were measured, published, assumed."""
    sheets = {item["sheet"]["name"]: item["sheet"]["constants"] for item in items}
    counts = Counter(
        entry.get("status", "unknown") for sheet in sheets.values() for entry in sheet.values()
    )
    if not counts:
        return ""
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return (
        f"{counts.total()} constants: {parts}. Each has a range and a source; bands follow "
        "from the ranges."
    )


def _model(run: Run) -> str:
    found = run.manifest.get("model_assumptions") or []
    return page.bullets(found) if found else ""


def _static(run: Run, kinds: Kinds) -> str:
    found = run.manifest.get("static_power") or []
    static = kinds.sums(found, ("component", "status", "source"), _POWERS)
    rows = [
        [
            row["part"],
            row["component"],
            row["status"],
            row["source"],
            *(quantity(row[key], "W") for key in _POWERS),
        ]
        for row in static
    ]
    headers = ["Static power of", "Component", "Status", "Source", "nominal", "low", "high"]
    return page.table(headers, rows, text=4) if rows else ""


_POWERS = ("power_w", "power_low_w", "power_high_w")


def _datasheet(label: str, item: Row) -> str:
    sheet = item["sheet"]
    settings = {
        key: value
        for key, value in item.items()
        if key not in ("sheet", "name", "a", "b") and value not in (None, "")
    }
    rows = [
        [
            name,
            entry.get("status", ""),
            entry.get("source", ""),
            *(_value(entry, key) for key in ("value", "low", "high")),
        ]
        for name, entry in sheet["constants"].items()
    ]
    table = page.table(["Constant", "Status", "Source", "value", "low", "high"], rows, text=3)
    note = page.paragraph(
        ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in settings.items()), "note"
    )
    return page.folded(f"{label} – {sheet['name']}", note, table)


def _value(entry: Row, key: str) -> str:
    value, unit = entry.get(key), str(entry.get("unit") or "")
    if not isinstance(value, float | int):
        return "–" if value is None else str(value)
    return quantity(value, unit) if unit in _SI else f"{value:.6g} {unit}".strip()


def provenance(run: Run) -> str:
    """The command that repeats the run, the manifest, and the scenario."""
    scenario, again = run.folder / "scenario.yaml", f"{run.folder}-again"
    command = f"hybridsim run {shlex.quote(str(scenario))} --out {shlex.quote(again)}"
    if run.manifest.get("backend") == "timing":
        command += " --backend timing"
    told = ("machine", "static_power", "basis", "model_assumptions")
    rows = list(lines_of({key: value for key, value in run.manifest.items() if key not in told}))
    rows += list(lines_of({"host": run.summary.get("host")}))
    return page.section(
        "Provenance",
        page.paragraph("To repeat this run (the digest will be the same):"),
        page.preformatted(command),
        page.table(["Field", "Value"], rows, text=2),
        page.folded("Scenario, every default written out", page.preformatted(run.scenario_text)),
    )


def lines_of(content: Mapping[str, object]) -> Iterator[list[str]]:
    """One line per field that has a value; a nested one is spelled out in it."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            value = ", ".join(
                f"{name} {_short(cell)}" for name, cell in value.items() if cell not in (None, "")
            )
        if value not in (None, ""):
            yield [key.replace("_", " "), _short(value)]


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
