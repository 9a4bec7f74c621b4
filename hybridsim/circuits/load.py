"""What a system occupies on a device, as sizes alone: no tensors."""

from __future__ import annotations

from typing import NamedTuple


class Array(NamedTuple):
    """Numbers that a device is sent.

    Attributes:
        name: what they are.
        entries: how many there are.
        sent: how many numbers cross the link: fewer where some are equal, more where they are sent
            again.
        diagonal: entries on diagonals, where they are symmetric matrices, rounded conservatively;
            else 0.
    """

    name: str
    entries: int
    sent: int
    diagonal: int = 0


def rectangle(name: str, entries: int, copies: int = 1) -> Array:
    """An array every entry of which is sent."""
    return Array(name, entries, copies * entries)


def triangle(name: str, order: int) -> Array:
    """A symmetric matrix: of two equal entries one crosses the link, n (n + 1)/2 numbers."""
    return Array(name, order * order, order * (order + 1) // 2, order)


class Load(NamedTuple):
    """What a system occupies on a device, and what it takes to put it there.

    Attributes:
        cells: state variables.
        resistors: programmable resistors.
        amplifiers: operational amplifiers, one sign.
        written: resistors that a new system sets.
        arrays: numbers that are sent, by what they are.
        rows: of an array with other amplifiers at its rows than the cells'; 0: none.
    """

    cells: int = 0
    resistors: int = 0
    amplifiers: int = 0
    written: int = 0
    arrays: tuple[Array, ...] = ()
    rows: int = 0

    @property
    def line(self) -> int:
        """Resistors on the longest line: one for each cell, or for each row."""
        return max(self.cells, self.rows)
