"""How large an SPU is, how long its lines are, and what it draws at rest.

Pure functions of constants and a load. Parts are counted as they would have to be made: signs take
inverting amplifiers or pairs of resistors, whether or not a run counts them. What is not
programmable (feedback, damping and input resistors) is part of its amplifier. Periphery, pads and
the wiring between arrays are left out: an area is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from hybridsim.circuits.load import Load
from hybridsim.hardware.extent import Extent, Size
from hybridsim.hardware.price import Constants
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import EdgeSpec, MachineSpec, SpuSpec
from hybridsim.scenario.unbuildable import adc_text

_AREAS = tuple(spec for spec in CONSTANTS["spu"] if spec.area)
_FALLS_WITH = "capacitor_density_f_per_m2"
_MM2_PER_M2 = 1e6


def sizes_on(machine: MachineSpec, loads: Mapping[str, Load]) -> list[Size]:
    """The sizes of a machine's SPUs whose largest systems are known, by name."""
    owners = machine.owners()
    return [
        _size(node, loads[node.name], machine.shortest(owners[node.name], node.name))
        for node in machine.nodes
        if isinstance(node, SpuSpec) and node.name in loads
    ]


def area_mm2(sizes: Sequence[Size]) -> float:
    """Area of all SPUs together, as far as they are used; NaN without any."""
    return sum(size["used"]["area_mm2"] for size in sizes) if sizes else math.nan


def too_large(node: SpuSpec, load: Load) -> str:
    """Why an SPU with such a largest system passes its limit; empty: it does not."""
    if node.area_limit_m2 is None:
        return ""
    limit_mm2 = node.area_limit_m2 * _MM2_PER_M2
    used_mm2 = extent(node.sheet, load, node.sets)["area_mm2"]
    if used_mm2 <= limit_mm2:
        return ""
    return f"{node.sheet.name} takes {used_mm2:,.4g} mm2, and area_limit is {limit_mm2:,.4g} mm2"


def _size(node: SpuSpec, load: Load, route: Sequence[EdgeSpec]) -> Size:
    """The size of an SPU whose largest system is ``load``, behind these links.

    Of the whole part nothing says how many amplifiers it has: one for each cell, at the least.
    """
    sheet = node.sheet
    given = any(constant.status == "given" for constant in sheet.constants.values())
    cells, resistors = int(sheet.value("cells")), int(sheet.value("resistors"))
    return {
        "part": node.name,
        "sheet": sheet.name,
        "technology": sheet.technology,
        "built": "" if given else sheet.built,
        "adc": adc_text(sheet),
        "numbers_per_s": _numbers_per_s(node, [edge.sheet for edge in route if edge.sheet]),
        "assumed": [s.key for s in _AREAS if sheet.constants[s.name].status == "assumed"],
        "used": extent(sheet, load, node.sets),
        "used_low_mm2": extent(_corner(sheet, "low"), load, node.sets)["area_mm2"],
        "used_high_mm2": extent(_corner(sheet, "high"), load, node.sets)["area_mm2"],
        "whole": extent(sheet, Load(cells, resistors, cells)),
    }


def _corner(sheet: Datasheet, end: Literal["low", "high"]) -> Datasheet:
    """The sheet with every constant of area at the end of its range where areas are so."""
    other: Literal["low", "high"] = "high" if end == "low" else "low"
    return sheet.overridden(
        {
            spec.name: getattr(
                sheet.constants[spec.name], other if spec.name == _FALLS_WITH else end
            )
            for spec in _AREAS
        }
    )


def _numbers_per_s(node: SpuSpec, links: Sequence[Datasheet]) -> float:
    """Of the slowest link, and of all channels that write; 0: neither limits."""
    value = node.sheet.value
    rates = [
        link.value("bandwidth_bit_per_s") / (node.input_bits or link.value("number_bits"))
        for link in links
    ]
    if write_s := value("write_time_s"):
        rates.append((value("write_channels") or value("resistors")) / write_s)
    return min(rates, default=0.0)


def extent(constants: Constants, load: Load, sets: int = 1) -> Extent:
    """What a load takes.

    A resistor is a square of side max(√(its area), wire pitch). A line passes n of them, one for
    each cell or row, and is half a pitch wide. With a resistance r it loses r n/(2 R) of a voltage
    where all n conduct 1/R; with a capacitance c its delay is r c/2.
    """
    value = constants.value
    inverted = value("sign_amplifiers") == 1
    resistors = load.resistors * sets * (1 if inverted else 2)
    amplifiers = load.amplifiers * (2 if inverted else 1)
    dacs, adcs = (int(value(f"{kind}_channels")) or load.cells for kind in ("dac", "adc"))
    pitch_m = value("wire_pitch_m")
    side_m = max(math.sqrt(value("resistor_area_m2")), pitch_m)
    capacitors_m2 = load.cells * value("capacitance_f") / value("capacitor_density_f_per_m2")
    found: Extent = {
        "cells": load.cells,
        "resistors": resistors,
        "amplifiers": amplifiers,
        "dacs": dacs,
        "adcs": adcs,
        "capacitors_mm2": capacitors_m2 * _MM2_PER_M2,
        "resistors_mm2": resistors * side_m**2 * _MM2_PER_M2,
        "amplifiers_mm2": amplifiers * value("amplifier_area_m2") * _MM2_PER_M2,
        "dacs_mm2": dacs * value("dac_area_m2") * _MM2_PER_M2,
        "adcs_mm2": adcs * value("adc_area_m2") * _MM2_PER_M2,
        "area_mm2": 0.0,
        "reticles": 0.0,
        "line_m": load.line * side_m,
        "line_ohm": value("wire_sheet_resistance_ohm") * load.line * side_m / (pitch_m / 2),
        "line_drop": 0.0,
        "line_rc": 0.0,
        "write_s": 0.0,
        "standby_w": amplifiers * value("amplifier_power_w"),
    }
    found["area_mm2"] = (
        found["capacitors_mm2"]
        + found["resistors_mm2"]
        + found["amplifiers_mm2"]
        + found["dacs_mm2"]
        + found["adcs_mm2"]
    )
    if reticle_m2 := value("reticle_m2"):
        found["reticles"] = found["area_mm2"] / (reticle_m2 * _MM2_PER_M2)
    found["line_drop"] = found["line_ohm"] * load.line / (2 * value("resistance_ohm"))
    line_f = value("wire_capacitance_f_per_m") * found["line_m"]
    rc_s = value("resistance_ohm") * value("capacitance_f")
    found["line_rc"] = found["line_ohm"] * line_f / 2 / rc_s
    if resistors:
        channels = value("write_channels")
        rounds = math.ceil(resistors / channels) if channels else 1
        found["write_s"] = rounds * value("write_time_s")
    return found
