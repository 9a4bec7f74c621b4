"""What moves the break-even: other K-FAC settings and machines, a favoured digital side, and how
long a solve may take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

FAVOURED = {"part": "a100-sxm4-80gb", "inverse_step": "0 s", "factorisation_efficiency": 0.8}
ORDERS, SPUS = (512, 2048, 8192), 16
WIRE = {"bits": 16, "bandwidth": "50 Gb/s"}
# name: (hardware, algorithm of both sides, thermodynamic algorithm alone, steps)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]] = {
    "as in the figure": ({}, {}, {}, 2),
    "one set of resistors": ({"buffering": "single"}, {}, {}, 2),
    "no pipelining": ({}, {}, {"pipelining": False}, 2),
    "stale (factors one step old)": ({}, {}, {"stale": True}, 7),
    "method 1, unit columns": ({}, {}, {"method": "inverse"}, 2),
    "method 1, stale": ({}, {}, {"method": "inverse", "stale": True}, 7),
    "activations sent, no moving average": ({}, {"ema": 0.0}, {"upload": "activations"}, 2),
    "T1 = T2 = 10": ({}, {"factors_every": 10, "inverses_every": 10}, {}, 11),
    "T1 = T2 = 10, method 1": ({}, {"factors_every": 10, "inverses_every": 10}, {"method":
        "inverse"}, 11),
    "T1 = T2 = 10, method 1, stale": (
        {}, {"factors_every": 10, "inverses_every": 10}, {"method": "inverse", "stale": True}, 21,
    ),
}  # fmt: skip


def run(
    thermodynamic: Callable[..., Any],
    digital: Callable[..., Any],
    row: Callable[..., Any],
    tau: Callable[[str], float],
) -> dict[str, Any]:
    """Ratios digital over thermodynamic with 16 SPUs, 16 bit, 50 Gb/s; the digital side has the
    same T1, T2 and average.
    """
    summary: dict[str, Any] = {}
    for order in ORDERS:
        bases: dict[str, Any] = {}
        for name, (hardware, both, own, steps) in VARIANTS.items():
            settings = repr((both, steps))
            if settings not in bases:
                bases[settings] = digital(order, algorithm=both, steps=steps)
            for settle in ("1 RC", "to the converters' accuracy"):
                machine = {**WIRE, **hardware}
                placement, point = thermodynamic(
                    order, SPUS, tau(settle), machine, {**both, **own}, steps=steps
                )
                found = row(bases[settings], point)
                kept = ("step_s", "ratio", "preconditioning_ratio", "binds", "digest")
                line = {key: found[key] for key in kept} | {"placement": placement}
                if own.get("upload") == "activations":
                    line["preconditioning_ratio"] = (
                        None  # the GPU makes no factors: less than what both share
                    )
                summary.setdefault(f"{name}; {settle}", {})[order] = line
    return summary


def longest(thermodynamic: Callable[..., Any], digital: Callable[..., Any]) -> dict[str, Any]:
    """The settling in RC with which both sides are equally fast, by the secant method; 16 bit, 50
    Gb/s.

    None: the thermodynamic step is slower even without any settling.
    """
    found: dict[str, Any] = {}
    for order in (128, *ORDERS):
        base_s = digital(order).step_s
        for spus in (1, 8, 64):
            found.setdefault(str(order), {})[spus] = _root(
                partial(_gap_s, thermodynamic, order, spus, base_s)
            )
    return found


def _gap_s(
    thermodynamic: Callable[..., Any], order: int, spus: int, base_s: float, tau: float
) -> float:
    return float(thermodynamic(order, spus, tau, WIRE)[1].step_s - base_s)


def _root(gap: Callable[[float], float]) -> float | None:
    """Where a function that grows without bound, convex, in straight pieces, is zero."""
    if gap(0.0) > 0:
        return None
    right, slope_from = 4000.0, 2000.0
    high, low = gap(right), gap(slope_from)
    for _ in range(6):
        after = right - high * (right - slope_from) / (high - low)
        if abs(after - right) <= 1e-3 * right:
            break
        slope_from, low, right, high = right, high, after, gap(after)
        if high == low:
            break
    return after


def against_favoured(
    rows: Iterable[Mapping[str, Any]], sides: Mapping[int, Mapping[str, float]]
) -> dict[str, Any]:
    """SPUs needed where the GPU inverts all factors side by side (no latency term), at 80 % of its
    peak, and its products cost nothing: a bound for batched factorisations and TF32 products.
    """
    found: dict[str, dict[int, Any]] = {}
    for one in rows:
        panel = found.setdefault(f"{one['settle']}, {one['bits']} bit, {one['bandwidth']}", {})
        best = panel.setdefault(one["n"], "> 64")
        if one["step_s"] < sides[one["n"]]["favoured step"] and isinstance(best, str):
            panel[one["n"]] = one["spus"]
    return found
