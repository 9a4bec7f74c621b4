"""What is said of one constant of a datasheet."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST_BITS, MOST_BITS = 2, 16
"""Resolutions of converters and resistors."""


@dataclass(frozen=True, slots=True)
class ConstantSpec:
    """One constant of a datasheet.

    Attributes:
        name: SI name in Python, e.g. ``bandwidth_bit_per_s``.
        key: plain name in YAML, e.g. ``bandwidth``.
        unit: unit whose dimension is due in YAML, "" for a bare number.
        meaning: one line for schemas and tables.
        positive: zero is not allowed (nothing is ever negative).
        at_most: upper bound, or None.
        whole: must be an integer.
        resolution: a number of bits, 0: ideal.
        energy: sets energies, so that its range is part of their bands.
        numeric_with: imperfections under which it changes numbers that are computed.
        area: sets sizes, and neither time nor energy nor numbers.
    """

    name: str
    key: str
    unit: str
    meaning: str
    positive: bool = False
    at_most: float | None = None
    whole: bool = False
    resolution: bool = False
    energy: bool = False
    numeric_with: tuple[str, ...] = ()
    area: bool = False

    def range_text(self) -> str:
        """The valid range in words."""
        if self.resolution:
            return f"from {FEWEST_BITS} to {MOST_BITS}, or 0 (ideal)"
        low = "> 0" if self.positive else ">= 0"
        return low if self.at_most is None else f"{low} and <= {self.at_most:g}"

    def contains(self, value: float) -> bool:
        """Is the value in range?"""
        if self.resolution:
            return value == 0 or FEWEST_BITS <= value <= MOST_BITS
        large_enough = value > 0 if self.positive else value >= 0
        return large_enough and (self.at_most is None or value <= self.at_most)
