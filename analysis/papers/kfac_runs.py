"""What the claims on the cost of digital K-FAC (arXiv 2502.08603) share: where a step's time goes
on real networks.

Timing-only runs of the shipped workloads at the papers' sizes. One run gives the three kinds of
steps there are: with new factors and inverses, with new factors alone, with neither; steps at any
intervals T1, T2 are made of these. A step's time is that of its critical path, divided among a few
groups which add up to it. Moving averages are there (no first step counts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import hybridsim
from analysis.papers.step_time import (
    AVERAGES,
    GATHER,
    HELP,
    INVERSION,
    PASSES,
    PRODUCTS,
    REDUCE,
    UPDATE,
    divided,
)

Fields = Mapping[str, Any]  # Any: as a scenario says it
A100, V100 = "a100-sxm4-80gb", "v100-sxm2-32gb"
ENOUGH = "100 TB"
TENSOR_CORES: dict[str, Fields] = {
    A100: {"tf32": {"matmul": True, "convolution": True}},
    V100: {"amp": "fp16"},
}
"""Products on tensor cores: TF32, or FP16's operands where there is no TF32."""
_FABRIC = {A100: "nvlink3", V100: "nvlink2"}
GROUPS = (PASSES, AVERAGES, INVERSION, PRODUCTS, UPDATE, REDUCE, GATHER)
_FACTORS_EVERY, _INVERSES_EVERY = 2, 4
_FULL, _PLAIN, _RENEWED = 5, 6, 7  # numbers of the first steps of each kind with moving averages
Groups = dict[str, float]
_PREPARES = ("invert", "damping", "Newton-Schulz start", "Newton-Schulz")


