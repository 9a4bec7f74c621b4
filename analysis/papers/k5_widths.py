"""K5: is inversion the main cost of digital K-FAC at all widths, and does its time grow nearly as
n^3 for large n?

One A100, every step with new factors and inverses (T1 = T2 = 1), by default products in FP32, one
drawn label for each loss term, expand. The paper's networks: an MLP with 50 hidden layers on
CIFAR-10's pixels, batch 512; a GPT with 3 blocks, vocabulary 10,000, 64 positions, batch 64. "Main
cost": larger than every other group of the step. "Nearly n^3": an exponent, from one width to the
next, of at least 2.7. The exponent is that of a hidden layer's two inversions (the pixels' and the
vocabulary's factors have the same order at all widths).

Widths above 4,096 of the MLP: two networks of 1 and 2 hidden layers are simulated. Each further
layer costs what the second adds to the first, which is checked on a width that is simulated whole.
No GPU has the memory for them.

    python -m analysis.papers.k5_widths --out analysis/papers/results/k5_widths.json
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from analysis.papers.kfac_figure import draw
from analysis.papers.kfac_runs import (
    A100,
    TENSOR_CORES,
    Costs,
    Fields,
    Groups,
    gpus,
    measure,
    share,
    shares,
)
from analysis.papers.record import arguments, save
from analysis.papers.step_time import INVERSION

DEPTH, BATCH = 50, 512
GPT, GPT_BATCH = {"vocabulary": 10_000, "sequence": 64, "depth": 3}, 64
HEAD = 32  # positions of one attention head, so that every width has whole heads
WIDTHS, EXTENDED, CHECKED = (64, 128, 256, 512, 1024, 2048, 4096), (8192, 16384), 1024
GPT_WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096)
CUBIC, LARGE = 2.7, 2048
TF32 = TENSOR_CORES[A100]


class Assumption(NamedTuple):
    """Fields of the algorithm, the GPU and the products that differ."""

    algorithm: dict[str, Any] = {}
    gpu: dict[str, Any] = {}
    products: Fields = {}


def _inverted(tf32: bool = False, **inversion: Any) -> Assumption:
    """Another way of inversion; its best uses batches, TF32 and CUDA graphs."""
    algorithm = {"inversion": {"batched": True, **inversion}}
    return Assumption(algorithm, {"launch": "graph"}, TF32) if tf32 else Assumption(algorithm)


ASSUMPTIONS = {
    "base": Assumption(),
    "reduce": Assumption({"sharing": "reduce"}),
    "labels of the data": Assumption({"fisher": "empirical"}),
    "products on tensor cores (TF32)": Assumption(products=TF32),
    "CUDA graphs": Assumption(gpu={"launch": "graph"}),
    "inverses at 1.4 us per column": Assumption(gpu={"inverse_step": "1.4 us"}),
    "inverses at 4 us per column": Assumption(gpu={"inverse_step": "4 us"}),
    "products at 0.6 of the peak": Assumption(gpu={"contraction_efficiency": 0.6}),
    "products at the peak": Assumption(gpu={"contraction_efficiency": 1.0}),
    "inversions at 0.2 of the peak": Assumption(gpu={"factorisation_efficiency": 0.2}),
    "inversions at 0.8 of the peak": Assumption(gpu={"factorisation_efficiency": 0.8}),
    "batched": _inverted(),
    "Newton-Schulz, 3 iterations": _inverted(kind="newton_schulz", iterations=3),
    "TF32, graphs, batched": _inverted(tf32=True),
    "TF32, graphs, Newton-Schulz, 3 iterations": _inverted(
        tf32=True, kind="newton_schulz", iterations=3
    ),
}


def mlp(width: int, depth: int = DEPTH, batch: int = BATCH, assumption: str = "base") -> Costs:
    """The MLP, simulated."""
    algorithm, gpu, products = ASSUMPTIONS[assumption]
    options = {"depth": depth, "width": width, "synthetic": True}
    return measure("mlp_cifar", options, batch, gpus(**gpu), algorithm, products)


def gpt(
    width: int, sizes: Mapping[str, int], batch: int = GPT_BATCH, assumption: str = "base"
) -> Costs:
    """The GPT, simulated."""
    algorithm, gpu, products = ASSUMPTIONS[assumption]
    options = {**sizes, "width": width, "heads": max(width // HEAD, 1)}
    return measure("gpt", options, batch, gpus(**gpu), algorithm, products)


def extended(width: int, depth: int = DEPTH, batch: int = BATCH) -> tuple[Groups, Costs]:
    """A step of the MLP from networks of 1 and 2 hidden layers, and the second with what memory the
    step takes at least.

    That is: parameters, two more numbers for each, averages and inverses of the hidden layers.
    """
    one, two = (mlp(width, d, batch) for d in (1, 2))
    first, second = one.per_step(), two.per_step()
    parameters = one.parameters + (depth - 1) * (two.parameters - one.parameters)
    least = 4 * (3 * parameters + 4 * (depth - 1) * width**2)
    groups = {g: first[g] + (depth - 1) * (second[g] - first[g]) for g in first}
    return groups, replace(two, parameters=parameters, peak_bytes=least)


def row(
    network: str, width: int, groups: Groups, costs: Costs, hidden: str, simulated: str = "whole"
) -> dict[str, Any]:
    """One line of the result; ``hidden``: a layer whose factors both have the order of the
    width.
    """
    return {
        "network": network,
        "width": width,
        "simulated": simulated,
        "step_s": sum(groups.values()),
        "shares": shares(groups),
        "hidden_layer_inversions_s": costs.inversions[hidden],
        "latency_of_inversions": costs.latency,
        "memory_bytes": costs.peak_bytes,
        "parameters": costs.parameters,
        "digest": costs.digest,
    }


def rows(
    widths: Sequence[int], further: Sequence[int], gpt_widths: Sequence[int]
) -> list[dict[str, Any]]:
    """Every width of both networks."""
    found = []
    for width in widths:
        costs = mlp(width)
        found.append(row("mlp", width, costs.per_step(), costs, "2"))
    for width in further:
        found.append(row("mlp", width, *extended(width), "2", "one and two layers of it"))
    for width in gpt_widths:
        costs = gpt(width, GPT)
        found.append(row("gpt", width, costs.per_step(), costs, "blocks.0.attention.out"))
    return found


def exponents(values: Mapping[int, float]) -> dict[str, float]:
    """Local exponent d log t / d log n from each width to the next."""
    return {
        f"{n} - {m}": math.log(values[m] / values[n]) / math.log(m / n)
        for n, m in pairwise(sorted(values))
    }


def summarise(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By network: the share of inversion, the largest other group, exponents, verdicts."""
    summary: dict[str, Any] = {}
    for network in dict.fromkeys(row["network"] for row in found):
        mine = {row["width"]: row for row in found if row["network"] == network}
        others = {
            w: max((s, g) for g, s in r["shares"].items() if g != INVERSION)
            for w, r in mine.items()
        }
        inversion = {w: r["shares"][INVERSION] for w, r in mine.items()}
        layer = exponents({w: r["hidden_layer_inversions_s"] for w, r in mine.items()})
        total = exponents({w: r["step_s"] * r["shares"][INVERSION] for w, r in mine.items()})
        main = [w for w in mine if inversion[w] > others[w][0]]
        summary[network] = {
            "share of inversion": inversion,
            "largest other group": {w: {"group": g, "share": s} for w, (s, g) in others.items()},
            "exponent of a hidden layer's inversions": layer,
            "exponent of all inversions": total,
            "main cost": "holds" if len(main) == len(mine) else f"at widths {main} of {list(mine)}",
            "nearly cubic": [interval for interval, slope in layer.items() if slope >= CUBIC]
            or "nowhere",
        }
    return summary


