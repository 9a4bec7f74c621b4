"""The numbers of the report, machine-readable: what summary.json holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from hybridsim.errors import InputError
from hybridsim.results.keys import (
    Bottleneck,
    Energies,
    EnergyLine,
    EnergySummary,
    EventCount,
    Json,
    Latency,
    OperationTimes,
    PathShare,
    PathSummary,
    Summary,
    Target,
    TargetReached,
    Throughput,
)
from hybridsim.results.lanes import LANE_COLUMNS, LaneBook
from hybridsim.results.parts import Chunks
from hybridsim.results.thresholds import judged
from hybridsim.trace.critical_path import PATH_COLUMNS, BrokenPath, shares, walk
from hybridsim.trace.ledger import ENERGY_COLUMNS, EnergyBook, EnergyRow, total
from hybridsim.units import to_s

# Any: rows and extras come from JSON, or go there
Static = Sequence[Mapping[str, Json]]


def summarise(run: Path, static_power: Static, extras: Mapping[str, Json]) -> Summary:
    """Read the tables of a run folder once, chunk by chunk, and sum up.

    Args:
        run: the run folder, finished or not.
        static_power: power that parts draw whatever they do; see ``hybridsim.trace.ledger``.
        extras: ``batch_size`` and ``target`` (``{"metric", "threshold", "direction"}`` with
            direction ``above`` or ``below``, or None) are used, and ``thresholds``, as asked, are
            judged; everything else is passed through.
    """
    lanes, energy = LaneBook(), EnergyBook()
    for chunk in Chunks(run, "spans", tuple(dict.fromkeys((*LANE_COLUMNS, *ENERGY_COLUMNS)))):
        lanes.add(chunk)
        energy.add(chunk)
    steps = Chunks(run, "steps").whole().to_pandas()
    times = lanes.times()
    passed = {key: value for key, value in extras.items() if key != "basis"}
    found = {
        **passed,
        "simulated_s": lanes.simulated_s(),
        "makespan_ps": lanes.makespan_ps,
        "steps": len(steps),
        "spans": lanes.spans,
        "energy": energy_summary(
            energy.rows(static_power, lanes.makespan_ps, extras.get("basis", ()))
        ),
        "throughput": _throughput(len(steps), lanes.simulated_s(), extras.get("batch_size")),
        "step_latency": _latency((steps["end_ps"] - steps["start_ps"]).to_numpy(float)),
        "lanes": lanes.lanes(),
        "times": times,
        "critical_path": _critical_path(run, times),
        "target": target_reached(steps, extras.get("target")),
        "final": _final(steps),
        "events": _events(Chunks(run, "events", ("time_ps", "kind"))),
    }
    if extras.get("thresholds"):
        found["thresholds"] = judged(extras["thresholds"], found, steps)
    return cast("Summary", found)


def energy_summary(rows: Sequence[EnergyRow]) -> EnergySummary:
    """Total, by part, and by part and kind, each nominal, low and high; and the share of static
    power.
    """
    everything = total(rows)
    static = total([row for row in rows if row.origin == "static"])
    assumed = total([row for row in rows if row.status == "assumed"])
    parts = sorted({row.part for row in rows})
    return {
        "total": _band(everything),
        "static_share": static[0] / everything[0] if everything[0] else 0.0,
        "assumed_share": assumed[0] / everything[0] if everything[0] else 0.0,
        "by_part": {
            part: _band(total([row for row in rows if row.part == part])) for part in parts
        },
        "by_part_kind": [cast("EnergyLine", row._asdict()) for row in rows],
    }


def _band(energy: tuple[float, float, float]) -> Energies:
    nominal, low, high = energy
    return {"energy_j": nominal, "energy_low_j": low, "energy_high_j": high}


def _throughput(steps: int, seconds: float, batch_size: int | None) -> Throughput:
    rate = steps / seconds if seconds else None
    samples = None if rate is None or batch_size is None else rate * batch_size
    return {"steps_per_s": rate, "samples_per_s": samples}


def _latency(durations_ps: np.ndarray) -> Latency | None:
    if not len(durations_ps):
        return None
    p50, p95, p99 = (float(np.percentile(durations_ps, q)) * 1e-12 for q in (50, 95, 99))
    mean_s, max_s = float(durations_ps.mean()) * 1e-12, float(durations_ps.max()) * 1e-12
    return {"p50_s": p50, "p95_s": p95, "p99_s": p99, "mean_s": mean_s, "max_s": max_s}


def _critical_path(run: Path, times: Sequence[OperationTimes]) -> PathSummary:
    """Shares of the path, and its largest as the bottleneck; a broken path is reported."""
    try:
        found = shares(walk(Chunks(run, "spans", PATH_COLUMNS)))
    except BrokenPath as error:
        return {"error": str(error), "length_s": None, "shares": [], "bottleneck": None}
    rows: list[PathShare] = [
        {
            "part": share.part,
            "kind": share.kind,
            "factor": share.factor,
            "time_s": to_s(share.time_ps),
            "share": share.share,
        }
        for share in found
    ]
    length_s = to_s(sum(share.time_ps for share in found))
    return {"length_s": length_s, "shares": rows, "bottleneck": _bottleneck(rows, times)}


def _bottleneck(rows: Sequence[PathShare], times: Sequence[OperationTimes]) -> Bottleneck | None:
    """The largest share, with the lane that spent most time on it."""
    if not rows:
        return None
    first = rows[0]
    wanted = (first["part"], first["kind"], first["factor"])
    lane = next(row["lane"] for row in times if (row["part"], row["kind"], row["factor"]) == wanted)
    return {**first, "lane": lane}


def target_reached(steps: pd.DataFrame, target: Target | None) -> TargetReached | None:
    """The first step at which a metric met its threshold.

    Args:
        steps: the step table, a DataFrame.
        target: ``metric`` (a column), ``threshold``, and ``direction``: ``above`` (>=) or ``below``
            (<=).

    Returns:
        The target with ``evaluated`` (the metric was measured at all), ``reached``, and ``step``,
        ``seconds`` and ``joules`` (null where it was not reached).

    Raises:
        InputError: the direction is neither.
    """
    if target is None:
        return None
    if target["direction"] not in ("above", "below"):
        raise InputError(
            f"target: expected the direction above or below, got {target['direction']!r}"
        )
    result: TargetReached = {
        **target,
        "evaluated": False,
        "reached": False,
        "step": None,
        "seconds": None,
        "joules": None,
    }
    if target["metric"] not in steps or not steps[target["metric"]].notna().any():
        return result
    result["evaluated"] = True
    values = steps[target["metric"]].to_numpy(float)
    met = (
        values >= target["threshold"]
        if target["direction"] == "above"
        else values <= target["threshold"]
    )
    if met.any():
        row = steps.iloc[int(np.argmax(met))]
        result["reached"], result["step"] = True, int(row["step"])
        result["seconds"], result["joules"] = to_s(int(row["end_ps"])), float(row["energy_j"])
    return result


def _final(steps: pd.DataFrame) -> dict[str, float]:
    """The last value of every column of the learning curve that has one."""
    names = [name for name in steps.columns if name not in ("start_ps", "end_ps")]
    known = {name: steps[name].dropna() for name in names}
    return {
        name: float(column.iloc[-1])
        for name, column in known.items()
        if len(column) and column.dtype.kind in "fiub"
    }


def _events(chunks: Iterable[Mapping[str, np.ndarray]]) -> dict[str, EventCount]:
    """Per kind of event: how many, and when first."""
    found: dict[str, EventCount] = {}
    for chunk in chunks:
        for kind, time_ps in zip(chunk["kind"].tolist(), chunk["time_ps"].tolist(), strict=True):
            entry = found.setdefault(kind, {"count": 0, "first_s": to_s(time_ps)})
            entry["count"] += 1
            entry["first_s"] = min(entry["first_s"], to_s(time_ps))
    return dict(sorted(found.items()))
