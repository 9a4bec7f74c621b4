"""What is gained by using a real device well, and what it costs: refinement, averages, ensembles.

The first steps of the shipped scenarios of thermodynamic natural gradient descent and of K-FAC, on
realistic devices; error of the answers against exact solutions of what was asked, at each step.
Refinement on resistive memory of 3 bits in blocks of 16 x 16 (``rram-16``; Nature Electronics
2025) and on the shipped part; digits gained an iteration. Averages over programmes that are rounded
at random on an ideal device of 6 input bits: the order of the error in their number, and its floor.

    python -m analysis.papers.device_use --out analysis/papers/results/device_use.json
"""

from __future__ import annotations

import math
from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

SEEDS = (0, 1)
STEPS: sweep.Fields = {"training.steps": 3, "training.evaluate_every": 1}
ITERATIONS = (0, 1, 2, 3, 4)
PROGRAMMES = (1, 4, 16, 64)
SPUS = (1, 2, 4)
ALGORITHM = "training.algorithm"
RRAM: sweep.Fields = {
    f"{device.SPUS}.part": "rram-16",
    f"{ALGORITHM}.tiling": "true",
    "workload.options.hidden": 8,
    "workload.options.depth": 1,
}


def variants() -> dict[str, sweep.Variant]:
    """Every way of use, by algorithm, with its number."""
    found: dict[str, sweep.Fields] = {}
    real = device.lacking()
    for k in ITERATIONS:
        mine: sweep.Fields = {f"{ALGORITHM}.refinement": k}
        found |= {f"{kind} refinement {k}": real | mine for kind in device.SCENARIOS}
        found[f"kfac rram-16 {k}"] = real | RRAM | mine
    for number in SPUS:
        mine = {f"{device.SPUS}.count": number, f"{ALGORITHM}.spus": "ensemble"}
        found[f"tngd ensemble {number}"] = real | mine
    ends = {"input_bits": 6, "bias_bits": "ideal", "output_bits": "ideal"}
    coarse = {f"{device.SPUS}.{end}": bits for end, bits in ends.items()}
    coarse |= device.acting() | {f"{ALGORITHM}.rounding": "stochastic"}
    for number in PROGRAMMES:
        mine = {f"{ALGORITHM}.programmes": number, f"{ALGORITHM}.settle": "500 tau"}
        found |= {f"{kind} programmes {number}": coarse | mine for kind in device.SCENARIOS}
        apart = {f"{ALGORITHM}.jacobian_upload": "twice"}
        found[f"tngd programmes apart {number}"] = coarse | mine | apart
    scenarios = {name: device.SCENARIOS[name.split()[0]] for name in found}
    return {name: sweep.Variant(scenarios[name], STEPS | fields) for name, fields in found.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By way of use and its number: error, seconds and joules of a step, digits gained."""
    result: dict[str, Any] = {}
    for name, mine in device.by_variant(found).items():
        way, _, number = name.rpartition(" ")
        told = [one for one in mine if "solver_relative_error" in one]
        errors = [one["solver_relative_error"] for one in told]
        result.setdefault(way, {})[int(number)] = {
            "error": math.exp(sum(map(math.log, errors)) / len(errors)),
            "seconds": sum(one["seconds"] for one in told) / len(told) / 3,
            "joules": sum(one["joules"] for one in told) / len(told) / 3,
        }
    for rows in result.values():
        numbers = sorted(rows)
        for before, number in zip(numbers, numbers[1:], strict=False):
            ratio = rows[before]["error"] / rows[number]["error"]
            rows[number]["digits gained"] = math.log10(ratio)
    return result


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    found = device.rows(given, variants(), SEEDS)
    save(given.out, "device_use", STEPS, summarise(found), found)


if __name__ == "__main__":
    main()
