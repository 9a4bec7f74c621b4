"""The device that a datasheet and the imperfections in force describe."""

from __future__ import annotations

import math
from collections.abc import Callable

from hybridsim.circuits.imperfections.device import Device
from hybridsim.errors import InputError
from hybridsim.hardware.price import Constants
from hybridsim.scenario.machine import SpuSpec

BOLTZMANN_J_PER_K = 1.380649e-23
"""Exact (SI, 2019)."""


def device_of(node: SpuSpec) -> Device:
    """The sizes of a device's imperfections, dimensionless; ideal where they do not act.

    Raises:
        InputError: voltages matter and the full scale is 0 V; it lies beyond the rails; gains
            step by less than 1.
    """
    on, volts = node.imperfections, node.sizes.value("full_scale_v")
    for name in ("thermal_noise", "offset"):
        if name in on and volts == 0:
            raise InputError(
                f"{node.name}: imperfections.{name}: expected a full scale > 0 V, got 0 V"
            )
    rail_v = node.sizes.value("rail_v")
    if "load_current" in on and volts > rail_v:
        raise InputError(
            f"{node.name}: imperfections.load_current: expected a full scale <= the rail "
            f"({rail_v:g} V), got {volts:g} V"
        )
    step = node.sizes.value("gain_step")
    if "full_scales" in on and step < 1:
        raise InputError(f"{node.name}: gain_step: expected a ratio >= 1, got {step:g}")
    found = {name: size(node.sizes) for name, (switch, size) in _SIZES.items() if switch in on}
    return Device(instance=node.instance, **found)


def amplifier_tau(constants: Constants) -> float:
    """Time constant of an amplifier of noise gain 1, in RC: 1/(2 pi GBW RC)."""
    rc_s: float = constants.value("resistance_ohm") * constants.value("capacitance_f")
    return 1 / (2 * math.pi * constants.value("gain_bandwidth_hz") * rc_s)


def _thermal(constants: Constants) -> float:
    """Variance of a cell's voltage, excess k T/C, in V²."""
    energy_j: float = BOLTZMANN_J_PER_K * constants.value("temperature_k")
    return constants.value("noise_excess") * energy_j / constants.value("capacitance_f")


def _of_full_scale(constants: Constants) -> float:
    return _thermal(constants) / constants.value("full_scale_v") ** 2


def _offset(constants: Constants) -> float:
    return constants.value("offset_v") / constants.value("full_scale_v")


def _constant(name: str) -> Callable[[Constants], float]:
    def value(constants: Constants) -> float:
        return constants.value(name)

    return value


_SIZES: dict[str, tuple[str, Callable[[Constants], float]]] = {
    "mismatch": ("mismatch", _constant("mismatch")),
    "thermal": ("thermal_noise", _of_full_scale),
    "gain": ("finite_gain", _constant("amplifier_gain")),
    "amplifier_tau": ("bandwidth", amplifier_tau),
    "offset": ("offset", _offset),
    "headroom": ("full_scales", _constant("headroom")),
    "gain_step": ("full_scales", _constant("gain_step")),
    "largest_conductance": ("conductances", _constant("conductance_range")),
    "smallest_conductance": ("conductances", _constant("smallest_conductance")),
    "nonlinearity": ("converters", _constant("nonlinearity")),
    "dead_share": ("dead_cells", _constant("dead_share")),
    "drift": ("drift", _constant("drift_per_decade")),
}
"""By the field of a device: the imperfection that it is the size of, and the size."""
