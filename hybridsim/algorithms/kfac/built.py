"""What an SPU that is not ideal computes for K-FAC: as ``device``, with the device as a setting.

The range of the DACs is each column's own, which is known before it is sent: columns are solved in
units of their largest entry. The range of x, in
units of it, is one for all columns of a piece: the last solve's largest peak of the same factor on
the same SPU, times the headroom, up to a gain that the device has. ``Device.headroom`` 0: what each
column itself asks for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.kfac.device import DTYPES, Dtype
from hybridsim.circuits.base import Dissipation, FullScales
from hybridsim.circuits.capacitive import capacitive
from hybridsim.circuits.imperfections.arrays import built_dense, built_roots, gain_above
from hybridsim.circuits.imperfections.converters import bowed, quantized
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.passive import passive
from hybridsim.circuits.precision import conservative, quantize
from hybridsim.circuits.rails import Ranges
from hybridsim.circuits.random_rounding import (
    round_columns_randomly,
    round_randomly,
    round_symmetric_randomly,
)
from hybridsim.circuits.realised import Realised
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.rng import address_seed
from hybridsim.scenario.choices import Circuit


class Driven(NamedTuple):
    """What the DACs put out: b (n, k), its full scale (k,), and the range of x in units of it,
    0-dim (None: chosen by what comes).
    """

    columns: Tensor
    b_fs: Tensor
    gain: Tensor | None


@derivable
def program(
    factor: Tensor,
    shift: Tensor,
    *,
    input_bits: int | None,
    device: Device,
    rounding_seed: int | None = None,
    circuit: Circuit = "summing",
    dual_rail: bool = False,
) -> Outcome:
    """A = Â + shift I as the device builds it; see ``device.program``.

    Raises:
        HybridsimError: the factor or the shift is not finite, or the circuit, one without
            amplifiers, cannot hold it.
    """
    facts = {}
    if rounding_seed is None:
        rounded, facts["diagonal_shift"] = conservative(factor, input_bits)
    else:
        rounded = round_symmetric_randomly(factor, input_bits, rounding_seed)
    if circuit == "summing":
        system = built_dense(rounded, float(shift), device)
    else:
        network = passive if circuit == "passive" else capacitive
        system = network(rounded, float(shift), device, dual_rail=dual_rail)
    return Outcome(system, facts | system.facts())


@derivable
def program_roots(
    rows: Tensor,
    shift: Tensor,
    *,
    input_bits: int | None,
    device: Device,
    rounding_seed: int | None = None,
) -> Outcome:
    """A = X̂₁ᵀX̂₂ + shift I as the device builds it; see ``device.program_roots``.

    Raises:
        HybridsimError: X or the shift is not finite.
    """
    if rounding_seed is None:
        rounded, _ = quantize(rows.double(), input_bits)
    else:
        rounded = round_randomly(rows.double(), input_bits, rounding_seed)
    system = built_roots(rounded, float(shift), device)
    return Outcome(system, system.facts())


def convert(
    columns: Tensor,
    peak: Tensor | None,
    *,
    bias_bits: int | None,
    device: Device,
    rounding_seed: int | None = None,
    auto_zero: bool = False,
) -> Outcome:
    """Right-hand sides (n, k) through the DACs, and the range of x.

    ``auto_zero``: a column of zeros comes last. ``peak``: largest |x|/b_fs of the solve before,
    0-dim; None, or one that was not finite: this one finds its range.
    """
    b = columns.double()
    if rounding_seed is not None:  # to the levels of the converters, which change it no more
        b = round_columns_randomly(b, bias_bits, rounding_seed)
    b_fs = b.abs().amax(dim=0)
    if auto_zero:
        b, b_fs = torch.cat([b, 0 * b[:, :1]], dim=1), torch.cat([b_fs, torch.ones_like(b_fs[:1])])
    scales = torch.where(b_fs > 0, b_fs, 1.0)
    b = bowed(quantized(b, scales, bias_bits), scales, bias_bits, device, "dac")
    return Outcome(Driven(b, b_fs, _range(peak, device)))


def settle(
    system: Realised,
    states: None,
    drives: Driven,
    *,
    tau: float,
    kappa0: float,
    noise_seed: int,
    first: int = 0,
    device: Device,
    auto_zero: bool = False,
) -> Outcome:
    """All columns over ``tau`` RC each, from rest; ``auto_zero``: the last of them is of zeros.

    Returns:
        Outcome({"x": (n, k), "x_fs": (k,), "b_fs": (k,), "peak": largest |x|/b_fs that shows},
        facts).
    """
    numbers = range(first, first + drives.columns.shape[1] - auto_zero)
    noisy, seeds = kappa0 > 0 or device.thermal > 0, None
    if noisy:
        seeds = [address_seed(noise_seed, "column", number) for number in numbers]
        seeds += [address_seed(noise_seed, "zero", first)] * auto_zero
    ranges = Ranges()
    if drives.gain is not None:
        ranges = Ranges(drives.gain * torch.where(drives.b_fs > 0, drives.b_fs, 1.0), drives.b_fs)
    run: dict[str, Any] = {
        "tau": tau,
        "kappa0": kappa0,
        "noise_seeds": seeds,
    }  # Any: of three types
    moved, heat = system.settle(states, drives.columns, **run, ranges=ranges)
    return Outcome(*_shown(moved, heat, drives.b_fs, ranges))


def sample(
    system: Realised,
    state: None,
    peak: Tensor | None,
    *,
    samples: int,
    spacing_tau: float,
    settle_tau: float,
    kappa0: float,
    noise_seed: int,
    first: int = 0,
    device: Device,
) -> Outcome:
    """Samples (n, S) of the noise, as ``device.sample``; ``peak`` of the samples before, absolute.

    Offsets are in them: nobody takes their mean off.
    """
    seed = address_seed(noise_seed, "sample", first)
    gain = _range(peak, device)
    ranges = Ranges(gain)
    times = {"settle_tau": settle_tau, "spacing_tau": spacing_tau}
    taken = system.sample(samples=samples, **times, kappa0=kappa0, noise_seed=seed, ranges=ranges)
    whole_tau = settle_tau + (samples - 1) * spacing_tau
    scales = FullScales(None if gain is None else float(gain))
    heat = system.dissipation(None, None, tau=whole_tau, kappa0=kappa0, full_scales=scales)
    return Outcome(*_shown(taken, heat, torch.ones(1, dtype=torch.float64), ranges))


def read(
    settled: dict[str, Tensor],
    *,
    output_bits: int | None,
    dtype: Dtype = "float32",
    device: Device,
    auto_zero: bool = False,
) -> Outcome:
    """Solutions (n, k) through the ADCs, whose range is that of x, in the GPU's type.

    ``auto_zero``: the last column, in units of its range, is taken off the others, in units of
    theirs; by registers and subtractors behind the ADCs, which cost nothing here.
    """
    x, x_fs, b_fs = settled["x"], settled["x_fs"], settled["b_fs"]
    seen = quantized(bowed(x, x_fs, output_bits, device, "adc"), x_fs, output_bits)
    if auto_zero:
        seen = (seen - seen[:, -1:] * (x_fs / x_fs[-1]))[:, :-1]
        b_fs = b_fs[:-1]
    # in units of its column's largest entry: whatever a device answers to zeros is times zero
    answers = torch.where(b_fs > 0, seen, 0.0).to(DTYPES[dtype])
    return Outcome(answers, {"clipped": (x.abs() > x_fs * (1 + 1e-9)).sum()})


def _range(peak: Tensor | None, device: Device) -> Tensor | None:
    """Full scale of x by what it was before, 0-dim; None: unknown, or each settle's own."""
    if peak is None or device.headroom == 0 or not math.isfinite(float(peak)):
        return None
    return peak.new_tensor(gain_above(device.headroom * float(peak), device.gain_step))


def _shown(
    moved: Tensor, heat: Dissipation, b_fs: Tensor, ranges: Ranges
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a settle leaves, and its facts. No peak shows beyond the rails."""
    x_fs = heat.full_scales["x"]
    share = heat.saturation["x"]
    if ranges.x is not None:
        share = share.clamp(max=1)
    peaks = torch.where(b_fs > 0, share * x_fs / b_fs.clamp(min=torch.finfo(b_fs.dtype).tiny), 0.0)
    facts = {
        "dissipation": heat.total.sum(),
        **heat.facts(),
        "nonfinite": (~moved.isfinite()).sum(),
    }
    return {"x": moved, "x_fs": x_fs, "b_fs": b_fs, "peak": peaks.amax()}, facts