@dataclass(frozen=True)
class Costs:
    """Seconds of a step by group: with new factors and inverses, with new factors, with neither.

    Forward and backward passes of the last kind are taken for those of the others, whose rest is
    the factors' (with the backward pass that only they need). ``inversions``: seconds by block, of
    what is inverted together under no name; ``latency``: the share of these that is not the
    factorisations' FLOP at ``factorisation_efficiency`` of the FP32 peak, but launches, dependent
    steps and memory; None where products invert.
    ``all_products_s``: applying the inverses, over all GPUs together.
    """

    full: Groups
    renewed: Groups
    plain: Groups
    inversions: dict[str, float]
    latency: float | None
    all_products_s: float
    peak_bytes: int
    parameters: int
    digest: str

    def per_step(self, factors_every: int = 1, inverses_every: int = 1) -> Groups:
        """Mean step at intervals T1 and T2 (a multiple of T1), by group."""
        counts = {"full": 1, "renewed": inverses_every // factors_every - 1}
        counts["plain"] = inverses_every - sum(counts.values())
        steps = {"full": self.full, "renewed": self.renewed, "plain": self.plain}
        return {g: sum(counts[k] * steps[k][g] for k in steps) / inverses_every for g in GROUPS}

    def replicated(self) -> Costs:
        """If every GPU inverted and applied all blocks itself, and no directions were gathered."""
        products = {PRODUCTS: self.all_products_s, GATHER: 0.0}
        return replace(
            self,
            full=self.full | products | {INVERSION: sum(self.inversions.values())},
            renewed=self.renewed | products,
            plain=self.plain | products,
        )


def share(groups: Mapping[str, float], group: str = INVERSION) -> float:
    """Of the step's time."""
    return groups[group] / sum(groups.values())


def shares(groups: Mapping[str, float]) -> dict[str, float]:
    """Of the step's time, those above 0."""
    return {group: share(groups, group) for group in groups if groups[group] > 0}


def gpus(part: str = A100, count: int = 1, **constants: str | float) -> dict[str, Any]:
    """A scenario's ``machine.gpu``. ``constants``: of the datasheet, as a scenario writes them, and
    ``launch``.
    """
    found: dict[str, Any] = {"part": part, **constants}
    if count > 1:
        found |= {"count": count, "interconnect": _FABRIC[part]}
    return found


def scenario(
    source: str,
    options: Mapping[str, Any],
    batch: int,
    gpu: Fields,
    algorithm: Fields | None = None,
    products: Fields | None = None,
) -> hybridsim.Scenario:
    """Digital K-FAC on a shipped workload; by default one label is drawn for each loss term, every
    position counts. ``products``: fields of training that say in which format products are.
    """
    chosen = {
        "kind": "kfac", "method": "digital", "learning_rate": 0.1, "damping": 0.01, "fisher": "mc",
            "ema": 0.95,
        "factors_every": _FACTORS_EVERY, "inverses_every": _INVERSES_EVERY, **(algorithm or {}),
    }  # fmt: skip
    training = {
        "batch_size": batch,
        "steps": _RENEWED,
        "evaluate_every": 10**6,
        "algorithm": chosen,
        **(products or {}),
    }
    workload = {"source": source, "options": {**options, "train_size": batch, "test_size": 1}}
    machine = {"constants": "realistic", "gpu": dict(gpu)}
    return hybridsim.load(
        {"name": "K-FAC costs", "workload": workload, "training": training, "machine": machine}
    )


def measure(
    source: str,
    options: Mapping[str, Any],
    batch: int,
    gpu: Fields,
    algorithm: Fields | None = None,
    products: Fields | None = None,
) -> Costs:
    """Run without tensors; a network is loaded once for runs in a row.

    Raises:
        CapacityError: it does not fit into the GPU's memory.
    """
    found = scenario(source, options, batch, gpu, algorithm, products)
    task = _task(source, json.dumps(dict(options)), batch)
    run = hybridsim.run(found, backend="timing", task=task)
    plain = _groups(run, _PLAIN)
    spans = run.spans[run.spans["step"] == _FULL]
    inversions = spans[spans["kind"].isin(_PREPARES)]
    length_s = (inversions["end_ps"] - inversions["start_ps"]).astype(float) * 1e-12
    sheet = hybridsim.load_part("gpu", gpu["part"])
    efficiency = gpu.get("factorisation_efficiency", sheet.value("factorisation_efficiency"))
    by_products = bool((inversions["kind"] == "Newton-Schulz").any())
    factorised_s = float(inversions["flop"].sum()) / sheet.value("peak_fp32_flop_per_s")
    applied = spans[spans["kind"] == "precondition"]
    return Costs(
        full=_without_passes(_groups(run, _FULL), plain[PASSES]),
        renewed=_without_passes(_groups(run, _RENEWED), plain[PASSES]),
        plain=plain,
        inversions={
            str(k): float(v) for k, v in length_s.groupby(inversions["layer"]).sum().items()
        },
        latency=None if by_products else 1 - factorised_s / efficiency / float(length_s.sum()),
        all_products_s=float((applied["end_ps"] - applied["start_ps"]).sum()) * 1e-12,
        peak_bytes=max(run.summary["gpu_peak_bytes"].values()),
        parameters=task.layout.size,
        digest=run.manifest["digest"][:16],
    )


def measure_anyway(
    source: str,
    options: Mapping[str, Any],
    batch: int,
    gpu: Fields,
    algorithm: Fields | None = None,
    products: Fields | None = None,
) -> tuple[Costs, str]:
    """As ``measure``; what does not fit is priced on the same GPU with enough memory, and the
    refusal is returned too.
    """
    try:
        return measure(source, options, batch, gpu, algorithm, products), ""
    except hybridsim.CapacityError as error:
        enough = {**gpu, "memory_capacity": ENOUGH}
        return measure(source, options, batch, enough, algorithm, products), str(error)


@lru_cache(maxsize=2)
def _task(source: str, options: str, batch: int) -> hybridsim.Task:
    return hybridsim.load_task(scenario(source, json.loads(options), batch, gpus()))


def _groups(run: hybridsim.Run, step: int) -> Groups:
    """Seconds of one step on the critical path."""
    row = run.steps[run.steps["step"] == step].iloc[0]
    start, end = int(row["start_ps"]), int(row["end_ps"])
    found = divided(run, start, end, (*GROUPS, HELP))
    found[INVERSION] += found.pop(HELP)  # damping apart from the inversion that it belongs to
    return {group: time_ps * 1e-12 for group, time_ps in found.items()}


def _without_passes(found: Groups, passes_s: float) -> Groups:
    """Forward and backward as without factors; the rest of them is the factors'."""
    return found | {PASSES: passes_s, AVERAGES: found[AVERAGES] + found[PASSES] - passes_s}
