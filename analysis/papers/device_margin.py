"""How far TNGD's loop is from running away: against mismatch and damping, on digits.

With J and its transpose in two arrays the drift lambda I + J1^T H J2 is not symmetric. The margin
is the real part of its smallest eigenvalue, lowest over the first steps of training; lambda on an
ideal device, below 0 a mode grows. Mismatch acts alone. One device for each seed.

    python -m analysis.papers.device_margin --out analysis/papers/results/device_margin.json
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import product
from pathlib import Path
from typing import Any

import hybridsim
from analysis.papers import device
from analysis.papers.paired import mean_interval
from analysis.papers.record import parser, save

MISMATCH = (0.001, 0.003, 0.01, 0.03, 0.1)
DAMPING = (0.005, 0.02, 0.05, 0.2, 1.0)
SEEDS = (0, 1, 2)
STEPS = 10


def margin(sigma: float, damping: float, seed: int, folder: Path) -> float:
    """The lowest over all systems that are programmed."""
    fields = device.acting("mismatch") | {
        f"{device.SPUS}.mismatch": sigma,
        f"{device.SPUS}.instance": 100 * seed,
        "training.algorithm.damping": damping,
        "training.steps": STEPS,
        "training.evaluate_every": STEPS,
        "seed": seed,
    }
    store = folder / f"{sigma}-{damping}-{seed}.sqlite"
    scenario = device.on_digits("tngd", fields).load()
    with suppress(hybridsim.HybridsimError):  # it ran away: what was settled before is kept
        hybridsim.run(scenario, folder / "run", facts=store, force=True)
    with closing(sqlite3.connect(store)) as db:
        kept = [json.loads(text) for (text,) in db.execute("SELECT facts FROM facts")]
    return float(min(one["smallest_eigenvalue"] for one in kept if "smallest_eigenvalue" in one))


def rows(seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Every mismatch with every damping and seed."""
    with tempfile.TemporaryDirectory() as folder:
        for sigma, damping, seed in product(MISMATCH, DAMPING, seeds):
            found = margin(sigma, damping, seed, Path(folder))
            yield {"mismatch": sigma, "damping": damping, "seed": seed, "margin": found}


def summarise(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Margin over damping, by mismatch and damping; the largest mismatch of which none runs away;
    how much margin a mismatch takes, where it leaves some.
    """
    over: dict[float, dict[float, list[float]]] = {}
    for one in found:
        mine = over.setdefault(one["damping"], {}).setdefault(one["mismatch"], [])
        mine.append(one["margin"] / one["damping"])
    stable = {
        damping: max((s for s, values in mine.items() if min(values) > 0), default=0.0)
        for damping, mine in over.items()
    }
    lost: dict[float, list[float]] = {}
    for one in found:
        if one["margin"] > 0:
            lost.setdefault(one["mismatch"], []).append(one["damping"] - one["margin"])
    return {
        "margin over damping": {
            damping: {sigma: mean_interval(values) for sigma, values in mine.items()}
            for damping, mine in over.items()
        },
        "largest mismatch that stays stable": stable,
        "loss of margin": {sigma: mean_interval(values) for sigma, values in lost.items()},
    }


def main() -> None:
    """Run and write."""
    given = parser(__doc__).parse_args()
    found = []
    for one in rows(SEEDS):
        print(json.dumps(one), flush=True)
        found.append(one)
    save(
        given.out, "device_margin", {"steps": STEPS, "seeds": list(SEEDS)}, summarise(found), found
    )


if __name__ == "__main__":
    main()
