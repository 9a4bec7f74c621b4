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
)