def variants(
    width: int, sizes: Mapping[str, int] = GPT, depth: int = DEPTH
) -> dict[str, dict[str, dict[str, float]]]:
    """The share of inversion, and the step, where one assumption is another."""
    found: dict[str, dict[str, dict[str, float]]] = {"mlp": {}, "gpt": {}}
    for name in ASSUMPTIONS:
        found["mlp"][name] = _told(mlp(width, depth, assumption=name).per_step())
    for name in ASSUMPTIONS:
        found["gpt"][name] = _told(gpt(width, sizes, assumption=name).per_step())
    return found


def _told(step: Groups) -> dict[str, float]:
    return {"share of inversion": share(step), "step_s": sum(step.values())}


def check(width: int, depth: int = DEPTH, batch: int = BATCH) -> float:
    """Largest difference of a group's time between the network simulated whole and extended, over
    the step.
    """
    whole, (made, _) = mlp(width, depth, batch).per_step(), extended(width, depth, batch)
    return max(abs(whole[g] - made[g]) for g in whole) / sum(whole.values())


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    found = rows(WIDTHS, EXTENDED, GPT_WIDTHS)
    summary = summarise(found)
    summary[f"at width {LARGE}, one assumption changed"] = variants(LARGE)
    summary["extended against simulated whole, over the step"] = {CHECKED: check(CHECKED)}
    setting = {
        "gpu": "a100-sxm4-80gb",
        "mlp": {"depth": DEPTH, "batch_size": BATCH},
        "gpt": {**GPT, "batch_size": GPT_BATCH, "heads": f"width / {HEAD}"},
        "intervals": "T1 = T2 = 1",
        "extended widths": EXTENDED,
    }
    save(given.out, "k5_widths", setting, summary, found)
    if given.page:
        captions = {
            "mlp": "MLP, 50 hidden layers, batch 512, by width. Up to 4,096 simulated whole.",
            "gpt": "GPT, 3 blocks, vocabulary 10,000, 64 positions, batch 64, by width.",
        }
        charts = [
            ([r for r in found if r["network"] == n], "width", text) for n, text in captions.items()
        ]
        draw(given.page, "Where a digital K-FAC step goes on an A100", charts)


if __name__ == "__main__":
    main()
