"""What the results say of devices that could be built."""

from __future__ import annotations

from analysis.papers.claim import OURS, Claim, Summary, Text

MARGIN = 1.1
"""Late loss over the ideal device's that does not matter."""


def _trains(name: str, kind: str | None) -> Text:
    """Of a variant: whether it breaks, and whether its loss is the ideal device's."""

    def told(summary: Summary) -> str:
        found = (summary if kind is None else summary[kind])[name]
        if found["broke"]:
            return "does not"
        return "holds" if found["late loss over ideal"]["mean"] <= MARGIN else "not as well"

    return told


def _figure(name: str, kind: str | None) -> Text:
    def told(summary: Summary) -> str:
        found = (summary if kind is None else summary[kind])[name]
        broke = f"breaks in {found['broke']} of {found['runs']} runs"
        ratio = found.get("late loss over ideal")
        if found["broke"] or ratio is None:
            return broke
        return f"late loss over the ideal device's: {ratio['mean']:.3f}, {found['runs']} runs"

    return told


def _claim(code: str, text: str, result: str, name: str, kind: str | None) -> Claim:
    return Claim(code, OURS, text, result, "devices", _trains(name, kind), _figure(name, kind))


NOMINAL = {
    "mismatch": "0.01",
    "thermal_noise": "0.1 V",
    "finite_gain": "10000",
    "bandwidth": "1 GHz",
    "offset": "10 uV",
    "converters": "0.5",
    "conductances": "100",
}
"""The sizes of the shipped part; dead cells it has none."""


def _near(found: Summary) -> list[str]:
    """Imperfections of an algorithm that break training at the size they have, or at the next."""
    return [
        f"{name} at {found[name]['breaks at']}"
        for name, size in NOMINAL.items()
        if _steps_away(found[name], size) < 2
    ]


def _steps_away(found: Summary, nominal: str) -> int:
    sizes, breaks = list(found["broke"]), str(found["breaks at"])
    return sizes.index(breaks) - sizes.index(nominal) if breaks in sizes else len(sizes)


def _spared(summary: Summary) -> str:
    return "; ".join(
        f"{kind} {'does not' if _near(mine) else 'holds'}" for kind, mine in summary.items()
    )


def _breaking(summary: Summary) -> str:
    told = (f"{kind}: {', '.join(_near(mine)) or 'none'}" for kind, mine in summary.items())
    return "breaks at its size or the next: " + "; ".join(told)


CALIBRATED = "realistic, calibrated"
CLAIMS = (
    _claim(
        "Device-a",
        "TNGD on digits trains on a realistic device as on an ideal one",
        "imperfections",
        "realistic",
        "tngd",
    ),
    _claim(
        "Device-b",
        "… with offsets measured in every step",
        "imperfections",
        CALIBRATED,
        "tngd",
    ),
    _claim("Device-c", "… on MNIST, so measured", "device_mnist", CALIBRATED, None),
    _claim(
        "Device-d",
        "Thermodynamic K-FAC on digits trains on a realistic device as on an ideal one",
        "imperfections",
        "realistic",
        "kfac",
    ),
    Claim(
        "Device-e",
        OURS,
        "Each imperfection is ten times smaller than what breaks training",
        "device_breaks",
        "devices",
        _spared,
        _breaking,
    ),
    Claim(
        "Device-f",
        OURS,
        "A faster part is better at a fixed number of time constants",
        "device_rc",
        "devices",
        lambda s: "does not" if s["GBW as 1/RC"]["inside"] else "holds",
        lambda s: (
            f"joules are least at {s['GBW as 1/RC']['least joules at, pF']:,} pF of "
            "10 to 10,000 with amplifiers that keep up"
        ),
    ),
    Claim(
        "Device-g",
        OURS,
        "At the shipped damping a mismatch of 1 % leaves TNGD's loop stable",
        "device_margin",
        "devices",
        lambda s: (
            "holds" if s["largest mismatch that stays stable"]["0.05"] >= 0.01 else "does not"
        ),
        lambda s: (
            "largest mismatch tried at which no mode grows, by damping: "
            + ", ".join(
                f"{damping}: {100 * sigma:g} %"
                for damping, sigma in s["largest mismatch that stays stable"].items()
            )
        ),
    ),
)
