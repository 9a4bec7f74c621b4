"""What scripts on real devices share: switches, runs over seeds and devices, rows, comparisons.

Seed k trains on device k: its mismatch, offsets and converters are drawn apart. ``late_loss`` is
the mean training loss of the last ten steps. A run breaks where it stops or ends with more than
twice the late loss of the ideal device's with its seed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.papers import sweep
from analysis.papers.paired import mean_interval, ratio
from analysis.papers.record import short
from analysis.papers.sweep import Fields, Made, Variant

Row = dict[str, Any]  # Any: goes to JSON
SPUS = "machine.spus"
CHANGES_NUMBERS = ("mismatch", "thermal_noise", "finite_gain", "bandwidth", "offset",
                   "full_scales", "conductances", "converters", "dead_cells")  # fmt: skip
CHANGES_COSTS = ("load_current", "preset", "holding", "signs")
LAST = 10
BREAKS = 2.0
CALIBRATED: Fields = {"training.algorithm.calibration_every": 1}
DIGITS: dict[str, Fields] = {
    "tngd": {
        "training.steps": 60,
        "training.evaluate_every": 10,
        "training.algorithm.calibration_every": None,
    },
    "kfac": {"training.steps": 100, "training.evaluate_every": 10},
}
SCENARIOS = {"tngd": "tngd-digits", "kfac": "kfac-digits"}


def acting(*switches: str) -> Fields:
    """An ideal device with some imperfections."""
    return {f"{SPUS}.imperfections.base": "ideal"} | {
        f"{SPUS}.imperfections.{name}": True for name in switches
    }


def lacking(*switches: str) -> Fields:
    """A realistic device without some imperfections."""
    return {f"{SPUS}.imperfections.base": "realistic"} | {
        f"{SPUS}.imperfections.{name}": False for name in switches
    }


def on_digits(kind: str, fields: Fields) -> Variant:
    """The shipped scenario of an algorithm with other fields."""
    return Variant(SCENARIOS[kind], DIGITS[kind] | fields)


def rows(
    given: argparse.Namespace, variants: Mapping[str, Variant], seeds: Sequence[int]
) -> list[Row]:
    """Every variant with every seed, seed k on device k."""
    found: list[Row] = []
    for seed in seeds:
        mine = {
            name: Variant(v.scenario, v.fields | {f"{SPUS}.instance": seed * 100})
            for name, v in variants.items()
        }
        for made in sweep.made(given, mine, [seed]):
            found.append(row(made))
            print(json.dumps(short(found[-1])), flush=True)
    return found


def row(made: Made) -> Row:
    """What is kept of a run."""
    named: Row = {"variant": made.variant, "seed": made.seed}
    if made.run is None:
        return named | {"reason": made.reason}
    steps, summary, energy = made.run.steps, made.run.summary, made.run.summary["energy"]["total"]
    found = named | {
        "late_loss": float(steps["train_loss"].tail(LAST).mean()),
        "test_loss": _last(steps, "test_loss"),
        "test_accuracy": _last(steps, "test_accuracy"),
        "seconds": summary["simulated_s"],
        "joules": energy["energy_j"],
        "joules_low": energy["energy_low_j"],
        "joules_high": energy["energy_high_j"],
        "area_mm2": sum(one["used"]["area_mm2"] for one in summary.get("sizes", [])),
        "digest": made.run.manifest["digest"],
    }
    errors = [name for name in steps if str(name).startswith("solver_")]
    found |= {str(name): float(steps[name].dropna().median()) for name in errors}
    events = made.run.events["kind"].value_counts()
    return found | {"events": {str(kind): int(count) for kind, count in events.items()}}


def _last(steps: Any, name: str) -> float:  # Any: pandas
    known = steps[name].dropna()
    return float(known.iloc[-1]) if len(known) else math.nan


def by_variant(found: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each variant in the order of the seeds."""
    result: dict[str, list[Row]] = {}
    for one in sorted(found, key=lambda r: int(r["seed"])):
        result.setdefault(str(one["variant"]), []).append(one)
    return result


def compared(mine: Sequence[Row], base: Sequence[Row]) -> Row:
    """A variant beside the ideal device, seed by seed: means, ratio of late losses, runs that
    broke.
    """
    pairs = [(a, b) for a in mine for b in base if a["seed"] == b["seed"]]
    told = [(a, b) for a, b in pairs if "late_loss" in a and math.isfinite(a["late_loss"])]
    broken = sum(1 for a, b in pairs if _broke(a, b))
    found: Row = {"runs": len(pairs), "broke": broken}
    if len(told) > 1:
        found["late loss over ideal"] = ratio(
            [a["late_loss"] for a, _ in told], [b["late_loss"] for _, b in told]
        )
    for name in ("late_loss", "test_accuracy", "seconds", "joules", "joules_low", "joules_high",
                 "area_mm2"):  # fmt: skip
        values = [a[name] for a, _ in told]
        found[name] = mean_interval(values) if len(values) > 1 else {"mean": sum(values)}
    split = sorted({name for a, _ in told for name in a if name.startswith("solver_")})
    found |= {n: sum(a.get(n, math.nan) for a, _ in told) / len(told) for n in split if told}
    kinds = sorted({kind for a, _ in told for kind in a["events"]})
    found["events"] = {k: sum(a["events"].get(k, 0) for a, _ in told) / len(told) for k in kinds}
    return found


def _broke(mine: Row, base: Row) -> bool:
    if "late_loss" not in mine or not math.isfinite(mine["late_loss"]):
        return True
    return bool(mine["late_loss"] > BREAKS * base["late_loss"])
