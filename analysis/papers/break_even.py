"""How many SPUs does thermodynamic K-FAC need, and how long may a solve settle, until digital K-FAC
on the same GPU takes as long for a step?

Schedules of four layers of n x n at the paper's batch, up to n = 8192, by two study files:
``break_even_wide`` and ``break_even_settling``. Nothing is trained at these sizes, so that no point
is trusted, and a schedule has no seeds. ``break_even_trained`` asks where both sides are trained.

The studies' digital side inverts by Cholesky, factor by factor. The same is asked of other ways to
invert and to launch: all factors in one call (batched); Newton-Schulz, batched, 3 iterations (a
warm start on the digits takes 1 to 3); products in TF32; CUDA graphs. TF32 and graphs are given to
the thermodynamic side's GPU too.

    python -m analysis.papers.break_even --out analysis/papers/results/break_even.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import product
from typing import Any

import hybridsim
from analysis.papers import sweep
from analysis.papers.kfac_point import machine, measure, scenario, settling_tau
from analysis.papers.record import save

WIDE, SETTLING = "break_even_wide", "break_even_settling"
WIDTH, SETTLE = "workload.options.width", "training.algorithm.settle"
SPUS, BANDWIDTH = "machine.spus.count", "machine.link.bandwidth"
SIDES = ("thermodynamic", "digital")
GRID = (1, 64)  # fewest and most SPUs
WIDTHS, LAYERS = (128, 512, 2048, 8192), 4
SETTLES = {"1 RC": 1.0, "16 bit": settling_tau(16, 0.1)}
INVERSIONS: dict[str, Mapping[str, Any]] = {
    "Cholesky": {},
    "batched Cholesky": {"batched": True},
    "Newton-Schulz": {"kind": "newton_schulz", "batched": True, "iterations": 3},
}
PRODUCTS = {"FP32": False, "TF32": True}
LAUNCHES = ("eager", "graph")
Row = dict[str, Any]
Read = Callable[[Mapping[str, Any]], Any]


def needed(line: Mapping[str, Any], grid: tuple[int, ...]) -> Row:
    """The least number of SPUs with which the thermodynamic side is ahead, from a line of the
    answer: as a text, with the numbers between which no difference is detectable.
    """
    found = [one for one in line["crossings"] if one["wins_behind"].startswith(SIDES[0])]
    if not found:
        ahead = (line["throughout"] or "").startswith(SIDES[0])
        return {"SPUs": str(grid[0]) if ahead else f"> {grid[-1]}", "low": None, "high": None}
    first = found[0]
    spus = str(round(first["between"][-1]))
    return {"SPUs": spus, "low": first["low"], "high": first["high"]}


def lines(found: hybridsim.StudyResult) -> list[dict[str, Any]]:
    """The answer's lines: one for each combination of the other axes' values."""
    assert found.answer is not None, "no shard"
    own: list[dict[str, Any]] = list(found.answer.facts["lines"])
    return own


def summarise(found: Mapping[str, hybridsim.StudyResult]) -> Row:
    """Both answers as tables by width; ratios are digital over thermodynamic."""
    return {
        "SPUs needed": by_width(
            lines(found[WIDE]), (SETTLE, BANDWIDTH), lambda line: needed(line, GRID)["SPUs"]
        ),
        "ratio of one SPU": by_width(
            [one for one in readings(found[WIDE]) if one["values"][SPUS] == GRID[0]],
            (SETTLE, BANDWIDTH),
            lambda one: one["ratio"],
        ),
        "longest settling that pays": by_width(lines(found[SETTLING]), (SPUS,), settling),
        "answers": {name: sweep.said(one) for name, one in found.items()},
    }


def readings(found: hybridsim.StudyResult) -> list[Row]:
    """Every place that was read: values, digital over thermodynamic step."""
    assert found.answer is not None, "no shard"
    rows = found.answer.table.to_dict("records")
    return [
        {"values": {name: row[name] for name in (WIDTH, SETTLE, BANDWIDTH, SPUS)}}
        | {"ratio": 1 / row["ratio"]}
        for row in rows
    ]


def settling(line: Mapping[str, Any]) -> str:
    """The settling time with which both sides are as fast."""
    if not line["crossings"]:
        return "pays throughout" if line["throughout"].startswith(SIDES[0]) else "nowhere"
    return str(line["crossings"][0]["text"])


def by_width(lines: list[dict[str, Any]], fields: tuple[str, ...], read: Read) -> Row:
    """What is read from each line, by the fields beside the width, then by width."""
    told: Row = {}
    for line in lines:
        name = ", ".join(str(line["values"][field]) for field in fields)
        told.setdefault(name, {})[line["values"][WIDTH]] = read(line)
    return told


def step_s(
    width: int, algorithm: Mapping[str, Any], spus: int, products: str, launch: str
) -> float:
    """A step of four layers on an A100 and so many SPUs of 50 Gb/s; 0: the GPU alone."""
    hardware = machine(spus, gpu={"part": "a100-sxm4-80gb", "launch": launch})
    formats = {"tf32": {"matmul": PRODUCTS[products]}}
    options = {"width": width, "depth": LAYERS}
    return measure(scenario(options, algorithm, hardware, products=formats)).step_s


@cache
def analog_s(width: int, settle: str, products: str, launch: str, spus: int) -> float:
    """A thermodynamic step."""
    solves = {"method": "solves", "settle": f"{SETTLES[settle]!r} tau", "placement": "auto"}
    return step_s(width, solves, spus, products, launch)


def fewest(analog: Callable[[int], float], own_s: float) -> str:
    """The fewest SPUs with which an ``analog`` step is no slower, by bisection: more of them are
    never slower.
    """
    low, high = GRID
    if analog(high) > own_s:
        return f"> {high}"
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if analog(middle) <= own_s else (middle + 1, high)
    return str(high)


def digital_ways(widths: tuple[int, ...] = WIDTHS) -> list[Row]:
    """Every way to invert, multiply and launch, at every width: a digital step, how many times as
    long as a thermodynamic one with one SPU it is, and from how many SPUs on that is no slower.
    """
    found = []
    for width, (name, inversion), products, launch in product(
        widths, INVERSIONS.items(), PRODUCTS, LAUNCHES
    ):
        digital = {"method": "digital", "inversion": dict(inversion)}
        own_s = step_s(width, digital, 0, products, launch)
        row: Row = {"width": width, "inversion": name, "products": products, "launch": launch}
        row["digital_step_s"] = own_s
        for settle in SETTLES:
            analog = partial(analog_s, width, settle, products, launch)
            row[f"ratio of one SPU, {settle}"] = own_s / analog(1)
            row[f"SPUs needed, {settle}"] = fewest(analog, own_s)
        found.append(row)
    return found


def main() -> None:
    """Run the studies and write what they found."""
    given = sweep.parser(__doc__).parse_args()
    found = {name: sweep.study(given, name) for name in (WIDE, SETTLING)}
    runs = [{"study": name, **row} for name, one in found.items() for row in sweep.rows(one)]
    summary = {**summarise(found), "digital ways": digital_ways()}
    save(given.out, "break_even", {"studies": list(found)}, summary, runs)


if __name__ == "__main__":
    main()
