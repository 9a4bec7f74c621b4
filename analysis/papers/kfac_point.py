"""What the timing claims of thermodynamic K-FAC (arXiv 2502.08603) share: one timing-only run, and
where its step went.

Times are those of the last step or steps, when the moving averages are there. The critical path of
that time is divided among a few groups, so that what binds can be read off; its groups add up to
the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import hybridsim
from analysis.papers.step_time import (
    AVERAGES,
    COLUMNS,
    FACTORS,
    GATHER,
    HELP,
    INVERSION,
    PASSES,
    PRODUCTS,
    READBACK,
    REDUCE,
    SETTLING,
    UPDATE,
    divided,
)

BATCH = 512  # the paper's, in its study of the MLP's width
WORKLOAD = str(Path(__file__).resolve().with_name("wide_mlp.py"))
COMMON, ALGEBRA = "common to both", "GPU linear algebra"
_GROUPS: dict[str, tuple[str, ...]] = {
    COMMON: (PASSES, AVERAGES, UPDATE, REDUCE),
    **{group: (group,) for group in (FACTORS, COLUMNS, SETTLING, READBACK)},
    ALGEBRA: (INVERSION, PRODUCTS, GATHER),
    HELP: (HELP,),
}
GROUPS = tuple(_GROUPS)
DIGITAL = {"method": "digital"}


@dataclass(frozen=True)
class Point:
    """One run. ``groups_s``: the critical path of a step by group; joules per step, nominal, low,
    high, with idle power.

    ``spus``: how many have work. ``totals``: time, bits, conversions, resistors written, per step
    by part and kind of operation, averaged over all steps of the run.
    """

    step_s: float
    groups_s: dict[str, float]
    joules: tuple[float, float, float]
    peak_bytes: int
    spus: int
    totals: dict[tuple[str, str], dict[str, float]]
    digest: str

    @property
    def binding(self) -> str:
        """The largest group of what preconditioning costs: passes, averages, update left out."""
        return max(
            (group for group in GROUPS if group != COMMON), key=lambda group: self.groups_s[group]
        )

    def total(self, field: str, *kinds: str, part: str = "") -> float:
        """A sum over parts whose names begin so, and kinds of operation, per step."""
        return sum(
            row[field]
            for (name, kind), row in self.totals.items()
            if name.startswith(part) and kind in kinds
        )


def settling_tau(bits: float, slowest: float) -> float:
    """RC in which the mode of rate ``slowest`` decays to 2^-bits."""
    return bits * math.log(2) / slowest


def scenario(
    options: Mapping[str, Any],
    algorithm: Mapping[str, Any],
    machine: Mapping[str, Any],
    batch: int = BATCH,
    steps: int = 2,
    products: Mapping[str, Any] | None = None,
) -> hybridsim.Scenario:
    """K-FAC on ``wide_mlp``; ``algorithm`` {"kind": ...} replaces K-FAC, else it is put over the
    defaults here.

    Labels of the Fisher matrix are drawn once per example (one more backward pass); damping
    ``plain``. ``products``: fields of training that say in which format products are.
    """
    defaults = {
        "kind": "kfac",
        "learning_rate": 0.1,
        "damping": 0.1,
        "damping_rule": "plain",
        "fisher": "mc",
    }
    chosen = dict(algorithm) if "kind" in algorithm else {**defaults, **algorithm}
    training = {
        "batch_size": batch,
        "steps": steps,
        "evaluate_every": 10**6,
        "algorithm": chosen,
        **(products or {}),
    }
    workload = {"source": WORKLOAD, "options": {**options, "examples": batch}}
    return hybridsim.load(
        {
            "name": "K-FAC timing",
            "workload": workload,
            "training": training,
            "machine": dict(machine),
        }
    )


def machine(
    spus: int,
    bits: int = 16,
    bandwidth: str = "50 Gb/s",
    gpu: str | dict[str, Any] = "a100-sxm4-80gb",
    **changes: Any,
) -> dict[str, Any]:
    """A GPU and ideal SPUs of 1 us, double-buffered, on private links; 0 SPUs: the GPU alone.
    ``changes``: sharing, buffering, imperfections.
    """
    found: dict[str, Any] = {"constants": "realistic", "gpu": gpu}
    if not spus:
        return found
    resolution = dict.fromkeys(("input_bits", "bias_bits", "output_bits"), bits)
    sharing, buffering = changes.get("sharing", "private"), changes.get("buffering", "double")
    found["link"] = {"part": "paper-50gbps", "bandwidth": bandwidth, "sharing": sharing}
    found["spus"] = {"count": spus, "part": "rc-1us", "buffering": buffering, **resolution}
    found["spus"]["imperfections"] = changes.get("imperfections", "ideal")
    return found


@lru_cache(maxsize=1)
def _task(text: str) -> hybridsim.Task:
    width, other, depth, batch = json.loads(text)
    options = {"width": width, "depth": depth} | ({} if other is None else {"other": other})
    return hybridsim.load_task(scenario(options, DIGITAL, machine(0), batch))


def measure(found: hybridsim.Scenario, last: int = 1) -> Point:
    """Run without tensors; times are means over the ``last`` steps. A task is loaded once for runs
    in a row.
    """
    options, batch = found.workload.options, found.training.batch_size
    task = _task(json.dumps([options["width"], options.get("other"), options["depth"], batch]))
    run = hybridsim.run(found, backend="timing", task=task)
    window = run.steps.iloc[-last:]
    start, end = int(window["start_ps"].iloc[0]), int(window["end_ps"].iloc[-1])
    energy, steps = run.summary["energy"]["total"], run.summary["steps"]
    joules = (
        energy["energy_j"] / steps,
        energy["energy_low_j"] / steps,
        energy["energy_high_j"] / steps,
    )
    return Point(
        (end - start) * 1e-12 / last,
        _groups(run, start, end, last),
        joules,
        max(run.summary["gpu_peak_bytes"].values()),
        len({piece["part"] for piece in run.summary.get("placement", ())}),
        _totals(run.summary["times"], steps),
        run.manifest["digest"],
    )


def _groups(run: hybridsim.Run, start_ps: int, end_ps: int, steps: int) -> dict[str, float]:
    """Seconds of a step on the critical path, by group."""
    found = divided(run, start_ps, end_ps, [name for names in _GROUPS.values() for name in names])
    return {
        group: sum(found[name] for name in names) * 1e-12 / steps
        for group, names in _GROUPS.items()
    }


def _totals(
    times: Sequence[Mapping[str, Any]], steps: int
) -> dict[tuple[str, str], dict[str, float]]:
    """Per step, lanes of a part added up: seconds, of these at a throughput's pace, bits,
    conversions, resistors.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in times:
        entry = found.setdefault(
            (row["part"], row["kind"]),
            dict.fromkeys(("time_s", "busy_s", "bits", "conversions", "writes"), 0.0),
        )
        for name in entry:
            entry[name] += row[name] / steps
    return found
