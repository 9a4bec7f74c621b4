"""K6: does inversion dominate fully where the vocabulary is large?

One A100, every step with new factors and inverses (T1 = T2 = 1). The paper's GPT: batch 64, 512
positions, 12 blocks, width 768. The vocabulary of V tokens gives the head a G of order V (and under
reduce the embedding an A of that order). "Dominates fully", read here as: nine tenths of the step
or more. One drawn label for each loss term; the type-2 Fisher would need V backward passes.

Where the step does not fit into 80 GB, the simulator refuses it. It is then priced on an A100 with
as much memory as it takes; everything else is the A100's.

    python -m analysis.papers.k6_vocabulary --out analysis/papers/results/k6_vocabulary.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.papers.kfac_figure import draw
from analysis.papers.kfac_runs import (
    A100,
    TENSOR_CORES,
    Costs,
    gpus,
    measure_anyway,
    share,
    shares,
)
from analysis.papers.record import arguments, save
from analysis.papers.step_time import INVERSION

SIZES, BATCH = {"width": 768, "sequence": 512, "depth": 12, "heads": 12}, 64
VOCABULARIES = (1000, 2000, 5000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000)
ALL = 0.9
SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "expand": ({"sharing": "expand"}, False),
    "expand, TF32 products": ({"sharing": "expand"}, True),
    "reduce": ({"sharing": "reduce"}, False),
    "reduce, TF32 products": ({"sharing": "reduce"}, True),
    "expand, TF32, Newton-Schulz, 3 iterations": (
        {
            "sharing": "expand",
            "inversion": {"kind": "newton_schulz", "batched": True, "iterations": 3},
        },
        True,
    ),
}


def costs(
    vocabulary: int, setting: str, sizes: Mapping[str, int] = SIZES, batch: int = BATCH
) -> tuple[Costs, str]:
    """The costs, and what the simulator said if the step does not fit."""
    algorithm, tensor_cores = SETTINGS[setting]
    products = TENSOR_CORES[A100] if tensor_cores else {}
    options = {**sizes, "vocabulary": vocabulary}
    return measure_anyway("gpt", options, batch, gpus(), algorithm, products)


def rows(
    vocabularies: Iterable[int], sizes: Mapping[str, int] = SIZES, batch: int = BATCH
) -> list[dict[str, Any]]:
    """Every vocabulary under every setting."""
    found = []
    for vocabulary in vocabularies:
        for setting in SETTINGS:
            found_costs, refusal = costs(vocabulary, setting, sizes, batch)
            step = found_costs.per_step()
            orders = [found_costs.inversions.get(name, 0.0) for name in ("head", "tokens")]
            found.append({
                "setting": setting,
                "vocabulary": vocabulary,
                "step_s": sum(step.values()),
                "shares": shares(step),
                "head_and_embedding": sum(orders) / sum(found_costs.inversions.values()),
                "memory_bytes": found_costs.peak_bytes,
                "refusal": refusal,
                "parameters": found_costs.parameters,
                "digest": found_costs.digest,
            })  # fmt: skip
    return found


def summarise(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By setting: shares of inversion, the largest vocabulary that fits, where inversion leads and
    dominates.
    """
    summary: dict[str, Any] = {}
    for setting in dict.fromkeys(row["setting"] for row in found):
        mine = sorted(
            (row for row in found if row["setting"] == setting), key=lambda row: row["vocabulary"]
        )
        inversion = {row["vocabulary"]: share(row["shares"]) for row in mine}
        leads = [
            row["vocabulary"]
            for row in mine
            if row["shares"][INVERSION] >= max(row["shares"].values())
        ]
        summary[setting] = {
            "share of inversion": inversion,
            "memory in GB": {row["vocabulary"]: row["memory_bytes"] / 1e9 for row in mine},
            "largest that fits": max(
                (row["vocabulary"] for row in mine if not row["refusal"]), default=None
            ),
            "inversion is the largest group at": leads,
            "dominates fully at": [v for v, value in inversion.items() if value >= ALL],
        }
    return summary


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    found = rows(VOCABULARIES)
    setting = {
        "gpu": "a100-sxm4-80gb",
        **SIZES,
        "batch_size": BATCH,
        "intervals": "T1 = T2 = 1",
        "dominates": ALL,
    }
    save(given.out, "k6_vocabulary", setting, summarise(found), found)
    if given.page:
        charts = [
            (
                [row for row in found if row["setting"] == name],
                "vocabulary",
                f"GPT, 12 blocks, width 768: {name}.",
            )
            for name in SETTINGS
        ]
        draw(given.page, "Where a digital K-FAC step goes on an A100, by vocabulary", charts)


if __name__ == "__main__":
    main()
