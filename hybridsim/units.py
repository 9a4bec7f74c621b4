"""Time is an integer number of picoseconds; everything else is an SI float with its unit in its
name.
"""

from __future__ import annotations

PS_PER_S = 1_000_000_000_000
_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)


def to_ps(seconds: float) -> int:
    """Round a duration in seconds to the nearest picosecond; the only place where a cost becomes
    time.

    Raises:
        ValueError: the duration is negative or not finite.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"expected a finite duration >= 0 s, got {seconds!r}")
    return round(seconds * PS_PER_S)


def to_s(time_ps: int) -> float:
    """Picoseconds to seconds."""
    return time_ps / PS_PER_S


def engineering(value: float, unit: str, digits: int = 3) -> str:
    """Write a value with an engineering prefix: ``engineering(8.3e-3, "s") == "8.3 ms"``."""
    if value == 0 or value != value or abs(value) == float("inf"):
        return f"{value:g} {unit}"
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * (1 - 0.5 * 10.0**-digits):
            return f"{value / factor:.{digits}g} {prefix}{unit}"
    return (
        f"{value * 1e12:.{digits}g} p{unit}"
        if abs(value) >= 1e-13
        else f"{value:.{digits}g} {unit}"
    )
