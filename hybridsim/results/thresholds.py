"""Whether a run came up to what its scenario asked for."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import pandas as pd

from hybridsim.results.keys import Json, ThresholdAsked, ThresholdLine
from hybridsim.results.solves import best_value, solves

_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_TO_TARGET = {
    "steps_to_target": "step",
    "time_to_target_s": "seconds",
    "energy_to_target_j": "joules",
}
_FINAL = ("train_loss", "test_loss", "test_accuracy")


def judged(
    asked: Sequence[ThresholdAsked], summary: Mapping[str, Json], steps: pd.DataFrame
) -> list[ThresholdLine]:
    """Hold what was asked against what came out; what was not evaluated is missed.

    Args:
        asked: the scenario's thresholds.
        summary: the run's numbers, see :class:`hybridsim.results.keys.Summary`.
        steps: its learning curve.
    """
    found = _numbers(summary, steps)
    lines = []
    for threshold in asked:
        value = found.get(threshold["name"])
        # NaN is on neither side of anything: missed.
        met = value is not None and bool(_SIGNS[threshold["sign"]](value, threshold["value"]))
        why = "" if value is not None else _reason(threshold["name"], summary, steps)
        line: ThresholdLine = {**threshold, "got": value, "met": met, "reason": why}
        lines.append(line)
    return lines


def _numbers(summary: Mapping[str, Json], steps: pd.DataFrame) -> dict[str, float | None]:
    """Every number that a threshold can name; None where there is none."""
    target, latency = summary["target"] or {}, summary["step_latency"] or {}
    energy, count = summary["energy"]["total"], summary["steps"]
    answers = solves(steps)
    # Without tensors nothing clips and nothing saturates: that there are no events says nothing.
    looked = count and (summary.get("host") or {}).get("backend") != "timing"
    return {
        **{name: summary["final"].get(name) for name in _FINAL},
        **{name: target.get(key) for name, key in _TO_TARGET.items()},
        "simulated_s": summary["simulated_s"] if count else None,
        "energy_j": energy["energy_j"] if count else None,
        "energy_high_j": energy["energy_high_j"] if count else None,
        "step_time_s": summary["simulated_s"] / count if count else None,
        "step_time_p95_s": latency.get("p95_s"),
        "step_energy_j": energy["energy_j"] / count if count else None,
        "samples_per_s": summary["throughput"]["samples_per_s"],
        "solver_error": None if answers is None else answers.error,
        "solver_cosine": None if answers is None else answers.cosine,
        "events": sum(entry["count"] for entry in summary["events"].values()) if looked else None,
        "gpu_peak_bytes": max((summary.get("gpu_peak_bytes") or {}).values(), default=None),
    }


def _reason(name: str, summary: Mapping[str, Json], steps: pd.DataFrame) -> str:
    target = summary["target"]
    if name not in _TO_TARGET or not target or not target["evaluated"]:
        return "not evaluated"
    best = best_value(steps, target)
    return "not reached" if best is None else f"not reached, best {best:.4g}"
