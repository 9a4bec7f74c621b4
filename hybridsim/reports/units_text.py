"""Quantities as text: engineering prefixes, bands, and one unit for a whole axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hybridsim.results.keys import ENERGY_NAMES, Energies
from hybridsim.units import engineering

_PREFIXES = (
    ("T", 1e12),
    ("G", 1e9),
    ("M", 1e6),
    ("k", 1e3),
    ("", 1.0),
    ("m", 1e-3),
    ("µ", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
)


class Scale(NamedTuple):
    """Values divided by ``factor`` are in ``unit``."""

    factor: float
    unit: str


def scale_for(largest: float, unit: str) -> Scale:
    """The unit in which the largest value of an axis lies between 1 and 1000; seconds have no
    kiloseconds.
    """
    for prefix, factor in _PREFIXES:
        if abs(largest) >= factor and not (unit == "s" and factor > 1):
            return Scale(factor, prefix + unit)
    return Scale(1.0, unit)


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """A value with its unit; a dash where there is none."""
    return "–" if value is None or value != value else engineering(value, unit, digits)


def percent(share: float | None) -> str:
    """A share as a percentage with three digits at most."""
    return "–" if share is None or share != share else f"{100 * share:.3g} %"


def energies_of(row: Mapping[Any, Any]) -> Energies:  # Any: a row of some table
    """The energies of a row."""
    nominal, low, high = (float(row[name]) for name in ENERGY_NAMES)
    return {"energy_j": nominal, "energy_low_j": low, "energy_high_j": high}


def band(energy: Energies) -> str:
    """Low to high in joules."""
    return f"{quantity(energy['energy_low_j'], 'J')} – {quantity(energy['energy_high_j'], 'J')}"


def with_band(energy: Energies) -> str:
    """Nominal joules, and low to high in brackets."""
    return f"{quantity(energy['energy_j'], 'J')} ({band(energy)})"


def natural(name: str) -> tuple[str, int]:
    """Key that sorts names as people do: spu2 before spu10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)
