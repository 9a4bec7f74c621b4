"""The top of a report: what is not well, and the four answers (target, time, energy,
bottleneck).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from hybridsim.reports import page
from hybridsim.reports.buildability import buildability
from hybridsim.reports.figures import Row, spell
from hybridsim.reports.kinds import kinds_of
from hybridsim.reports.thresholds import missed_text
from hybridsim.reports.units_text import band, percent, quantity
from hybridsim.results.keys import operation
from hybridsim.results.read import Run
from hybridsim.results.solves import (
    LEAST_COSINE,
    MOST_ERROR,
    best_value,
    error_by_effect,
    solves,
)
from hybridsim.units import PS_PER_S

Card = tuple[str, str, str, str]


def head(run: Run) -> str:
    """Title, where the run comes from, alarms and the verdict strip, as HTML."""
    alarms = (page.paragraph(text, "alarm") for text in _alarms(run))
    analog, others = _solve(run), [_target(run), _duration(run), _joules(run), _bottleneck(run)]
    # What cannot be trusted says so before any figure.
    trusted = all(card[3] != "bad" for card in analog)
    cards = page.cards([*others, *analog] if trusted else [*analog, *others])
    title = f"<h1>{page.escape(run.name)}</h1>{page.paragraph(_origin(run), 'meta')}"
    sizes = (page.paragraph(f"Size: {text}.", "note") for text in sizes_of(run))
    return f"{title}{''.join(alarms)}{cards}{''.join(sizes)}"


def sizes_of(run: Run) -> list[str]:
    """Whether the SPUs of a run could be built, a line for each kind."""
    return buildability(run.summary.get("sizes", []))


def _origin(run: Run) -> str:
    found = run.manifest
    facts = [f"status {run.status}"]
    facts += [f"{key} {found[key]}" for key in ("backend", "seed") if found.get(key) is not None]
    revision = str(found.get("git_revision") or "")
    facts += (
        [f"revision {revision[:10]}{' with changes' if revision.endswith('dirty') else ''}"]
        if revision
        else []
    )
    facts += [f"digest {str(found['digest'])[:10]}"] if found.get("digest") else []
    return " · ".join(facts)


def _alarms(run: Run) -> Iterator[str]:
    summary = run.summary
    if run.status != "complete":
        reason = run.manifest.get("reason")
        yield (
            f"This run is not complete: {run.status_text}. {reason or ''} All figures cover what "
            "was stored."
        )
    if missed := missed_text(run):
        yield missed
    if "error" in summary["critical_path"]:
        yield (
            "The books of time do not balance, trust no share of time: "
            f"{summary['critical_path']['error']}"
        )
    for text in run.manifest.get("unbuildable") or ():
        yield f"This machine cannot be built today. {text}."
    if summary["events"]:
        counts = ", ".join(
            f"{entry['count']:,} × {kind}" for kind, entry in summary["events"].items()
        )
        yield f"{_weighed(run)}: {counts}. See Events."
    found = solves(run.steps)
    if found is not None and found.below and is_asynchronous(run):
        yield (
            f"{found.below:,} of {found.checked:,} readings that were checked have a cosine below "
            f"{LEAST_COSINE:g} with the exact solution (median {_number(found.cosine)}, lowest "
            f"{_number(found.lowest_cosine)}): the SPU is read before it has relaxed to the "
            "system last asked for, and what moves the parameters is another direction. Let it "
            "relax longer before each reading (wait)."
        )


def _weighed(run: Run) -> str:
    """How events are told of: a range that was too small for some numbers is less than an error
    where the answers are known to hold.
    """
    found = solves(run.steps)
    if (
        set(run.summary["events"]) <= {"saturation", "clipping"}
        and found is not None
        and found.solved
    ):
        return (
            "Some numbers went past a range of the device, and the answers that were checked hold "
            f"(median error {_number(found.error)})"
        )
    return "Something went wrong on the way"


def is_asynchronous(run: Run) -> bool:
    """Whether the SPU is read while it relaxes."""
    found: Any = run.scenario  # Any: whatever the stored file holds
    for key in ("training", "algorithm", "mode"):
        found = found.get(key) if isinstance(found, dict) else None
    return bool(found == "asynchronous")


def _solve(run: Run) -> list[Card]:
    """How well analog answers solve what was asked; nothing where none was checked."""
    found = solves(run.steps)
    if found is None:
        return []
    why = (
        f"relative error {_number(found.error)} in the median of {found.checked:,} readings, "
        f"{_number(found.highest_error)} at most; cosine {_number(found.cosine)}"
    )
    if parts := error_by_effect(run.steps):
        why += "; by effect: " + ", ".join(f"{n} {_number(v)}" for n, v in parts.items())
    above = f"{found.above:,} of {found.checked:,} above {MOST_ERROR:g}"
    if not found.solved:
        return [("Analog answers", "not a solve", f"{why}; {above}", "bad")]
    headline = f"solver error {_number(found.error)}"
    return [("Analog answers", headline, f"{why}; {above}" if found.above else why, "")]


def solve_text(run: Run) -> str:
    """The same in one line; nothing where no answer was checked."""
    return "; ".join(f"{headline}: {why}" for _, headline, why, _ in _solve(run))


def _number(value: float) -> str:
    return f"{value:.2g}" if isfinite(value) else "not a number"


def goal_text(target: Row) -> str:
    """The target in words and signs."""
    sign = "≥" if target["direction"] == "above" else "≤"
    return f"{spell(target['metric'])} {sign} {target['threshold']:g}"


def _target(run: Run) -> Card:
    target, final = run.summary["target"], run.summary["final"]
    if target is None:
        known = [
            f"{spell(name)} {final[name]:.4g}"
            for name in final
            if name.endswith(("loss", "accuracy"))
        ]
        return "Target", "none set", f"last {', '.join(known)}" if known else "", ""
    goal = goal_text(target)
    if not target.get("evaluated", True):
        timing = run.manifest.get("backend") == "timing"
        why = "nothing was trained (timing only)" if timing else "no step was evaluated"
        return "Target", "not evaluated", f"{goal}; {why}", ""
    if not target["reached"]:
        best, last = best_value(run.steps, target), final.get(target["metric"])
        known = [f"{w} {v:.4g}" for w, v in (("best", best), ("last", last)) if v is not None]
        return "Target", "not reached", "; ".join([goal, *known]), "bad"
    joules = target["joules"]
    assert joules is not None, "known where the target was reached"
    energy = f"{quantity(joules, 'J')} ({_scaled_band(run, joules)})"
    why = f"{goal} after {quantity(target['seconds'], 's')} and {energy}"
    if meets(target, final[target["metric"]]):
        return "Target", f"reached at step {target['step']:,}", why, "good"
    why += f"; last {final[target['metric']]:.4g}"
    return "Target", f"reached at step {target['step']:,}, then lost", why, "bad"


def meets(target: Row, value: float) -> bool:
    """Whether a value of the metric is on the right side of the threshold."""
    threshold = float(target["threshold"])
    return value >= threshold if target["direction"] == "above" else value <= threshold


def _scaled_band(run: Run, joules: float) -> str:
    """The band of a part of the run, in proportion to that of the whole."""
    energy = run.summary["energy"]["total"]
    ratio = joules / energy["energy_j"] if energy["energy_j"] else 0.0
    low, high = energy["energy_low_j"] * ratio, energy["energy_high_j"] * ratio
    return band({"energy_j": joules, "energy_low_j": low, "energy_high_j": high})


def _duration(run: Run) -> Card:
    summary, latency = run.summary, run.summary["step_latency"]
    typical = f", median {quantity(latency['p50_s'], 's')} a step" if latency else ""
    why = f"{summary['steps']:,} steps{typical}"
    if known := _time_band(run):
        why = f"{known}; {why}"
    return "Simulated time", quantity(summary["simulated_s"], "s"), why, ""


def time_band_s(run: Run) -> tuple[float, float] | None:
    """Simulated time with every constant of time at its fastest and at its slowest; None where it
    has no band, or the run is not complete.
    """
    if run.status != "complete" or run.time_band.reason:
        return None
    return run.time_band.low_ps / PS_PER_S, run.time_band.high_ps / PS_PER_S


def _time_band(run: Run) -> str:
    """The same in words, or why there is none."""
    if run.status != "complete":
        return ""
    ends = time_band_s(run)
    if ends is None:
        return f"no band: {run.time_band.reason}"
    low, high = (quantity(end, "s") for end in ends)
    return (
        f"{low} – {high} with every constant of time at its fastest / slowest, in the recorded "
        "order"
    )


def _joules(run: Run) -> Card:
    energy = run.summary["energy"]
    why = (
        f"{band(energy['total'])} (low – high); {percent(energy['static_share'])} of it "
        "static power"
    )
    if "assumed_share" in energy:
        why += f"; {percent(energy['assumed_share'])} depends on at least one assumed constant"
    if run.manifest.get("backend") == "timing":
        why += "; settling is an estimate (timing only)"
    return "Energy", quantity(energy["total"]["energy_j"], "J"), why, ""


def bottleneck(run: Run) -> dict[str, Any] | None:
    """The largest share of the critical path, parts alike taken together."""
    shares = run.summary["critical_path"]["shares"]
    rows = kinds_of(run).sums(shares, ("kind", "factor"), ("time_s", "share"))
    return max(rows, key=lambda row: row["share"], default=None)


def _bottleneck(run: Run) -> Card:
    found, kinds = bottleneck(run), kinds_of(run)
    if found is None:
        return "Bottleneck", "unknown", "no critical path", ""
    where = (found["part"], found["kind"], found["factor"])
    lanes = [
        row["lane"]
        for row in run.summary["times"]
        if (kinds.label(row["part"]), row["kind"], row["factor"]) == where
    ]
    own = [
        row["utilisation"]
        for row in run.summary["lanes"]
        if kinds.label(row["part"]) == found["part"]
        and kinds.lane(row["lane"]) == kinds.lane(lanes[0])
    ]
    use = percent(sum(own) / len(kinds.parts(found["part"])))
    mean = " on average" if len(kinds.parts(found["part"])) > 1 else ""
    why = (
        f"{percent(found['share'])} of the critical path; "
        f"its lane “{kinds.lane(lanes[0])}” is in use {use} of the time{mean}"
    )
    return "Bottleneck", f"{found['part']} · {operation(found['kind'], found['factor'])}", why, ""
