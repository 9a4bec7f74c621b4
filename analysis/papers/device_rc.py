"""Energy, area and error against RC at a fixed number of time constants: is a faster part better?

The capacitor alone changes, from 10 nF to 10 pF at 1 kOhm, on 30 steps of ``tngd-digits`` with a
realistic device whose offsets are measured in every step. Either the amplifiers' gain-bandwidth
product grows as 1/RC, so that the loop keeps its margin and every amplifier draws more; or it stays
at 1 GHz, and the loop of a fast part loses its margin (at 10 pF it is unstable within ten steps,
and what clips takes minutes to follow: six steps). One seed, one device.

    python -m analysis.papers.device_rc --out analysis/papers/results/device_rc.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

STEPS, FEW = 30, 6
CAPACITANCES_PF = (10_000, 1_000, 300, 100, 30, 10)
GAIN_BANDWIDTH_GHZ = 1.0  # at 1 nF
FOLLOWS, FIXED = "GBW as 1/RC", "GBW 1 GHz"
COLUMNS = (
    "run_seconds",
    "run_joules",
    "run_joules_low",
    "run_joules_high",
    "area",
    "solver_error",
    "final_train_loss",
    "digest",
)


def sides() -> dict[str, sweep.Variant]:
    """Every capacitance under both rules, and the ideal device."""
    steps = {"training.steps": STEPS}
    fields = {"ideal": device.acting() | steps}
    for farads in CAPACITANCES_PF:
        own = device.lacking() | device.CALIBRATED | steps
        own |= {f"{device.SPUS}.capacitance": f"{farads} pF"}
        follows = GAIN_BANDWIDTH_GHZ * 1000 / farads
        gbw = f"{device.SPUS}.gain_bandwidth"
        fields[f"{FOLLOWS}, {farads} pF"] = own | {gbw: f"{follows:g} GHz"}
        lost = {"training.steps": FEW, "training.evaluate_every": 2} if farads == 10 else {}
        fields[f"{FIXED}, {farads} pF"] = own | {gbw: f"{GAIN_BANDWIDTH_GHZ:g} GHz"} | lost
    return {name: device.on_digits("tngd", found) for name, found in fields.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By rule and capacitance, and where the joules are least, over runs of all steps."""
    rows = {str(row["variant"]): row for row in found}
    result: dict[str, Any] = {"ideal": rows["ideal"]}
    for rule in (FOLLOWS, FIXED):
        mine = {farads: rows[f"{rule}, {farads} pF"] for farads in CAPACITANCES_PF}
        whole = [f for f, row in mine.items() if row["steps"] == STEPS]
        least = min(whole, key=lambda f: float(mine[f]["run_joules"]))
        result[rule] = {
            "by capacitance, pF": mine,
            "least joules at, pF": least,
            "inside": least not in (whole[0], whole[-1]),
        }
    return result


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    variants = sides()
    names = {f"side{number}": name for number, name in enumerate(variants)}
    document = {
        "name": "device_rc",
        "scenarios": {
            side: {"scenario": variants[name].scenario, "set": variants[name].fields}
            for side, name in names.items()
        },
        "question": {"kind": "table", "measure": "run_joules"},
    }
    points = sweep.study(given, document).points.to_dict("records")
    found = [
        {"variant": names[row["side"]], "steps": row["steps"]} | {c: row[c] for c in COLUMNS}
        for row in points
    ]
    setting = {"steps": STEPS, "capacitances_pf": list(CAPACITANCES_PF)}
    save(given.out, "device_rc", setting, summarise(found), found)


if __name__ == "__main__":
    main()
