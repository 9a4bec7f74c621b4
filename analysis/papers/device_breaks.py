"""At which size each imperfection breaks training on digits, the others off.

A size breaks training where every run stops or ends with more than twice the ideal device's late
loss (``device``). Sizes are the datasheet's constants; two seeds, each on a device of its own.

    python -m analysis.papers.device_breaks --out analysis/papers/results/device_breaks.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

SEEDS = (0, 1)
SIZES: dict[str, tuple[str, tuple[float | str, ...]]] = {
    "mismatch": ("mismatch", (0.003, 0.01, 0.03, 0.1, 0.3)),
    "thermal_noise": ("full_scale", ("0.1 V", "10 mV", "1 mV", "0.1 mV", "10 uV")),
    "finite_gain": ("amplifier_gain", (10_000, 1_000, 300, 100, 30)),
    "bandwidth": ("gain_bandwidth", ("1 GHz", "300 MHz", "100 MHz", "30 MHz", "10 MHz")),
    "offset": ("offset", ("1 uV", "3 uV", "10 uV", "30 uV", "0.1 mV")),
    "converters": ("nonlinearity", (0.5, 5, 50, 200, 1_000)),
    "dead_cells": ("dead_share", (0.001, 0.01, 0.05, 0.2, 0.5)),
    "conductances": ("conductance_range", (100, 10, 1, 0.1, 0.01)),
}
"""By imperfection: the constant that sizes it, and its values, the mildest first."""


def variants(kind: str) -> dict[str, sweep.Variant]:
    """Ideal, and every size."""
    fields = {f"{kind} ideal": device.acting()}
    for switch, (constant, sizes) in SIZES.items():
        for size in sizes:
            own = {f"{device.SPUS}.{constant}": size}
            fields[f"{kind} {switch} {size}"] = device.acting(switch) | own
    return {name: device.on_digits(kind, found) for name, found in fields.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By algorithm and imperfection: the first size that breaks every run, and all sizes."""
    rows = device.by_variant(found)
    result: dict[str, Any] = {}
    for kind in device.SCENARIOS:
        base = rows[f"{kind} ideal"]
        for switch, (constant, sizes) in SIZES.items():
            mine = {s: device.compared(rows[f"{kind} {switch} {s}"], base) for s in sizes}
            breaking = [s for s in sizes if mine[s]["broke"] == mine[s]["runs"]]
            told = {s: one.get("late loss over ideal", {}).get("mean") for s, one in mine.items()}
            result.setdefault(kind, {})[switch] = {
                "constant": constant,
                "breaks at": breaking[0] if breaking else f"not up to {sizes[-1]}",
                "late loss over ideal": told,
                "broke": {s: one["broke"] for s, one in mine.items()},
            }
    return result


def main() -> None:
    """Run and write."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    given = parser.parse_args()
    sides = {name: v for kind in device.SCENARIOS for name, v in variants(kind).items()}
    found = device.rows(given, sides, range(given.seeds))
    setting = {kind: device.DIGITS[kind] for kind in device.SCENARIOS}
    save(given.out, "device_breaks", setting, summarise(found), found)


if __name__ == "__main__":
    main()
