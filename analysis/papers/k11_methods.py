"""K11: is method 2 (linear systems) cheaper than method 1 (inverses by unit columns, or from the
noise)?

Two dense layers, n -> m -> n, so that each has factors of orders m and n; batch 512, one A100, 16
bit, 50 Gb/s on private links, the faster of the placements "columns" and "auto", moving average
0.95. With inverses renewed every step (T1 = T2 = 1), and every tenth: method 1 keeps its inverses
on the GPU, method 2 solves every step against the old factors. From the noise: 1000 samples, 1 RC
apart, whatever n: their covariance has a rank of at most 1000, and errs by 1/sqrt(1000).

Numbers are method 1 over method 2; above 1.01, method 2 is called cheaper. "time" is the
preconditioning: the step without what all methods share. Energy counts GPU, links and SPUs, idle
power included.

    python -m analysis.papers.k11_methods --out analysis/papers/results/k11_methods.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from analysis.papers.kfac_point import (
    COMMON,
    DIGITAL,
    Point,
    machine,
    measure,
    scenario,
    settling_tau,
)
from analysis.papers.record import arguments, save

ORDERS, SHAPES = (256, 1024, 4096), (1, 4, 16)
SPUS, EVERY = (1, 8), (1, 10)
SETTLES = {"1 RC": 1.0, "16 bit at damping 0.1": settling_tau(16, 0.1)}
METHODS: dict[str, dict[str, Any]] = {
    "solves": {"method": "solves"},
    "inverse": {"method": "inverse"},
    "noise": {
        "method": "noise",
        "noise": 1e-3,
        "covariance": {"samples": 1000, "spacing": "1 tau"},
    },
}
SOLVES = "solves"
MARGIN = 0.01  # less is no difference
UP = ("upload factor", "upload columns")


def run(options: Mapping[str, int], algorithm: Mapping[str, Any], spus: int, every: int) -> Point:
    """A point under the faster placement; means over whole periods of T2."""
    intervals = {"factors_every": every, "inverses_every": every}
    steps = 2 if every == 1 else 2 * every
    found = []
    for placement in ("auto", "columns") if spus > 1 else ("auto",):
        chosen = {**algorithm, **intervals, **({"placement": placement} if spus else {})}
        found.append(measure(scenario(options, chosen, machine(spus), steps=steps), every))
    return min(found, key=lambda point: point.step_s)


def row(order: int, shape: int, spus: int, every: int, settle: str) -> dict[str, Any]:
    """All methods at one setting."""
    options = {"width": order, "other": order // shape, "depth": 2}
    common_s = run(options, DIGITAL, 0, every).groups_s[COMMON]
    found: dict[str, Any] = {
        "n": order,
        "m": order // shape,
        "spus": spus,
        "T2": every,
        "settle": settle,
    }
    for name, method in METHODS.items():
        point = run(options, {**method, "settle": f"{SETTLES[settle]!r} tau"}, spus, every)
        found[name] = {
            "time": point.step_s - common_s,
            "step_s": point.step_s,
            "binds": point.binding,
            "bits up": point.total("bits", *UP, part="gpu0-"),
            "bits down": point.total("bits", "download"),
            "conversions": point.total("conversions", "convert", "measure"),
            "settling": sum(r["time_s"] for (_, k), r in point.totals.items() if k == "settle"),
            "energy": point.joules[0],
            "energy band": point.joules[1:],
            "digest": point.digest[:16],
        }
    return found


def ratios(one: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Method 1 over method 2."""
    base = one[SOLVES]
    measures = [key for key, value in base.items() if isinstance(value, float)]
    return {
        name: {key: one[name][key] / base[key] for key in measures if base[key]}
        for name in METHODS
        if name != SOLVES
    }


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Where method 2 is cheaper: number of settings, and the range of each ratio."""
    summary: dict[str, Any] = {}
    for name, every in product([m for m in METHODS if m != SOLVES], EVERY):
        found = [(one, ratios(one)[name]) for one in rows if one["T2"] == every]
        if not found:
            continue
        part = summary[f"{name} over solves, T2 = {every}"] = {}
        for key in found[0][1]:
            values = [ratio[key] for _, ratio in found if key in ratio]
            cheaper = sum(value > 1 + MARGIN for value in values)
            part[key] = {
                "least": min(values),
                "most": max(values),
                "method 2 cheaper in": f"{cheaper} of {len(values)}",
            }
        part["time by setting"] = {
            f"n {o['n']}, m {o['m']}, {o['spus']} SPUs, {o['settle']}": {
                "ratio": r["time"],
                "binds": o[name]["binds"],
            }
            for o, r in found
        }
    return summary


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    settings = product(ORDERS, SHAPES, SPUS, EVERY, SETTLES)
    rows = [
        row(order, shape, spus, every, settle) for order, shape, spus, every, settle in settings
    ]
    setting = {"layers": 2, "batch_size": 512, "settle in RC": SETTLES, "methods": METHODS}
    save(given.out, "k11_methods", setting, summarise(rows), rows)


if __name__ == "__main__":
    main()
