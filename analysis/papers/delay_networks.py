"""T7 beyond the paper's CNN: does delay help on other networks, and on another task?

Four kinds of network (``small_networks``) on the 8 x 8 digits and on drawn clusters; t = 5 tau, the
state kept, ideal converters and devices, no noise, b = 16, 100 steps. A forced delay t_d of 0.2, 1
and 5 tau against none, which is the synchronous device with a kept state. The learning rate of each
network and task is the best of four without delay, on a seed of its own. Ratios of late training
losses (mean of the last 20 steps) are paired by seed, with 95 % t intervals, over the seeds that
train to the end; the others are counted.

    python -m analysis.papers.delay_networks --out analysis/papers/results/delay_networks.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.papers import sweep
from analysis.papers.mnist_runs import IDEAL
from analysis.papers.paired import ratio, verdict
from analysis.papers.record import save
from analysis.papers.small_networks import NETWORKS, TASKS
from analysis.papers.sweep import Fields, Variant

SEEDS, CHOOSING = (0, 1, 2, 3), (100,)
STEPS, LAST = 100, 20
DELAYS = ("0.2 tau", "1 tau", "5 tau")
RATES = (0.02, 0.05, 0.1, 0.2)
NONE = "none"
SOURCE = str(Path(__file__).resolve().with_name("small_networks.py"))
PAIRS = tuple(product(NETWORKS, TASKS))
Rates = dict[tuple[str, str], float]


def variant(network: str, task: str, rate: float, delay: str) -> Variant:
    """TNGD that keeps its state, on one network and task, under a delay or none."""
    fields: Fields = {
        "workload": {"source": SOURCE, "options": {"network": network, "task": task}},
        "training.batch_size": 16,
        "training.steps": STEPS,
        "training.evaluate_every": STEPS,
        "training.algorithm.learning_rate": rate,
        "training.algorithm.settle": "5 tau",
        "training.algorithm.state": "kept",
        "training.algorithm.calibration_every": None,
        "machine.spus.imperfections": "ideal",
        **IDEAL,
    }
    if delay != NONE:
        fields |= {
            "training.algorithm.mode": "asynchronous",
            "training.algorithm.delay": delay,
            "machine.spus.buffering": "double",
        }
    return Variant("tngd-digits", fields)


def late_losses(
    given: argparse.Namespace, variants: dict[str, Variant], seeds: tuple[int, ...]
) -> dict[str, list[float]]:
    """Late training losses by variant, in the order of the seeds; infinite where a run failed."""
    found: dict[str, dict[int, float]] = {name: {} for name in variants}
    for made in sweep.made(given, variants, seeds):
        losses = [float("inf")] if made.run is None else made.run.steps["train_loss"].tail(LAST)
        found[made.variant][made.seed] = fmean(losses)
    return {name: [own[seed] for seed in seeds] for name, own in found.items()}


def chosen_rates(given: argparse.Namespace) -> Rates:
    """The rate of each network and task with the lowest late loss without delay."""
    tried = {(n, t, rate): f"{n}, {t}, {rate}" for n, t in PAIRS for rate in RATES}
    variants = {name: variant(n, t, r, NONE) for (n, t, r), name in tried.items()}
    losses = late_losses(given, variants, CHOOSING)
    return {(n, t): min(RATES, key=lambda r: losses[tried[n, t, r]][0]) for n, t in PAIRS}


def summarise(losses: dict[str, list[float]], rates: Rates) -> dict[str, Any]:
    """By network and task: the delays' losses over that without, and what follows."""
    found: dict[str, Any] = {}
    for network, task in PAIRS:
        name = f"{network}, {task}"
        base = losses[f"{name}, {NONE}"]
        pairs = {delay: _finite(losses[f"{name}, {delay}"], base) for delay in DELAYS}
        ratios = {d: ratio(*zip(*both, strict=True)) for d, both in pairs.items() if len(both) > 1}
        found[name] = {
            "learning rate": rates[network, task],
            "late loss without delay": [loss for loss in base if isfinite(loss)],
            "late loss over none": ratios,
            "seeds of both": {delay: len(both) for delay, both in pairs.items()},
            "some delay helps": _helps(ratios),
        }
    told = [row["some delay helps"] for row in found.values()]
    return {"networks": found, "helps": told.count("holds"), "of": len(told)}


def _finite(mine: Sequence[float], base: Sequence[float]) -> list[tuple[float, float]]:
    """By seed, where both trained to the end."""
    pairs = zip(mine, base, strict=True)
    return [(a, b) for a, b in pairs if isfinite(a) and isfinite(b)]


def _helps(ratios: dict[str, Any]) -> str:
    """``holds``: the interval of a delay lies below 1; ``does not``: all lie above."""
    found = {verdict(one, 0.0, 1.0) for one in ratios.values()}
    return next((w for w in ("holds", "not separable", "does not") if w in found), "not separable")


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    rates = chosen_rates(given)
    variants = {
        f"{network}, {task}, {delay}": variant(network, task, rates[network, task], delay)
        for network, task in PAIRS
        for delay in (NONE, *DELAYS)
    }
    losses = late_losses(given, variants, SEEDS)
    rows = [
        {"variant": name, "seed": seed, "late_loss": loss}
        for name, own in losses.items()
        for seed, loss in zip(SEEDS, own, strict=True)
    ]
    setting = {"steps": STEPS, "last": LAST, "rates": RATES, "delays": DELAYS, "seeds": SEEDS}
    save(given.out, "delay_networks", setting, summarise(losses, rates), rows)


if __name__ == "__main__":
    main()
