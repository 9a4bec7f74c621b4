"""TNGD against Adam on the 8 x 8 digits: steps, simulated seconds and joules to 95 % test accuracy.

Five seeds, one learning rate for each algorithm, chosen on the mean over the seeds: first the rate
at which most seeds reach the target, then the one with the fewest steps on average. Intervals are
95 % bootstrap intervals of the mean over seeds (10,000 resamples, percentile); differences are
paired by seed.

    python -m analysis.papers.digits_race --out analysis/papers/results/digits_race.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import hybridsim

SEEDS = (0, 1, 2, 3, 4)
RATES = {"tngd-digits": (0.05, 0.1, 0.2), "adam-digits": (3e-3, 1e-2, 3e-2)}
STEPS = {"tngd-digits": 100, "adam-digits": 400}
MEASURES = ("step", "seconds", "joules")


def race(job: tuple[str, float, int]) -> dict[str, Any]:
    """One run; what it needed to reach its target."""
    name, rate, seed = job
    overrides = [
        f"training.algorithm.learning_rate={rate}",
        f"seed={seed}",
        f"training.steps={STEPS[name]}",
        "training.evaluate_every=1",
    ]
    run = hybridsim.run(hybridsim.load(name, overrides))
    target: dict[str, Any] = dict(run.summary["target"] or {})  # the shipped scenarios have one
    return {
        "scenario": name,
        "learning_rate": rate,
        "seed": seed,
        **{measure: target[measure] for measure in MEASURES},
        "final_test_accuracy": run.summary["final"]["test_accuracy"],
        "digest": run.manifest["digest"],
    }


def chosen_rate(rows: list[dict[str, Any]], name: str) -> float:
    """The learning rate at which most seeds reach the target, and of these the fastest on
    average.
    """

    def merit(rate: float) -> tuple[int, float]:
        steps = [r["step"] for r in rows if (r["scenario"], r["learning_rate"]) == (name, rate)]
        reached = [s for s in steps if s is not None]
        return -len(reached), float(np.mean(reached)) if reached else float("inf")

    return min(RATES[name], key=merit)


def interval(values: list[float]) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval."""
    random = np.random.default_rng(0)
    means = random.choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per algorithm the chosen rate and intervals; paired differences over the seeds at which both
    got there.
    """
    result: dict[str, Any] = {"algorithms": {}, "tngd minus adam, paired by seed": {}}
    chosen = {}
    for name in RATES:
        rate = chosen_rate(rows, name)
        mine = [r for r in rows if (r["scenario"], r["learning_rate"]) == (name, rate)]
        chosen[name] = {r["seed"]: r for r in mine if r["step"] is not None}
        result["algorithms"][name] = {
            "learning_rate": rate,
            "seeds that reached the target": f"{len(chosen[name])} of {len(mine)}",
            **{m: interval([r[m] for r in chosen[name].values()]) for m in MEASURES},
        }
    both = sorted(set(chosen["tngd-digits"]) & set(chosen["adam-digits"]))
    for m in MEASURES:
        gaps = [chosen["tngd-digits"][s][m] - chosen["adam-digits"][s][m] for s in both]
        found = interval(gaps)
        verdict = (
            "no detectable difference" if found["low"] <= 0 <= found["high"] else "a difference"
        )
        result["tngd minus adam, paired by seed"][m] = {
            **found,
            "seeds": len(both),
            "verdict": verdict,
        }
    return result


def main() -> None:
    """Run all, in two processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    out = parser.parse_args()
    jobs = [(name, rate, seed) for name in RATES for rate in RATES[name] for seed in SEEDS]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(out.processes, mp_context=spawn) as pool:
        rows = list(pool.map(race, jobs))
    command = f"python -m analysis.papers.digits_race --out {out.out}"
    text = json.dumps({"command": command, "summary": summarise(rows), "runs": rows}, indent=1)
    out.out.write_text(text + "\n")
    print(json.dumps(summarise(rows), indent=1))


if __name__ == "__main__":
    main()
