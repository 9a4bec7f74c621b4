"""Amplifiers of TNGD's circuit: full scales, closed-loop gains and lags."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits.base import FullScales, full_scale
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.parts import built
from hybridsim.circuits.low_rank import times_blocks
from hybridsim.circuits.rows import Rows


class Scales(NamedTuple):
    """Full scale of every stage, > 0."""

    x: float
    u: float
    w: float
    b: float


class Held(NamedTuple):
    """Conductances at the amplifiers' nodes before full scales: sums of |G|.

    Attributes:
        into_u: of J (r,) float64.
        into_w: of H/b (r,) float64.
        into_x: of Jᵀ, mean over the cells.
        hessian: there is an H array, with w amplifiers.
    """

    into_u: Tensor
    into_w: Tensor
    into_x: float
    hessian: bool


class Amplifiers(NamedTuple):
    """What real amplifiers make of the circuit.

    Attributes:
        gain_u, gain_w: closed-loop gains over the ideal ones (r,) float64.
        damping: λ and the mean leak of the integrators.
        lags: time constants of u and w stages, in RC; none where bandwidth is not limited.
    """

    gain_u: Tensor
    gain_w: Tensor
    damping: float
    lags: tuple[float, ...]

    @classmethod
    def of(
        cls,
        device: Device,
        held: Held,
        scales: Scales,
        damping: float,
    ) -> Amplifiers:
        """Closed-loop gains 1/(1 + n/A0) and lags n τ_a of noise gain n = 1 + sum |G|/G_feedback.

        The lag is that of a stage's largest n. An integrator of finite gain leaks all of its
        node's conductances over A0: their mean is added to the damping.
        """
        x_fs, u_fs, w_fs, b_fs = scales
        of_u = 1 + held.into_u * (x_fs / u_fs)
        of_w = 1 + held.into_w * (u_fs / w_fs)
        gains: list[Tensor] = []
        for part, noise_gain in (("u feedback", of_u), ("w feedback", of_w)):
            feedback = built(torch.ones_like(noise_gain), device, part)
            gains.append(1 / (feedback * (1 + noise_gain / device.gain)))
        if not held.hessian:
            gains[1] = torch.ones_like(of_w)
        leak = 0.0
        if device.gain < math.inf:
            leak = (damping + b_fs / x_fs + held.into_x * (w_fs / x_fs)) / device.gain
        noise_gains = [float(of_u.amax()), *([float(of_w.amax())] if held.hessian else [])]
        return cls(
            gains[0],
            gains[1],
            damping + leak,
            tuple(n * device.amplifier_tau for n in noise_gains if device.amplifier_tau > 0),
        )


def scales_of(rows: Rows, blocks: Tensor, gradient: Tensor, fixed: FullScales) -> Scales:
    """Fixed full scales, or those that the gradient on x would fill: only their ratios count."""
    if fixed.x is not None and fixed.u is not None and fixed.w is not None and fixed.b is not None:
        return Scales(fixed.x, fixed.u, fixed.w, fixed.b)
    u = rows.times(gradient[:, None])
    w = times_blocks(blocks, u)
    stages: list[Tensor] = [gradient, u, w]
    x_fs, u_fs, w_fs = (float(full_scale(None, s.abs().amax().double())) for s in stages)
    return Scales(x_fs, u_fs, w_fs, x_fs)
