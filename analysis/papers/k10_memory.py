"""K10: memory "O(bn) without a moving average, O(bn + n^2) with one": what K-FAC adds to
first-order training.

Four dense layers of n x n, batch b. The peak is the simulator's: of every operation its arguments,
results and everything alive inside it, on top of what is resident (data, optimizer, moving
averages, kept inverses). Tensors that wait between two operations are not counted. From it the peak
of Nesterov training is taken, in numbers of 4 bytes:

- "activations": method 2 with activations and gradients sent, no average (upload: activations);
- "factors": method 2 with factors sent, no average; "averaged factors": with one; "digital":
  averages and kept inverses.

On the SPU's side the paper counts resistors: 2 b n for activations in two arrays, n^2 for a factor.

    python -m analysis.papers.k10_memory --out analysis/papers/results/k10_memory.json
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from analysis.papers.kfac_point import machine, measure, scenario
from analysis.papers.record import arguments, save

LAYERS = 4
ORDERS, BATCHES = (256, 1024, 4096), (64, 512, 4096, 16384)
BASE, BARE, AVERAGED = "nesterov", "factors", "averaged factors"
ACTIVATIONS = "activations"
PAPER = "1 tau"  # what the paper prices; no memory depends on it
SETTINGS: dict[str, dict[str, Any]] = {
    BASE: {"kind": "nesterov", "learning_rate": 0.1},
    ACTIVATIONS: {"method": "solves", "settle": PAPER, "upload": "activations", "ema": 0.0},
    BARE: {"method": "solves", "settle": PAPER, "ema": 0.0},
    AVERAGED: {"method": "solves", "settle": PAPER, "ema": 0.95},
    "digital": {"method": "digital", "ema": 0.95},
}
_ALONE = (BASE, "digital")
NUMBER_BYTES = 4


def peaks(order: int, batch: int) -> dict[str, Any]:
    """Peak numbers under every setting, and resistors of one factor."""
    found: dict[str, Any] = {"n": order, "b": batch}
    digests, resistors = [], {}
    for name, algorithm in SETTINGS.items():
        spus = 0 if name in _ALONE else 1
        point = measure(
            scenario({"width": order, "depth": LAYERS}, algorithm, machine(spus), batch)
        )
        found[name] = point.peak_bytes / NUMBER_BYTES
        digests.append(point.digest[:16])
        if name in (ACTIVATIONS, BARE):
            resistors[name] = point.total("writes", "program") / (2 * LAYERS)
    return found | {"resistors": resistors, "digests": digests}


def added(row: Mapping[str, Any], name: str, over: str = BASE) -> float:
    """Numbers beyond another setting's."""
    return float(row[name]) - float(row[over])


def exponent(values: Mapping[int, float]) -> float | None:
    """Of the growth between the two largest arguments; None where one value is not positive."""
    (a, first), (b, second) = list(pairwise(sorted(values.items())))[-1]
    return math.log(second / first) / math.log(b / a) if first > 0 and second > 0 else None


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is added, in units of b n and n^2, and how it grows."""
    rows = list(rows)
    widest, deepest = max(r["n"] for r in rows), max(r["b"] for r in rows)
    summary: dict[str, Any] = {}
    for name in SETTINGS:
        if name == BASE:
            continue
        extra = {(r["n"], r["b"]): added(r, name) for r in rows}
        summary[name] = {
            "largest extra / (b n)": max(v / (n * b) for (n, b), v in extra.items()),
            "smallest extra / n^2": min(v / n**2 for (n, _), v in extra.items()),
            "exponent in n at the largest b": exponent(
                {n: v for (n, b), v in extra.items() if b == deepest}
            ),
            "exponent in b at the largest n": exponent(
                {b: v for (n, b), v in extra.items() if n == widest}
            ),
            "share of the peak at the largest n, smallest b": 1 - 1 / _ratio(rows, name, widest),
        }
    averages = {r["n"]: added(r, AVERAGED, BARE) for r in rows}
    summary["the moving average alone / n^2"] = sorted({v / n**2 for n, v in averages.items()})
    summary["resistors of a factor / of its activations"] = {
        f"n {r['n']}, b {r['b']}": r["resistors"][BARE] / r["resistors"][ACTIVATIONS] for r in rows
    }
    return summary


def _ratio(rows: Iterable[Mapping[str, Any]], name: str, order: int) -> float:
    row = min((r for r in rows if r["n"] == order), key=lambda r: r["b"])
    return float(row[name] / row[BASE])


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    rows = [peaks(order, batch) for order in ORDERS for batch in BATCHES]
    save(given.out, "k10_memory", {"layers": LAYERS, "settings": SETTINGS}, summarise(rows), rows)


if __name__ == "__main__":
    main()
