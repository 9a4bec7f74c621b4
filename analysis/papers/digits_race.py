"""TNGD against Adam on the 8 x 8 digits: steps, simulated seconds and joules to 95 % test accuracy.

Five seeds, one learning rate for each algorithm, chosen on the mean over the seeds: first the rate
at which most seeds reach the target, then the one with the fewest steps on average. Means are
geometric, with 95 % intervals by Student's t on logs; ratios are paired by seed, over the seeds at
which both got there.

    python -m analysis.papers.digits_race --out analysis/papers/results/digits_race.json

With ``--again`` the summary of a result is found anew from the runs that it holds.
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
from analysis.papers.revision import revision

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


def interval(values: list[float]) -> dict[str, float | int | str]:
    """Geometric mean over seeds, its interval, and what that rests on."""
    found = hybridsim.log_interval(values)
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    return {**ends, "basis": found.basis}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per algorithm the chosen rate and intervals; paired ratios over the seeds at which both got
    there.
    """
    result: dict[str, Any] = {"algorithms": {}, "tngd over adam, paired by seed": {}}
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
    for m in MEASURES if both else ():
        adam, tngd = ([chosen[name][s][m] for s in both] for name in ("adam-digits", "tngd-digits"))
        found = hybridsim.paired_ratio(adam, tngd)
        result["tngd over adam, paired by seed"][m] = {
            "mean": found.interval.mean,
            "low": found.interval.low,
            "high": found.interval.high,
            "basis": found.interval.basis,
            "p": found.p_value,
            "verdict": "a difference" if found.detectable else "no detectable difference",
        }
    return result


def main() -> None:
    """Run all in two processes, or sum up again what was run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="from the runs that --out holds")
    out = parser.parse_args()
    made = {"revision": revision()}
    if out.again:  # the runs stay those of the revision that made them, if it was noted
        before = json.loads(out.out.read_text())
        rows, made = before["runs"], {k: before[k] for k in made if k in before}
    else:
        jobs = [(name, rate, seed) for name in RATES for rate in RATES[name] for seed in SEEDS]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(out.processes, mp_context=spawn) as pool:
            rows = list(pool.map(race, jobs))
    command = f"python -m analysis.papers.digits_race --out {out.out}"
    found = {
        "command": command,
        **made,
        "summary": summarise(rows),
        "runs": rows,
    }
    out.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(summarise(rows), indent=1))


if __name__ == "__main__":
    main()
