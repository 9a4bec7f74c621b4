"""K7 and T12 on a real device: does "the output needs 8 bits" come back?

With automatic full scales for every settle and no noise, 6 output bits were enough on digits (K7).
Here full scales come from the last settle and kT/C noise acts; bits of J (input), of b (bias) and
of the answer (output) are lowered one after the other, the other two at 12. Ranging and noise are
the only imperfections. Two seeds, each on a device of its own (``device``). Of K-FAC the output
alone is lowered (K7). Not run: TNGD with a bias of 4 bits on scales from the past, which clips in
most of every settle; a step then takes this computer minutes.

    python -m analysis.papers.device_bits --out analysis/papers/results/device_bits.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.record import save

SEEDS = (0, 1)
BITS = (4, 6, 8)
MANY = 12
ENDS = {"tngd": ("input", "bias", "output"), "kfac": ("output",)}
PAST = "from the past, kT/C"
DEVICES = {
    "automatic": device.acting(),
    PAST: device.acting("full_scales", "thermal_noise", "converters"),
}
MARGIN = 1.05
"""Late loss over that at ``MANY`` bits which does not matter."""


def bits_of(kind: str, name: str, end: str) -> tuple[int, ...]:
    """The numbers of bits that are tried."""
    return BITS[1:] if (kind, name, end) == ("tngd", PAST, "bias") else BITS


def variants(kind: str) -> dict[str, sweep.Variant]:
    """Both devices, every end at every number of bits."""
    found = {}
    for name, fields in DEVICES.items():
        base = {f"{device.SPUS}.{end}_bits": MANY for end in ENDS["tngd"]}
        found[f"{kind}, {name}"] = device.on_digits(kind, fields | base)
        for end in ENDS[kind]:
            for bits in bits_of(kind, name, end):
                own = fields | base | {f"{device.SPUS}.{end}_bits": bits}
                found[f"{kind}, {name}, {end} {bits}"] = device.on_digits(kind, own)
    return found


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By algorithm, device and end: loss ratios to 12 bits, and the fewest bits that do."""
    rows = device.by_variant(found)
    result: dict[str, Any] = {}
    for kind in device.SCENARIOS:
        for name in DEVICES:
            for end in ENDS[kind]:
                base = rows[f"{kind}, {name}"]
                mine = {
                    bits: device.compared(rows[f"{kind}, {name}, {end} {bits}"], base)
                    for bits in bits_of(kind, name, end)
                }
                told = {b: one.get("late loss over ideal") for b, one in mine.items()}
                enough = [b for b, one in told.items() if one is not None and one["mean"] <= MARGIN]
                result.setdefault(kind, {}).setdefault(name, {})[end] = {
                    "late loss over 12 bits": told,
                    "broke": {b: one["broke"] for b, one in mine.items()},
                    "fewest bits within 5 %": min(enough, default=MANY),
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
    save(given.out, "device_bits", setting, summarise(found), found)


if __name__ == "__main__":
    main()
