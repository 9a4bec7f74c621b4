"""What an SPU's work takes: writing, presetting, converting, relaxing, measuring.

Dissipation comes from trajectories: the integral over a settle of what every resistor turns into
heat, in units of V_fs² C. Where amplifiers supply the current that their resistors draw
(``load_current``), it is not the heat that is paid but what the rails give, V_rail times the
integral of the current's magnitude (class AB), in units of V_fs C: heat of resistors and amplifiers
together.
"""

from __future__ import annotations

import math

from hybridsim.circuits.load import Load
from hybridsim.hardware.price import Constants, Time
from hybridsim.hardware.requests import Convert, Drift, Held, Measure, Preset, Settle, Write
from hybridsim.units import to_ps


def write_time(constants: Constants, request: Write) -> Time:
    """Rounds over the channels, beyond the transport; 0 channels write all at once."""
    channels = constants.value("write_channels")
    rounds = 1 if channels == 0 else math.ceil(request.resistors / channels)
    seconds = rounds * constants.value("write_time_s") if request.resistors else 0.0
    return Time(to_ps(seconds), to_ps(seconds))


def write_energy(constants: Constants, request: Write) -> float:
    """Energy of every bit that is written."""
    return constants.value("write_energy_j_per_bit") * float(request.resistors * request.bits)


def convert_time(constants: Constants, request: Convert) -> Time:
    """Rounds over the input converters, for each system."""
    return _rounds(constants, "dac", request)


def convert_energy(constants: Constants, request: Convert) -> float:
    """The 8-bit figure, doubled for every further bit, for every conversion."""
    one: float = constants.value("dac_energy_8bit_j") * 2.0 ** (request.bits - 8)
    return one * (request.cells * request.repeats)


def measure_time(constants: Constants, request: Measure) -> Time:
    """Rounds over the output converters, for each system."""
    return _rounds(constants, "adc", request)


def measure_energy(constants: Constants, request: Measure) -> float:
    """A factor above the survey's envelope ``floor + thermal 4^ENOB``, ENOB = bits - 1; and what
    the held state takes until all cells are read.
    """
    thermal: float = constants.value("adc_energy_thermal_j") * 4.0 ** (request.bits - 1)
    envelope = constants.value("adc_energy_floor_j") + thermal
    factor: float = constants.value("adc_energy_factor")
    converted = factor * envelope * (request.cells * request.repeats)
    if request.held is None:
        return converted
    duration_s = measure_time(constants, request).duration_ps * 1e-12
    return converted + _held(constants, request.held, duration_s)


def _rounds(constants: Constants, kind: str, request: Convert | Measure) -> Time:
    channels = constants.value(f"{kind}_channels") or request.cells
    rounds = math.ceil(request.cells / channels) * request.repeats
    rate = constants.value(f"{kind}_rate_hz")
    duration_ps = to_ps(rounds / rate) if rate else 0
    return Time(duration_ps, duration_ps)


def rc_ps(constants: Constants) -> float:
    """The time constant RC."""
    return constants.value("resistance_ohm") * constants.value("capacitance_f") * 1e12


def settle_time(constants: Constants, request: Settle) -> Time:
    """``tau`` RC for each system."""
    duration_ps = to_ps(request.tau * request.repeats * rc_ps(constants) * 1e-12)
    return Time(duration_ps, duration_ps)


def settle_energy(constants: Constants, request: Settle) -> float:
    """What the circuit takes; see ``_taken``."""
    return _taken(constants, request, settle_time(constants, request).duration_ps)


def drift_time(constants: Constants, request: Drift) -> Time:
    """What the clock says."""
    return Time(request.elapsed_ps, request.elapsed_ps)


def drift_energy(constants: Constants, request: Drift) -> float:
    """What the circuit takes; see ``_taken``."""
    return _taken(constants, request, request.elapsed_ps)


def _taken(constants: Constants, request: Settle | Drift, duration_ps: int) -> float:
    """``V_fs² C`` times the heat of the trajectory, or ``V_rail V_fs C`` times its charge.

    Without numbers an estimate: see ``_estimate``.
    """
    amount = request.charge if request.supplied else request.dissipation
    if amount is None:
        return _estimate(constants, request, duration_ps * 1e-12)
    return _square_volts(constants, request) * constants.value("capacitance_f") * amount


def _held(constants: Constants, held: Held, duration_s: float) -> float:
    """``V_fs²/R`` times the power of a held state, or ``V_rail V_fs/R`` times its current."""
    amount = held.charge if held.supplied else held.dissipation
    if amount is None:
        return _estimate(constants, held, duration_s)
    power_w = _square_volts(constants, held) / constants.value("resistance_ohm") * amount
    return power_w * duration_s


def _estimate(constants: Constants, request: Settle | Drift | Held, duration_s: float) -> float:
    """Every resistor at R and full scale, times an activity factor; its root for a current, which
    goes as the voltage and not as its square.
    """
    siemens = request.resistors / constants.value("resistance_ohm")
    activity: float = constants.value("activity_factor")
    share = math.sqrt(activity) if request.supplied else activity
    return _square_volts(constants, request) * siemens * duration_s * share


def _square_volts(constants: Constants, request: Settle | Drift | Held) -> float:
    """Full scale squared, or times the rail that supplies it."""
    volts: float = constants.value("full_scale_v")
    return volts * (constants.value("rail_v") if request.supplied else volts)


def preset_time(constants: Constants, request: Preset) -> Time:
    """Until a cell is within 2^-bits of its start, through the switch: R_p C bits ln 2 each."""
    tau_s = constants.value("preset_resistance_ohm") * constants.value("capacitance_f")
    duration_ps = to_ps(tau_s * request.bits * math.log(2) * request.repeats)
    return Time(duration_ps, duration_ps)


def preset_energy(constants: Constants, request: Preset) -> float:
    """At most V_fs² C for each cell: charged from zero to full scale through a resistor."""
    volts = constants.value("full_scale_v")
    return volts * volts * constants.value("capacitance_f") * (request.cells * request.repeats)


def bias_power_w(constants: Constants) -> float:
    """Static power of one amplifier without a gain-bandwidth product: a constant."""
    return constants.value("amplifier_power_w")


def amplifier_power_w(constants: Constants) -> float:
    """Quiescent power of one amplifier of a gain-bandwidth product: 2 V_rail I.

    g = 2 pi GBW C_load is what its input pair takes at least, I = g V_overdrive/2 the current for
    it.
    """
    transconductance = (
        2 * math.pi * constants.value("gain_bandwidth_hz") * constants.value("load_capacitance_f")
    )
    current_a = transconductance * constants.value("overdrive_v") / 2
    return 2 * constants.value("rail_v") * current_a


def realised(load: Load, constants: Constants, imperfections: frozenset[str]) -> Load:
    """What a system takes where negative entries cost something: an inverting amplifier for every
    one, or two resistors in the place of one, both written.
    """
    if "signs" not in imperfections:
        return load
    if constants.value("sign_amplifiers"):
        return load._replace(amplifiers=2 * load.amplifiers)
    return load._replace(resistors=2 * load.resistors, written=2 * load.written)
