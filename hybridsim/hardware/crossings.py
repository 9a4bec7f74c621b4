"""Analog lines from an SPU to its neighbours, where several hold one system (``SpuGroup``)."""

from __future__ import annotations

import math

from hybridsim.hardware.part import Limit, Standing
from hybridsim.hardware.price import Constants
from hybridsim.hardware.spu_tariffs import rc_ps


class Crossings:
    """The lines of a device ``name``: how many it drives, and how fast they must be."""

    def __init__(self, name: str, sheet: Constants) -> None:
        self._name, self._sheet = name, sheet
        self._number, self._rate = 0, 0.0

    def drive(self, number: int) -> None:
        """So many lines are in use, or more were before."""
        self._number = max(self._number, number)

    def follow(self, rate: float) -> float:
        """A rate per RC that lines have to follow, over their limit."""
        self._rate = max(self._rate, rate)
        return rate / self._bandwidth()

    def standing(self) -> Standing:
        """Power of driving them."""
        return Standing("lines to other SPUs", crossing_power_w, self._number)

    def limits(self) -> list[Limit]:
        """The largest rate so far, where there are any."""
        if not self._number:
            return []
        return [Limit(self._name, "crossing_rate", self._rate, self._bandwidth())]

    def _bandwidth(self) -> float:
        """Rate per RC that a line follows."""
        bandwidth_hz = self._sheet.value("crossing_bandwidth_hz")
        return 2 * math.pi * bandwidth_hz * rc_ps(self._sheet) * 1e-12


def crossing_power_w(constants: Constants) -> float:
    """Power of driving one line: a constant."""
    return constants.value("crossing_power_w")
