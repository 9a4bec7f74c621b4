"""K1, K2: the share of inversion in a digital K-FAC step on ViT S/16 and the GNN, and what is
gained at most without it.

The paper: 11 % on 4 V100 and 16 % on 8 A100 for the ViT, 27 % and 35 % for the GNN, NVLink. Here
the same networks on the same machines, simulated. What is not known of the setting of these numbers
is assumed: AlgoPerf's global batch (ViT 1,024 images, GNN 512 graphs), every step with new factors
and inverses (T1 = T2 = 1), FP32, one drawn label for each loss term, expand, each inversion on one
GPU (layer-parallel). Then one assumption at a time is another, and at last all combinations of
some.

"Replicated": every GPU inverts and applies all blocks; taken from the same runs, only the moving
averages (below 0.2 % of a step) are left where they were. "On tensor cores": products in TF32
(A100) or with operands in FP16 (V100). "Batched": the factors of one order that a GPU owns are one
call; Newton-Schulz inverts these together, by products alone.

K2: with share s a step without inversions is at most 1/(1-s) times as fast. The bound is compared
with a simulated step that has new factors and no inversions. Where a step does not fit into a GPU,
the simulator refuses it (the column "refusal"), and it is priced as if there were memory enough.

    python -m analysis.papers.k1_shares --out analysis/papers/results/k1_shares.json
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from analysis.papers.kfac_figure import draw
from analysis.papers.kfac_runs import (
    A100,
    TENSOR_CORES,
    V100,
    Costs,
    gpus,
    measure_anyway,
    share,
    shares,
)
from analysis.papers.record import arguments, save

MACHINES = {"4 x V100": (V100, 4), "8 x A100": (A100, 8)}
VIT = {
    "image": 224,
    "patch": 16,
    "width": 384,
    "mlp": 1536,
    "depth": 12,
    "heads": 6,
    "classes": 1000,
}
GNN = {"latent": 256, "steps": 5, "outputs": 128}
WORKLOADS: dict[str, tuple[dict[str, int], int]] = {"vit": (VIT, 1024), "gnn": (GNN, 512)}
PAPER = {
    ("vit", "4 x V100"): 0.11,
    ("vit", "8 x A100"): 0.16,
    ("gnn", "4 x V100"): 0.27,
    ("gnn", "8 x A100"): 0.35,
}
CLOSE, NEAR = 1.25, 1.5
Change = Mapping[str, Any]
BASE: dict[str, Any] = {
    "batch": 1.0,
    "algorithm": {},
    "gpu": {},
    "tensor_cores": False,
    "intervals": (1, 1),
    "replicated": False,
}


def _newton_schulz(iterations: int) -> dict[str, Any]:
    """Factors of one order together. Without numbers all iterations are taken."""
    return {"kind": "newton_schulz", "batched": True, "iterations": iterations}


ASSUMPTIONS: dict[str, Change] = {
    "base": {},
    "labels of the data": {"algorithm": {"fisher": "empirical"}},
    "type-2 Fisher": {"algorithm": {"fisher": "type2"}},
    "reduce": {"algorithm": {"sharing": "reduce"}},
    "products on tensor cores": {"tensor_cores": True},
    "CUDA graphs": {"gpu": {"launch": "graph"}},
    "batched inversions": {"algorithm": {"inversion": {"batched": True}}},
    "Newton-Schulz, 3 iterations": {"algorithm": {"inversion": _newton_schulz(3)}},
    "tensor cores, graphs, batched": {
        "tensor_cores": True,
        "gpu": {"launch": "graph"},
        "algorithm": {"inversion": {"batched": True}},
    },
    "tensor cores, graphs, Newton-Schulz, 3 iterations": {
        "tensor_cores": True,
        "gpu": {"launch": "graph"},
        "algorithm": {"inversion": _newton_schulz(3)},
    },
    "replicated inversions": {"replicated": True},
    "T1 = 1, T2 = 10": {"intervals": (1, 10)},
    "T1 = T2 = 10": {"intervals": (10, 10)},
    "eigendecompositions": {"algorithm": {"damping_rule": "exact"}},
    "products at 0.6 of the peak": {"gpu": {"contraction_efficiency": 0.6}},
    "products at the peak": {"gpu": {"contraction_efficiency": 1.0}},
    "inverses at 1.4 us per column": {"gpu": {"inverse_step": "1.4 us"}},
    "inverses at 4 us per column": {"gpu": {"inverse_step": "4 us"}},
    "inversions at 0.2 of the peak": {"gpu": {"factorisation_efficiency": 0.2}},
    "inversions at 0.8 of the peak": {"gpu": {"factorisation_efficiency": 0.8}},
    "half the batch": {"batch": 0.5},
}
SLOW = {
    ("vit", "type-2 Fisher")
}  # one backward pass for each of 1,000 classes: minutes to count, a share near 0
COMBINED: dict[str, tuple[str, ...]] = {
    "fisher": ("mc", "empirical"),
    "sharing": ("expand", "reduce"),
    "products": ("FP32", "tensor cores"),
    "inversions": ("layer-parallel", "replicated"),
    "intervals": ("1, 1", "1, 10", "10, 10", "10, 100"),
}


def costs(workload: str, machine: str, change: Change) -> tuple[Costs, str]:
    """The costs under a ``change`` of ``BASE``, its intervals aside; what the simulator said if a
    step does not fit.
    """
    options, batch = WORKLOADS[workload]
    found = {**BASE, **change}
    gpu = gpus(*MACHINES[machine], **found["gpu"])
    products = TENSOR_CORES[MACHINES[machine][0]] if found["tensor_cores"] else {}
    simulated, refusal = measure_anyway(
        workload, options, round(batch * found["batch"]), gpu, found["algorithm"], products
    )
    return simulated.replicated() if found["replicated"] else simulated, refusal


def row(workload: str, machine: str, name: str, change: Change) -> dict[str, Any]:
    """One line of the result."""
    found, refusal = costs(workload, machine, change)
    step = found.per_step(*change.get("intervals", BASE["intervals"]))
    return {
        "workload": workload,
        "machine": machine,
        "assumption": name,
        "step_s": sum(step.values()),
        "shares": shares(step),
        "latency_of_inversions": found.latency,
        "memory_bytes": found.peak_bytes,
        "refusal": refusal,
        "digest": found.digest,
    }


def combinations() -> list[dict[str, Any]]:
    """Every combination of ``COMBINED``: its four shares, in the order of ``PAPER``."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for workload, machine in PAPER:
        for fisher, sharing, products in product(
            *(COMBINED[k] for k in ("fisher", "sharing", "products"))
        ):
            change = {
                "algorithm": {"fisher": fisher, "sharing": sharing},
                "tensor_cores": products == "tensor cores",
            }
            one, _ = costs(workload, machine, change)
            for inversions, intervals in product(COMBINED["inversions"], COMBINED["intervals"]):
                used = one.replicated() if inversions == "replicated" else one
                step = used.per_step(*(int(every) for every in intervals.split(", ")))
                key = (fisher, sharing, products, inversions, intervals)
                found.setdefault(key, {})[f"{workload}, {machine}"] = share(step)
    return [
        {**dict(zip(COMBINED, key, strict=True)), "shares": values} for key, values in found.items()
    ]


