"""The sizes of one device's imperfections, dimensionless; what is off is at its ideal value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Device:
    """One SPU as it was built: a setting of every computation that it does.

    Voltages are relative to the full scale V_fs, times to RC, conductances to 1/R.

    Attributes:
        instance: which device: what it is drawn with (mismatch, offsets, dead cells, converters).
        mismatch: standard deviation σ of each part's relative error: (1 + σ ε).
        thermal: variance of a cell's voltage at equilibrium with its resistor over V_fs²,
            excess · kT/(C V_fs²).
        gain: of an amplifier without feedback, at low frequency.
        amplifier_tau: time constant 1/(2π GBW RC) of an amplifier of noise gain 1, in RC.
        offset: standard deviation of an amplifier's input offset over V_fs.
        headroom: a programmable full scale is the last settle's peak times this; 0: automatic full
            scales, each settle's own peak (not causal).
        gain_step: ratio of neighbouring programmable full scales; 1: any.
        largest_conductance: of a programmable resistor.
        smallest_conductance: below it a resistor is off.
        nonlinearity: standard deviation of a converter's integral nonlinearity, in steps.
        dead_share: of cells that stay at zero.
        drift: standard deviation of a resistor's relative change per decade of time since it was
            written (from one RC on).
    """

    instance: int = 0
    mismatch: float = 0.0
    thermal: float = 0.0
    gain: float = math.inf
    amplifier_tau: float = 0.0
    offset: float = 0.0
    headroom: float = 0.0
    gain_step: float = 1.0
    largest_conductance: float = math.inf
    smallest_conductance: float = 0.0
    nonlinearity: float = 0.0
    dead_share: float = 0.0
    drift: float = 0.0

    @cached_property
    def ideal(self) -> bool:
        """Nothing is imperfect."""
        return self == Device(instance=self.instance)


IDEAL = Device()
