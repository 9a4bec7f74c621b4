"""What is said of the size of an SPU: plain maps, which a summary holds as they are."""

from __future__ import annotations

from typing import TypedDict


class Extent(TypedDict):
    """So many parts of an SPU, and what they take.

    Attributes:
        cells: capacitors.
        resistors: programmable ones, in all sets, with those that signs take.
        amplifiers: with those that invert.
        dacs: input converters.
        adcs: output converters.
        capacitors_mm2: area of the capacitors.
        resistors_mm2: area of the resistors.
        amplifiers_mm2: area of the amplifiers.
        dacs_mm2: area of the input converters.
        adcs_mm2: area of the output converters.
        area_mm2: their sum; periphery and wiring between arrays are left out.
        reticles: that area in exposures of a scanner; 0: not a chip.
        line_m: length of the longest line.
        line_ohm: its resistance.
        line_drop: that over R/n, halved, n resistors on it: while small, the share of a voltage
            that is lost along it where each conducts 1/R.
        line_rc: its delay, in RC of a cell.
        write_s: writing all resistors, beyond the transport of their numbers.
        standby_w: static power of the amplifiers.
    """

    cells: int
    resistors: int
    amplifiers: int
    dacs: int
    adcs: int
    capacitors_mm2: float
    resistors_mm2: float
    amplifiers_mm2: float
    dacs_mm2: float
    adcs_mm2: float
    area_mm2: float
    reticles: float
    line_m: float
    line_ohm: float
    line_drop: float
    line_rc: float
    write_s: float
    standby_w: float


class Size(TypedDict):
    """How large an SPU is, and whether it can be built.

    Attributes:
        part: the SPU.
        sheet: its datasheet's name.
        technology: what it is made in; empty: not said.
        built: who has built it; empty: nobody is known to have.
        adc: whether its output converters exist.
        numbers_per_s: how many its resistors take, as fast as the link brings them and it writes
            them; 0: nothing limits that.
        assumed: constants of area that are guesses.
        used: what the largest system of the run takes.
        used_low_mm2: its area with every constant of area where that is smallest.
        used_high_mm2: the same where it is largest.
        whole: what all takes that the datasheet says it has.
    """

    part: str
    sheet: str
    technology: str
    built: str
    adc: str
    numbers_per_s: float
    assumed: list[str]
    used: Extent
    used_low_mm2: float
    used_high_mm2: float
    whole: Extent
