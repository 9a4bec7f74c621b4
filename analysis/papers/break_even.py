"""Where does thermodynamic K-FAC pay? Thermodynamic against digital K-FAC, time per step, over
orders and SPUs.

Four dense layers of n x n, batch 512, on one A100; factors renewed, sent and solved against every
step (T1 = T2 = 1).
Digital: cholesky + cholesky_inverse in FP32, one after the other, then two products a layer.
Thermodynamic: linear systems (method 2), 1 us SPUs with two sets of resistors and a converter per
node, a private link each, constants ``realistic``; of the placements "columns" (each factor's
columns over all SPUs) and "auto" (longest job first, cut where it would keep the others waiting)
the faster is taken, and only as many SPUs are used as pay.

Settling: 1 RC a solve, as the paper's timing assumes, and as long as the slowest mode takes to the
converters' accuracy, t = bits ln2/lambda, at a damping of 0.1 in units of the conductance 1/R
(``kfac_point.settling_tau``).

Both sides share forward and backward passes, factors, averages and update, so that the step breaks
even where the preconditioning does. "binds" is the largest part of the preconditioning on the
critical path.

    python -m analysis.papers.break_even --out analysis/papers/results/break_even.json --page
    /tmp/break_even.html
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from analysis.papers import break_even_variants as variants
from analysis.papers.kfac_point import (
    BATCH,
    COMMON,
    DIGITAL,
    Point,
    arguments,
    machine,
    measure,
    save,
    scenario,
    settling_tau,
)

ORDERS = tuple(2**k for k in range(7, 14))
SPUS = tuple(2**k for k in range(7))
BITS, BANDWIDTHS = (16, 8), ("50 Gb/s", "400 Gb/s")
LAYERS, DAMPING = 4, 0.1
PAPER, ACCURATE = "1 RC", "to the converters' accuracy"
Row = dict[str, Any]


def settle_tau(name: str, bits: int, damping: float = DAMPING) -> float:
    """Time of a solve in RC."""
    return 1.0 if name == PAPER else settling_tau(bits, damping)


def digital(
    order: int, gpu: Any = "a100-sxm4-80gb", algorithm: Mapping[str, Any] | None = None, **run: int
) -> Point:
    """The digital step."""
    found = scenario(
        {"width": order, "depth": LAYERS},
        {**DIGITAL, **(algorithm or {})},
        machine(0, gpu=gpu),
        **run,
    )
    return measure(found, run.get("steps", 2) - 1)


def thermodynamic(
    order: int,
    spus: int,
    tau: float,
    hardware: Mapping[str, Any],
    algorithm: Mapping[str, Any] | None = None,
    **run: int,
) -> tuple[str, Point]:
    """The thermodynamic step under the faster placement, and which that is."""
    found = {}
    for placement in ("columns", "auto") if spus > 1 else ("auto",):
        chosen = {
            "method": "solves",
            "settle": f"{tau!r} tau",
            "placement": placement,
            **(algorithm or {}),
        }
        one = scenario({"width": order, "depth": LAYERS}, chosen, machine(spus, **hardware), **run)
        found[placement] = measure(one, run.get("steps", 2) - 1)
    return min(found.items(), key=lambda item: item[1].step_s)


def row(base: Point, found: Point, **labels: Any) -> Row:
    """A line of the result: times, ratios digital over thermodynamic, what binds."""
    common_s = base.groups_s[COMMON]
    own_s = found.step_s - common_s
    return {
        **labels,
        "step_s": found.step_s,
        "ratio": base.step_s / found.step_s,
        "preconditioning_s": own_s,
        "preconditioning_ratio": (base.step_s - common_s) / own_s,
        "binds": found.binding,
        "groups_s": [s for g, s in found.groups_s.items() if g != COMMON],
        "energy_j": found.joules,
        "digest": found.digest[:16],
    }


def grid(
    orders: Iterable[int],
    spus: Sequence[int],
    gpu: str = "a100-sxm4-80gb",
    sharing: str = "private",
) -> list[Row]:
    """Every panel, number of SPUs and order."""
    found = []
    for order in orders:
        started, base = time.perf_counter(), digital(order, gpu)
        for name in (PAPER, ACCURATE):
            for bits in BITS:
                for bandwidth in BANDWIDTHS:
                    hardware = {
                        "bits": bits,
                        "bandwidth": bandwidth,
                        "gpu": gpu,
                        "sharing": sharing,
                    }
                    labels = {"n": order, "settle": name, "bits": bits, "bandwidth": bandwidth}
                    found += [
                        row(base, point, **labels, **use)
                        for use, point in line(order, spus, labels, hardware)
                    ]
        print(
            f"{gpu}, {sharing}, n = {order}: {time.perf_counter() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return found


def line(
    order: int, spus: Sequence[int], labels: Mapping[str, Any], hardware: Mapping[str, Any]
) -> list[tuple[dict[str, Any], Point]]:
    """The best that can be done with each number of SPUs, not all of which need be used."""
    found: list[tuple[dict[str, Any], Point]] = []
    for count in spus:
        placement, point = thermodynamic(
            order, count, settle_tau(labels["settle"], labels["bits"]), hardware
        )
        use = {"spus": count, "placement": placement, "used": point.spus}
        if found and found[-1][1].step_s <= point.step_s:
            use, point = {**found[-1][0], "spus": count}, found[-1][1]
        found.append((use, point))
    return found


def crossings(points: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Where a ratio over n, interpolated between its points on logarithmic axes, passes 1, and
    which way.
    """
    found = []
    for (n, before), (m, after) in pairwise(sorted(points)):
        if (before - 1) * (after - 1) < 0:
            share = math.log(before) / math.log(before / after)
            found.append({"n": n * (m / n) ** share, "pays": "above" if after > 1 else "below"})
    return found


