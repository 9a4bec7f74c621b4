"""Which constants a datasheet of each kind holds: SI name, key in YAML, unit due there, valid
range.
"""

from __future__ import annotations

from typing import Literal

from hybridsim.scenario.datasheets.constant import MOST_BITS, ConstantSpec

PartKind = Literal["gpu", "host", "link", "spu"]
PART_KINDS: tuple[PartKind, ...] = ("gpu", "host", "link", "spu")
DEFAULT_HOST = "pytorch-eager"
"""What launches a GPU's kernels unless its sheet or the scenario says otherwise."""

_C = ConstantSpec
_GPU = (
    _C("peak_fp32_flop_per_s", "peak_fp32", "FLOP/s", "dense FP32 peak", positive=True),
    _C("peak_tf32_flop_per_s", "peak_tf32", "FLOP/s", "dense TF32 matrix peak; 0: none"),
    _C("peak_fp64_flop_per_s", "peak_fp64", "FLOP/s", "dense FP64 vector peak", positive=True),
    _C(
        "peak_fp64_tensor_flop_per_s",
        "peak_fp64_tensor",
        "FLOP/s",
        "dense FP64 matrix peak; 0: none",
    ),
    _C("peak_bf16_flop_per_s", "peak_bf16", "FLOP/s", "dense 16-bit matrix peak; 0: none"),
    _C("memory_bandwidth_byte_per_s", "memory_bandwidth", "B/s", "memory bandwidth", positive=True),
    _C("memory_capacity_byte", "memory_capacity", "B", "memory capacity", positive=True),
    _C("multiprocessors", "multiprocessors", "", "units that tiles run on", True, whole=True),
    _C("tdp_w", "tdp", "W", "power limit", energy=True),
    _C("idle_w", "idle", "W", "power when idle, with a context", energy=True),
    _C(
        "active_share",
        "active_share",
        "",
        "share of the power limit drawn while kernels run",
        at_most=1,
        energy=True,
    ),
    *(
        _C(f"{key}_efficiency", f"{key}_efficiency", "", meaning, positive=True, at_most=most)
        for key, meaning, most in (
            ("bandwidth", "reached share of the memory's bandwidth", 1),
            ("contraction", "reached share of the peak in matrix products, whole tiles", 1),
            ("tensor", "the same of TF32 and 16 bit", 1),
            ("contraction_bandwidth", "share of the bandwidth in matrix products", 1),
            ("tile_half", "of a tile of 128 x 64, relative to a whole one", 1),
            ("tile_quarter", "of a tile of 64 x 64", 1),
            ("tile_narrow", "of a tile of 128 x 32", 1),
            ("tile_small", "of a tile of 64 x 32 and below", 1),
            ("tensor_tile_half", "of a tile of 128 x 64, TF32 and 16 bit", 1),
            ("tensor_tile_quarter", "of a tile of 64 x 64, TF32 and 16 bit", 1),
            ("tensor_tile_narrow", "of a tile of 128 x 32, TF32 and 16 bit", 1),
            ("tensor_tile_small", "of a tile of 64 x 32 and below, TF32 and 16 bit", 1),
            ("convolution", "of implicit matrix products, relative to plain ones", 2),
            ("winograd", "of Winograd's products, relative to plain ones", 2),
            ("factorisation", "share of the peak in factorisations and triangular solves", 1),
            ("batch", "share of the bandwidth at which a batch of factorisations streams", 1),
        )
    ),
    _C("tile_prologue_s", "tile_prologue", "s", "start and end of a tile"),
    _C("device_floor_s", "device_floor", "s", "shortest time of a kernel"),
    _C("contraction_floor_s", "contraction_floor", "s", "the same of a matrix product"),
    _C("convolution_floor_s", "convolution_floor", "s", "the same of a convolution"),
    *(
        _C(f"{key}_{term}_s", f"{key}_{term}", "s", f"{words} of {what}")
        for key, what in (
            ("cholesky", "a Cholesky factorisation"),
            ("inverse", "an SPD inverse from its Cholesky factor, or of both"),
            ("eigh", "a symmetric eigendecomposition"),
            ("lu", "an LU factorisation or solve"),
            ("qr", "a QR factorisation"),
            ("triangular", "a triangular solve"),
        )
        for term, words in (("floor", "shortest time"), ("step", "time per row"))
    ),
    _C(
        "factorisation_block_s",
        "factorisation_block",
        "s",
        "more where it runs in blocks, above order 512",
    ),
)
_HOST = (
    _C("launch_interval_s", "launch_interval", "s", "host time between two launches"),
    _C("synchronise_s", "synchronise", "s", "host time before a launch that waits for a part"),
    _C("graph_launch_s", "graph_launch", "s", "host time of launching a CUDA graph"),
)
_LINK = (
    _C("bandwidth_bit_per_s", "bandwidth", "b/s", "bits per second, each direction", positive=True),
    _C("latency_s", "latency", "s", "time of flight, pipelined"),
    _C("energy_j_per_bit", "energy", "J/bit", "energy of one transported bit", energy=True),
    _C(
        "number_bits",
        "number_bits",
        "",
        "wire bits of a number that is not quantized",
        positive=True,
        at_most=64,
        whole=True,
    ),
)
_IMPERFECTIONS = (
    _C(
        "smallest_conductance",
        "smallest_conductance",
        "",
        "in units of 1/R; below it a resistor is off",
        numeric_with=("conductances",),
    ),
    _C(
        "temperature_k",
        "temperature",
        "K",
        "of the circuit",
        positive=True,
        numeric_with=("thermal_noise",),
    ),
    _C(
        "noise_excess",
        "noise_excess",
        "",
        "thermal noise, amplifiers included, over that of the resistors",
        numeric_with=("thermal_noise",),
    ),
    _C(
        "mismatch",
        "mismatch",
        "",
        "standard deviation of a part's relative error",
        at_most=1,
        numeric_with=("mismatch",),
    ),
    _C(
        "amplifier_gain",
        "amplifier_gain",
        "",
        "of an amplifier without feedback",
        positive=True,
        numeric_with=("finite_gain",),
    ),
    _C(
        "gain_bandwidth_hz",
        "gain_bandwidth",
        "Hz",
        "gain-bandwidth product of an amplifier",
        positive=True,
        energy=True,
        numeric_with=("bandwidth",),
    ),
    _C(
        "load_capacitance_f",
        "load_capacitance",
        "F",
        "that an amplifier drives beside its resistors",
        energy=True,
    ),
    _C(
        "overdrive_v",
        "overdrive",
        "V",
        "2 I/g of its transistors: what transconductance costs",
        positive=True,
        energy=True,
    ),
    _C("rail_v", "rail", "V", "supply, one side of two", positive=True, energy=True),
    _C(
        "offset_v",
        "offset",
        "V",
        "standard deviation of an amplifier's input offset",
        numeric_with=("offset",),
    ),
    _C(
        "headroom",
        "headroom",
        "",
        "programmable full scales: over the last settle's peak",
        positive=True,
        numeric_with=("full_scales",),
    ),
    _C(
        "gain_step",
        "gain_step",
        "",
        "ratio of neighbouring programmable full scales; 1: any",
        positive=True,
        numeric_with=("full_scales",),
    ),
    _C("preset_resistance_ohm", "preset_resistance", "ohm", "of the switch that presets a cell"),
    _C(
        "sign_amplifiers",
        "sign_amplifiers",
        "",
        "1: an inverting amplifier for every one; 0: pairs of resistors",
        at_most=1,
        whole=True,
    ),
    _C(
        "nonlinearity",
        "nonlinearity",
        "",
        "of a converter, standard deviation in steps",
        numeric_with=("converters",),
    ),
    _C(
        "dead_share",
        "dead_share",
        "",
        "share of cells that do not work",
        at_most=1,
        numeric_with=("dead_cells",),
    ),
    _C(
        "drift_per_decade",
        "drift_per_decade",
        "",
        "relative change of a resistor per decade of time since it was written",
        at_most=1,
        numeric_with=("drift",),
    ),
)
_AREA = tuple(
    _C(f"{key}_{suffix}", key, unit, meaning, key in ("capacitor_density", "wire_pitch"), area=True)
    for key, suffix, unit, meaning in (
        ("capacitor_density", "f_per_m2", "F/m2", "capacitance on an area"),
        ("resistor_area", "m2", "m2", "of a programmable resistor, with what holds its bits"),
        ("amplifier_area", "m2", "m2", "of an amplifier"),
        ("dac_area", "m2", "m2", "of an input converter"),
        ("adc_area", "m2", "m2", "of an output converter"),
        ("wire_pitch", "m", "m", "of neighbouring lines, which are half as wide"),
        ("wire_sheet_resistance", "ohm", "ohm", "of a square of a line"),
        ("wire_capacitance", "f_per_m", "F/m", "of a line, by length"),
        ("reticle", "m2", "m2", "largest field of one exposure; 0: not a chip"),
    )
)
_SPU = (
    _C("cells", "cells", "", "state variables it can hold", positive=True, whole=True),
    _C("resistors", "resistors", "", "programmable resistors it has", positive=True, whole=True),
    _C(
        "resistance_ohm",
        "resistance",
        "ohm",
        "unit resistor R",
        positive=True,
        numeric_with=("bandwidth",),
    ),
    _C(
        "capacitance_f",
        "capacitance",
        "F",
        "capacitor C of a cell",
        positive=True,
        numeric_with=("bandwidth", "thermal_noise"),
    ),
    _C(
        "full_scale_v",
        "full_scale",
        "V",
        "largest voltage; 0: dissipates nothing",
        energy=True,
        numeric_with=("thermal_noise", "offset"),
    ),
    _C("amplifier_power_w", "amplifier_power", "W", "static power of one amplifier", energy=True),
    _C("dac_rate_hz", "dac_rate", "Hz", "conversions per second and channel; 0: takes no time"),
    _C("dac_channels", "dac_channels", "", "input converters; 0: one per cell", whole=True),
    _C(
        "dac_energy_8bit_j",
        "dac_energy_8bit",
        "J",
        "an 8-bit input conversion; doubles per extra bit",
        energy=True,
    ),
    _C("adc_rate_hz", "adc_rate", "Hz", "conversions per second and channel; 0: takes no time"),
    _C("adc_channels", "adc_channels", "", "output converters; 0: one per cell", whole=True),
    _C(
        "adc_energy_floor_j",
        "adc_energy_floor",
        "J",
        "constant term of the survey envelope",
        energy=True,
    ),
    _C(
        "adc_energy_thermal_j",
        "adc_energy_thermal",
        "J",
        "term of the envelope that grows as 4^ENOB",
        energy=True,
    ),
    _C(
        "adc_energy_factor", "adc_energy_factor", "", "multiple of the survey envelope", energy=True
    ),
    _C(
        "write_energy_j_per_bit",
        "write_energy",
        "J/bit",
        "energy of writing one resistor bit",
        energy=True,
    ),
    _C("write_time_s", "write_time", "s", "time of writing a resistor beyond its transport"),
    _C("write_channels", "write_channels", "", "resistors written at once; 0: all", whole=True),
    _C(
        "activity_factor",
        "activity_factor",
        "",
        "dissipation / that of resistors of R at full scale, timing-only",
        at_most=1,
        energy=True,
    ),
    _C(
        "conductance_range",
        "conductance_range",
        "",
        "largest conductance in units of 1/R",
        positive=True,
        numeric_with=("conductances",),
    ),
    _C(
        "crossing_power_w",
        "crossing_power",
        "W",
        "of driving one analog line to a neighbouring SPU",
        energy=True,
    ),
    _C(
        "crossing_bandwidth_hz",
        "crossing_bandwidth",
        "Hz",
        "of an analog line to a neighbouring SPU",
        positive=True,
    ),
    *_IMPERFECTIONS,
    *_AREA,
    *(
        _C(
            name,
            name,
            "",
            f"bits of {what}; 0: ideal, no rounding",
            at_most=MOST_BITS,
            whole=True,
            resolution=True,
        )
        for name, what in (
            ("input_bits", "a programmed conductance"),
            ("bias_bits", "a DAC"),
            ("output_bits", "an ADC"),
        )
    ),
)
CONSTANTS: dict[PartKind, tuple[ConstantSpec, ...]] = {
    "gpu": (*_GPU, *_HOST),
    "host": _HOST,
    "link": _LINK,
    "spu": _SPU,
}
HOST_CONSTANTS = frozenset(spec.name for spec in _HOST)
"""What a GPU takes from the host that launches its kernels, unless its own sheet has them."""


def specs_by_key(kind: PartKind) -> dict[str, ConstantSpec]:
    """The constants of a kind by their YAML keys."""
    return {spec.key: spec for spec in CONSTANTS[kind]}
