"""What the command line says at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridsim.reports.thresholds import threshold_text
from hybridsim.reports.verdict import bottleneck, sizes_of, solve_text, time_band_s
from hybridsim.results.keys import Summary, TargetReached
from hybridsim.results.read import Run
from hybridsim.results.solves import best_value
from hybridsim.units import engineering


def closing_rows(result: Run) -> list[tuple[str, str]]:
    """Name and text of every line, the last the folder's path."""
    summary = result.summary
    energy, target = summary["energy"]["total"], summary["target"]
    band = (
        f"{engineering(energy['energy_low_j'], 'J')} to {engineering(energy['energy_high_j'], 'J')}"
    )
    rows = [
        ("status", summary["status"]),
        ("steps", str(summary["steps"])),
        ("simulated time", f"{engineering(summary['simulated_s'], 's')}{_time_band(result)}"),
        ("energy", f"{engineering(energy['energy_j'], 'J')} ({band}){_energy_note(summary)}"),
        ("target", _target_text(target, target and best_value(result.steps, target))),
        *((("analog answers", text),) if (text := solve_text(result)) else ()),
        ("bottleneck", _bottleneck_text(bottleneck(result))),
        *(
            (name, f"{summary['final'][name]:.4g}")
            for name in ("train_loss", "test_loss", "test_accuracy")
            if name in summary["final"]
        ),
        *(("size", text) for text in sizes_of(result)),
        *(
            (f"event: {kind}", f"{entry['count']} times")
            for kind, entry in summary["events"].items()
        ),
        *(
            (f"threshold: {line['name']}", threshold_text(line))
            for line in summary.get("thresholds", [])
        ),
        ("backend", summary["host"]["backend"]),
    ]
    if held := summary["host"].get("jacobian"):
        size = engineering(held["bytes"], "B")
        rows.append(("Jacobian", f"{held['form']} ({size} in all): {held['why']}"))
    if summary["host"].get("facts_failure"):
        rows.append(("facts", summary["host"]["facts_failure"]))
    if summary["host"]["replay_missing"]:
        rows.append(("fell back to live", summary["host"]["replay_missing"]))
    rows.append(("run folder", str(result.folder)))
    return rows


def _time_band(result: Run) -> str:
    ends = time_band_s(result)
    return f" ({engineering(ends[0], 's')} to {engineering(ends[1], 's')})" if ends else ""


def _energy_note(summary: Summary) -> str:
    return (
        "; settling is an estimate, no voltages are known"
        if summary["host"]["backend"] == "timing"
        else ""
    )


def _target_text(target: TargetReached | None, best: float | None) -> str:
    if target is None:
        return "none set"
    aim = (
        f"{target['metric']} {'>=' if target['direction'] == 'above' else '<='} "
        f"{target['threshold']:g}"
    )
    if not target["evaluated"]:
        return f"{aim}: not evaluated"
    if not target["reached"]:
        return f"{aim}: not reached" + (f", best {best:.4g}" if best is not None else "")
    seconds, joules = target["seconds"], target["joules"]
    assert seconds is not None and joules is not None, "known where the target was reached"
    return f"{aim}: step {target['step']}, {engineering(seconds, 's')}, {engineering(joules, 'J')}"


def _bottleneck_text(bottleneck: Mapping[str, Any] | None) -> str:  # Any: a row of the summary
    if bottleneck is None:
        return "none"
    named = filter(None, (bottleneck["kind"], bottleneck["factor"]))
    return (
        f"{bottleneck['part']}: {' '.join(named)} ({100 * bottleneck['share']:.0f} % of "
        "the critical path)"
    )
