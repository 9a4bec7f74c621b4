"""What every circuit answers."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """What a system occupies on a device, and what it takes to put it there.

    Attributes:
        cells: state variables.
        resistors: programmable resistors.
        amplifiers: operational amplifiers, one sign.
        written: resistors that a new system sets.
        arrays: numbers that are sent, by what they are: ``(("jacobian", r N), ...)``.
    """

    cells: int = 0
    resistors: int = 0
    amplifiers: int = 0
    written: int = 0
    arrays: tuple[tuple[str, int], ...] = ()
