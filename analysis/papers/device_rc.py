"""Energy, area and error against RC at a fixed number of time constants: is a faster part better?

The capacitor alone changes, from 10 nF to 10 pF at 1 kOhm, on ``tngd-digits`` with a realistic
device. Either the amplifiers' gain-bandwidth product grows as 1/RC, so that the loop keeps its
margin and every amplifier draws more; or it stays at 1 GHz, and the loop of a fast part loses its
margin. Offsets are measured in every step. 30 steps, two seeds, each on a device of its own
(``device``).

    python -m analysis.papers.device_rc --out analysis/papers/results/device_rc.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

SEEDS = (0, 1)
STEPS = 30
CAPACITANCES_PF = (10_000, 1_000, 300, 100, 30, 10)
GAIN_BANDWIDTH_GHZ = 1.0  # at 1 nF
FOLLOWS, FIXED = "GBW as 1/RC", "GBW 1 GHz"


def variants() -> dict[str, sweep.Variant]:
    """Every capacitance under both rules, and the ideal device to compare with."""
    fields = {"ideal": device.acting()}
    for farads in CAPACITANCES_PF:
        own = device.lacking() | device.CALIBRATED
        own |= {f"{device.SPUS}.capacitance": f"{farads} pF"}
        follows = GAIN_BANDWIDTH_GHZ * 1000 / farads
        gbw = f"{device.SPUS}.gain_bandwidth"
        fields[f"{FOLLOWS}, {farads} pF"] = own | {gbw: f"{follows:g} GHz"}
        fields[f"{FIXED}, {farads} pF"] = own | {gbw: f"{GAIN_BANDWIDTH_GHZ:g} GHz"}
    steps = {"training.steps": STEPS}
    return {name: device.on_digits("tngd", found | steps) for name, found in fields.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By rule and capacitance, and where the joules are least."""
    rows = device.by_variant(found)
    result: dict[str, Any] = {"ideal": device.compared(rows["ideal"], rows["ideal"])}
    for rule in (FOLLOWS, FIXED):
        mine = {
            farads: device.compared(rows[f"{rule}, {farads} pF"], rows["ideal"])
            for farads in CAPACITANCES_PF
        }
        whole = {f: one for f, one in mine.items() if not one["broke"]}
        least = min(whole, key=lambda f: whole[f]["joules"]["mean"], default=None)
        result[rule] = {
            "by capacitance, pF": mine,
            "least joules at, pF": least,
            "inside": least not in (None, CAPACITANCES_PF[0], CAPACITANCES_PF[-1]),
        }
    return result


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    found = device.rows(given, variants(), SEEDS)
    setting = {"steps": STEPS, "capacitances_pf": list(CAPACITANCES_PF)}
    save(given.out, "device_rc", setting, summarise(found), found)


if __name__ == "__main__":
    main()
