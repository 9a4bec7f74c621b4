"""What each imperfection of an SPU does to training on digits, alone and all together.

Thermodynamic natural gradient descent (60 steps) and K-FAC (100 steps) on the shipped scenarios.
Each imperfection acts alone on a device that is ideal otherwise; then all act; then all but one.
TNGD also with offsets measured in every step and subtracted (``calibration_every``). Every seed has
a device of its own (``device``).

    python -m analysis.papers.imperfections --out analysis/papers/results/imperfections.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

SEEDS = (0, 1, 2, 3)
WITHOUT = ("mismatch", "offset", "thermal_noise", "converters", "full_scales")


def variants(kind: str) -> dict[str, sweep.Variant]:
    """Ideal, each alone, all, all but one."""
    fields = {f"{kind} ideal": device.acting(), f"{kind} realistic": device.lacking()}
    alone = (*device.CHANGES_NUMBERS, *device.CHANGES_COSTS)
    fields |= {f"{kind} {name}": device.acting(name) for name in alone}
    fields |= {f"{kind} without {name}": device.lacking(name) for name in WITHOUT}
    if kind == "tngd":
        fields["tngd realistic, calibrated"] = device.lacking() | device.CALIBRATED
        fields["tngd offset, calibrated"] = device.acting("offset") | device.CALIBRATED
    return {name: device.on_digits(kind, found) for name, found in fields.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By algorithm and variant: see ``device.compared``."""
    rows = device.by_variant(found)
    return {
        kind: {
            name.removeprefix(f"{kind} "): device.compared(mine, rows[f"{kind} ideal"])
            for name, mine in rows.items()
            if name.startswith(f"{kind} ")
        }
        for kind in device.SCENARIOS
    }


def main() -> None:
    """Run and write."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    given = parser.parse_args()
    sides = {name: v for kind in device.SCENARIOS for name, v in variants(kind).items()}
    found = device.rows(given, sides, range(given.seeds))
    setting = {kind: device.DIGITS[kind] for kind in device.SCENARIOS}
    save(given.out, "imperfections", setting, summarise(found), found)


if __name__ == "__main__":
    main()
