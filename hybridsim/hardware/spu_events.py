"""What goes wrong in an SPU, as the facts of its computations tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from hybridsim.errors import HybridsimError
from hybridsim.hardware.lane import Label

_FULL = 1 + 1e-9  # an automatic full scale is its own peak, but for rounding
_EVENTS = {
    "clipped": ("clipping", 0.0, "values beyond the converter's full scale"),
    "saturation": ("saturation", _FULL, "largest voltage over full scale"),
    "nonfinite": ("non-finite", 0.0, "values that are not finite"),
    "smallest_eigenvalue": (
        "runaway",
        0.0,
        "rate at which the fastest growing mode runs away, per RC",
    ),
    "bandwidth_margin": (
        "slow amplifiers",
        -10.0,
        "minus the bandwidth over that at which the loop is unstable; accurate from 10 on",
    ),
}
_MINIMA = ("smallest_eigenvalue", "bandwidth_margin")

_CONDUCTANCE = "conductance_"


def largest_conductance(facts: Mapping[str, float]) -> float:
    """The largest of all arrays, in units of 1/R; 0 where nothing is told."""
    return max((v for name, v in facts.items() if name.startswith(_CONDUCTANCE)), default=0.0)


def what_went_wrong(
    facts: Mapping[str, float], conductance_range: float
) -> Iterator[tuple[str, float, str]]:
    """Events as (kind, value, note), from the facts of one computation in order of their names.

    ``conductance_range``: the largest conductance that a resistor reaches, in units of 1/R.
    """
    for fact, value in sorted(facts.items()):
        if fact.startswith(_CONDUCTANCE):
            over = value / conductance_range
            if over > _FULL:
                where = fact.removeprefix(_CONDUCTANCE)
                yield (
                    "out of range",
                    over,
                    f"largest conductance ({where}) over the range of the part",
                )
        elif fact in _EVENTS:
            kind, limit, note = _EVENTS[fact]
            measured = -value if fact in _MINIMA else value
            if measured > limit:
                yield kind, measured, note


def check_energy(part: str, label: Label, facts: Mapping[str, float]) -> None:
    """A circuit that runs away until its energy is no number ends the run: nothing after it could
    be trusted.

    Raises:
        HybridsimError: names the part and the operation.
    """
    for name in ("dissipation", "charge"):
        if not math.isfinite(facts.get(name, 0.0)):
            raise HybridsimError(
                f"{part}: step {label.step}: '{label.operation}' ran away: expected a finite "
                f"{name}, got {facts[name]}; a mode grows (see the events runaway and slow "
                "amplifiers): less mismatch, faster amplifiers or more damping"
            )