def panels(rows: Iterable[Row]) -> dict[tuple[str, int, str], dict[int, list[Row]]]:
    """Rows by (settle, bits, bandwidth), then by number of SPUs, in the order of n."""
    found: dict[tuple[str, int, str], dict[int, list[Row]]] = {}
    for one in sorted(rows, key=lambda r: (r["spus"], r["n"])):
        panel = found.setdefault((one["settle"], one["bits"], one["bandwidth"]), {})
        panel.setdefault(one["spus"], []).append(one)
    return found


def break_even(rows: Iterable[Row]) -> dict[str, Any]:
    """For each panel: where each number of SPUs breaks even and what binds, and how many SPUs each
    order needs.
    """
    summary = {}
    for (settle, bits, bandwidth), lines in panels(rows).items():
        needed: dict[int, int | str] = {}
        for line in lines.values():
            for one in line:
                best = needed.get(one["n"], f"> {max(lines)}")
                needed[one["n"]] = (
                    one["spus"] if one["ratio"] > 1 and isinstance(best, str) else best
                )
        summary[f"{settle}, {bits} bit, {bandwidth}"] = {
            "SPUs needed": needed,
            "lines": {
                count: {
                    "ratio": {one["n"]: one["ratio"] for one in line},
                    "breaks even": crossings([(one["n"], one["ratio"]) for one in line])
                    or _never(line),
                    "binds": _stretches([(one["n"], one["binds"]) for one in line]),
                }
                for count, line in lines.items()
            },
        }
    return summary


def energy(rows: Iterable[Row], sides: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Joules of a step: digital, thermodynamic (nominal, low, high), and the nominal ratio; some
    points.
    """
    found: dict[str, Any] = {}
    for one in rows:
        name, n = (
            f"{one['settle']}, {one['bits']} bit, {one['bandwidth']}, {one['spus']} SPUs",
            one["n"],
        )
        if n in variants.ORDERS and one["spus"] in (1, 16, 64) and one["used"] == one["spus"]:
            both = {"digital": sides[n]["energy_j"], "thermodynamic": one["energy_j"]}
            found.setdefault(name, {})[n] = {
                **both,
                "ratio": both["digital"][0] / both["thermodynamic"][0],
            }
    return found


def _never(line: Sequence[Row]) -> str:
    return "pays throughout" if line[0]["ratio"] > 1 else "nowhere"


def _stretches(named: Sequence[tuple[int, str]]) -> dict[str, str]:
    """What binds from which order to which."""
    found: dict[str, str] = {}
    for n, name in named:
        first = found.get(name, str(n)).split(" - ")[0]
        found[name] = f"{first} - {n}"
    return found


def digital_side(orders: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What the digital step is made of: seconds, joules (nominal, low, high). An SPD inverse takes
    t0 + a n + n^3/(eta peak).
    """
    found: dict[int, dict[str, Any]] = {}
    for order in orders:
        base, favoured = digital(order), digital(order, variants.FAVOURED)
        invert, products = (base.total("time_s", kind) for kind in ("invert", "precondition"))
        found[order] = {
            "step": base.step_s,
            "common": base.groups_s[COMMON],
            "inversion, latency": invert - base.total("busy_s", "invert"),
            "inversion, throughput": base.total("busy_s", "invert"),
            "products": products,
            "energy_j": base.joules,
            "favoured step": favoured.step_s - favoured.total("time_s", "precondition"),
        }
    return found


def main() -> None:
    """Run, write and draw."""
    given = arguments(__doc__)
    rows = grid(ORDERS, SPUS)
    sides = digital_side(ORDERS)
    summary = {
        "break-even": break_even(rows),
        "digital step": sides,
        "energy of a step": energy(rows, sides),
        "SPUs needed against a favoured digital step": variants.against_favoured(rows, sides),
        "longest settling that pays": variants.longest(thermodynamic, digital),
        "H100": break_even(grid(ORDERS[::2], SPUS[::2], "h100-sxm5-80gb")),
        "one shared link": break_even(grid(ORDERS[::2], SPUS[::2], sharing="shared")),
        "variants": variants.run(thermodynamic, digital, row, lambda name: settle_tau(name, 16)),
    }
    setting = {
        "layers": LAYERS,
        "batch_size": BATCH,
        "damping": DAMPING,
        "gpu": "a100-sxm4-80gb",
        "spu": "rc-1us",
        "settle in RC": {
            f"{name}, {b} bit": settle_tau(name, b) for name in (PAPER, ACCURATE) for b in BITS
        },
    }
    save(given.out, "break_even", setting, summary, rows)
    if given.page:
        from analysis.papers.break_even_figure import draw

        draw(json.loads(given.out.read_text()), given.page)


if __name__ == "__main__":
    main()