def off(found: Mapping[str, float]) -> float:
    """The largest factor, in either direction, between predictions and the paper's numbers."""
    paper = {f"{workload}, {machine}": value for (workload, machine), value in PAPER.items()}
    return max(math.exp(abs(math.log(value / paper[name]))) for name, value in found.items())


def summarise(
    found: Sequence[Mapping[str, Any]], combined: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Predicted shares over the paper's by assumption, and the combinations that come closest."""
    by_name: dict[str, dict[str, float]] = {}
    for line in found:
        by_name.setdefault(line["assumption"], {})[f"{line['workload']}, {line['machine']}"] = (
            share(line["shares"])
        )
    lines = list(combined)
    return {
        "paper": {f"{w}, {m}": value for (w, m), value in PAPER.items()},
        "predicted": {
            name: {**values, "largest factor off": off(values)} for name, values in by_name.items()
        },
        "combinations": {
            "both": closest(lines, ""),
            **{name: closest(lines, name) for name in WORKLOADS},
        },
    }


def closest(combined: Sequence[Mapping[str, Any]], workload: str) -> dict[str, Any]:
    """How many combinations come close to the paper's numbers of one workload (of all, if none is
    named), and the best.
    """

    def off_by(line: Mapping[str, Any]) -> float:
        return off(
            {name: value for name, value in line["shares"].items() if name.startswith(workload)}
        )

    ranked = sorted(combined, key=off_by)
    return {
        "tried": len(ranked),
        f"within a factor of {CLOSE}": sum(off_by(line) <= CLOSE for line in ranked),
        f"within a factor of {NEAR}": sum(off_by(line) <= NEAR for line in ranked),
        "closest": [{**line, "largest factor off": off_by(line)} for line in ranked[:3]],
    }


def amdahl(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Under the base assumptions: 1/(1 - share), and how much faster a step with new factors and no
    inversions is; the paper's.
    """
    summary = {}
    for line in found:
        if line["assumption"] == "base":
            workload, machine = line["workload"], line["machine"]
            free = sum(costs(workload, machine, {})[0].renewed.values())
            summary[f"{workload}, {machine}"] = {
                "at most": 1 / (1 - share(line["shares"])),
                "simulated without inversions": line["step_s"] / free,
                "paper": 1 / (1 - PAPER[workload, machine]),
            }
    return summary


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    named = [(w, m, name) for w, m in PAPER for name in ASSUMPTIONS if (w, name) not in SLOW]
    found = [row(w, m, name, ASSUMPTIONS[name]) for w, m, name in named]
    combined = combinations()
    summary = summarise(found, combined)
    summary["K2: faster without inversions"] = amdahl(found)
    setting = {
        "workloads": {
            name: {**options, "batch_size": batch} for name, (options, batch) in WORKLOADS.items()
        },
        "machines": {
            name: {"gpu": part, "count": count} for name, (part, count) in MACHINES.items()
        },
        "base": "T1 = T2 = 1, FP32, mc with one label, expand, layer-parallel inversions",
        "combinations": COMBINED,
    }
    save(given.out, "k1_shares", setting, {**summary, "all combinations": combined}, found)
    if given.page:
        charts = [
            (
                [r for r in found if (r["workload"], r["machine"]) == pair],
                "assumption",
                f"{pair[0]} on {pair[1]}.",
            )
            for pair in PAPER
        ]
        draw(given.page, "Where a digital K-FAC step goes on several GPUs", charts)


if __name__ == "__main__":
    main()
