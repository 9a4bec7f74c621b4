"""K9: does the advantage over digital K-FAC grow linearly with n at a fixed condition number (n^3
against n^2)?

One dense layer of n x n, so two factors of order n, batch 512, A100 against one SPU, 16 bit, 50
Gb/s, one private link. Every exponent is that of an octave, log2 of t(2n)/t(n). Digital: inversion
alone, and with the products that follow it.
Thermodynamic: settling alone; with both directions of the link and the converters (the sum of their
times, whether they overlap or not); and all that a step takes beyond what both share. The settling
is the same for all n: kappa is fixed.

What kappa does follows from the SPU's equation, dx = -(A x - b) dt in units of RC, from rest: in
how many RC do all columns of the inverse of A (64 x 64, eigenvalues from 1/kappa to 1, spread
evenly in their logarithms) come within 2^-8 of A^-1, in the Frobenius norm, without noise.

    python -m analysis.papers.k9_scaling --out analysis/papers/results/k9_scaling.json
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis.papers.kfac_point import (
    COMMON,
    DIGITAL,
    machine,
    measure,
    scenario,
    settling_tau,
)
from analysis.papers.record import arguments, save

ORDERS = tuple(2**k for k in range(7, 15))
LARGE = 4096
KAPPAS, ORDER, BITS = (10, 100, 1000, 10_000), 64, 8
SETTLES = {"1 RC": 1.0, "16 bit at kappa 10": settling_tau(16, 0.1)}
LINK = ("upload factor", "upload columns", "download")


def times(order: int) -> tuple[dict[str, float], list[str]]:
    """Seconds of one step's linear algebra, by what is counted; the runs' digests."""
    base = measure(scenario({"width": order, "depth": 1}, DIGITAL, machine(0)))
    found, digests = {"digital: inversion": base.total("time_s", "invert")}, [base.digest[:16]]
    found["digital: inversion and products"] = found["digital: inversion"] + base.total(
        "time_s", "precondition"
    )
    for method, title in (("solves", "method 2"), ("inverse", "method 1")):
        for name, tau in SETTLES.items():
            chosen = {"method": method, "settle": f"{tau!r} tau", "placement": "auto"}
            point = measure(scenario({"width": order, "depth": 1}, chosen, machine(1)))
            digests.append(point.digest[:16])
            settling = point.total("time_s", "settle")
            moved = point.total("time_s", *LINK, "convert", "measure", "program")
            key = f"{title}, {name}"
            found[f"{key}: settling"] = settling
            found[f"{key}: settling, transfers, converters"] = settling + moved
            found[f"{key}: step beyond what both share"] = point.step_s - base.groups_s[COMMON]
    return found, digests


def exponents(values: Mapping[int, float]) -> dict[str, float]:
    """log2 of the growth from each order to the next, per octave."""
    pairs = pairwise(sorted(values.items()))
    return {f"{n} - {m}": math.log(b / a) / math.log(m / n) for (n, a), (m, b) in pairs}


def asymptotic(values: Mapping[int, float], start: int = LARGE) -> float:
    """Exponent from ``start`` to the largest order."""
    last = max(values)
    return math.log(values[last] / values[start]) / math.log(last / start)


class System(NamedTuple):
    """A, by its eigenvalues (ascending) and eigenvectors."""

    values: Tensor
    vectors: Tensor


def relaxed(system: System, tau: float) -> Tensor:
    """The state ``tau`` RC after rest under unit drives: A^-1 (I - e^(-A tau)); infinity: A^-1."""
    gains = -torch.expm1(-system.values * tau) / system.values
    return (system.vectors * gains) @ system.vectors.T


def settled_after(system: System, bits: int = BITS) -> float:
    """RC after which all unit columns are within 2^-bits of the inverse (Frobenius), by
    bisection.
    """
    target = relaxed(system, math.inf)
    low, high = 0.0, 4 * settling_tau(bits, float(system.values[0]))
    for _ in range(50):
        middle = (low + high) / 2
        error = (relaxed(system, middle) - target).norm() / target.norm()
        low, high = (low, middle) if error <= 2.0**-bits else (middle, high)
    return high


def with_condition(kappa: float, order: int = ORDER, seed: int = 0) -> System:
    """A random basis, eigenvalues from 1/kappa to 1."""
    random = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(order, order, generator=random, dtype=torch.float64))
    values = torch.logspace(-math.log10(kappa), 0, order, dtype=torch.float64)
    return System(*torch.linalg.eigh((basis * values) @ basis.T))


def summarise(rows: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Any]:
    """Exponents of every time and of every advantage."""
    series = {name: {n: row[name] for n, row in rows} for name in rows[0][1]}
    summary: dict[str, Any] = {
        "exponent of the time": {name: exponents(values) for name, values in series.items()}
    }
    for base in ("digital: inversion", "digital: inversion and products"):
        found = summary[f"advantage over {base}"] = {}
        for name, values in series.items():
            if not name.startswith("digital"):
                ratio = {n: series[base][n] / values[n] for n in values}
                found[name] = {
                    "ratio": ratio,
                    "exponent by octave": exponents(ratio),
                    "large n": asymptotic(ratio),
                }
    return summary


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    runs = {order: times(order) for order in ORDERS}
    summary = summarise([(order, found) for order, (found, _) in runs.items()])
    settled = {kappa: settled_after(with_condition(kappa)) for kappa in KAPPAS}
    summary["RC to 8 bit against kappa"] = {"RC": settled, "exponent": exponents(settled)}
    setting = {
        "layers": 1,
        "batch_size": 512,
        "settle in RC": SETTLES,
        "large n": f"{LARGE} - {max(ORDERS)}",
    }
    save(
        given.out,
        "k9_scaling",
        setting,
        summary,
        [{"n": n, **found, "digests": digests} for n, (found, digests) in runs.items()],
    )


if __name__ == "__main__":
    main()
