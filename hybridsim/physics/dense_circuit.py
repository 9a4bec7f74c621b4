"""Dissipation of the dense summing-amplifier circuit of thermodynamic K-FAC (TKFAC, arXiv 2502.08603).

One programmable resistor per entry, one damping and one input resistor and one amplifier per node. Energies
are in units of V_fs² C, voltages V_j = x_j V_fs/x_fs, as in :mod:`hybridsim.physics.circuit`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.physics import modes
from hybridsim.physics.circuit import Dissipation, Parts
from hybridsim.physics.dense import Dense
from hybridsim.physics.quadrature import instants, panel_edges


def dense_parts(size: int) -> Parts:
    """The circuit of one n x n factor: n amplifiers and n² programmable resistors."""
    return Parts(size, size * size)


def dense_dissipation(
    system: Dense,
    states: Tensor,
    drives: Tensor,
    *,
    tau: float,
    kappa0: float,
    full_scale: float | None = None,
) -> Dissipation:
    """Dissipation over ``tau`` RC of dx = -(A x - b) dτ + sqrt(2 kappa0) dW, for each of k columns.

    Integrals of the second moment given the states at the start, in units of V_fs² C:

        array   sum |G_ij| x_j²/x_fs²       damping   λ sum x_j²/x_fs²       input   sum b_j²/(b_fs x_fs)

    Mode pairs are integrated over time first, so the cost is O(n³ + n² k), not times the number of nodes.
    Without a fixed full scale x_fs is, for each column, the largest |mean| + 3 sd at the interval's ends and
    at geometric instants between (an ideal programmable gain, to be flagged as assumed);
    b_fs is the larger of max |b| and x_fs, the input conductance (b_fs/x_fs) G0.

    Args:
        system: A (n, n).
        states: x at the start (n, k).
        drives: b (n, k), constant.
        tau: duration in RC, >= 0.
        kappa0: noise strength, dimensionless.
        full_scale: fixed one > 0 for all columns, or None.

    Returns:
        Stages array, damping, input; full scales and saturation of x and of the input b; each (k,).
    """
    if full_scale is not None and not full_scale > 0:
        raise ValueError(f"expected a full scale > 0, got {full_scale!r}")
    a, v = system.eigenvalues[:, None], system.eigenvectors
    y, b = v.T @ states.double(), v.T @ drives.double()
    rate = float(a.abs().max())
    t, weights = (p.to(a) for p in (instants(tau, rate) if tau > 0 else (torch.zeros(1), torch.zeros(1))))
    conductance = system.matrix.abs().sum(dim=0)
    integrals = _pair_integrals(a, t, weights, kappa0)
    array = _quadratic(v.T @ (conductance[:, None] * v), y, b, integrals)
    plain = _quadratic(torch.eye(len(a), dtype=a.dtype, device=a.device), y, b, integrals)
    peak = _peak(system, y, b, tau, rate, kappa0)
    scale = torch.where(peak > 0, peak, 1.0) if full_scale is None else torch.full_like(peak, full_scale)
    drive_peak = drives.double().abs().amax(dim=0)
    drive_scale = torch.maximum(drive_peak, scale)
    drive2 = tau * drives.double().square().sum(dim=0)
    stages = {"array": array / scale**2, "damping": system.damping * plain / scale**2}
    stages["input"] = drive2 / (drive_scale * scale)
    saturation = {"x": peak / scale, "b": drive_peak / drive_scale}
    return Dissipation(stages, {"x": scale, "b": drive_scale}, saturation)


def _pair_integrals(a: Tensor, t: Tensor, weights: Tensor, kappa0: float) -> tuple[Tensor, ...]:
    """Time integrals of E_i E_l, E_i psi_l, psi_i psi_l (n, n) and of each mode's variance (n,)."""
    e, psi = modes.decay(a, t), modes.response(a, t)
    variance = kappa0 * (modes.response(a, 2 * t) @ weights)
    return (e * weights) @ e.T, (e * weights) @ psi.T, (psi * weights) @ psi.T, variance


def _quadratic(form: Tensor, y: Tensor, b: Tensor, integrals: tuple[Tensor, ...]) -> Tensor:
    """Time integral of E[xᵀ W x] (k,): W in the eigenbasis (n, n), modes starting at y driven by b (n, k)."""
    ee, ep, pp, variance = integrals
    mean = y * ((form * ee) @ y) + 2 * y * ((form * ep) @ b) + b * ((form * pp) @ b)
    return mean.sum(dim=0) + form.diagonal() @ variance


def _peak(system: Dense, y: Tensor, b: Tensor, tau: float, rate: float, kappa0: float) -> Tensor:
    """Largest |mean| + 3 sd over nodes and geometric instants (k,)."""
    a, v = system.eigenvalues[:, None], system.eigenvectors
    peak = y.new_zeros(y.shape[1])
    for time in panel_edges(tau, rate) if tau > 0 else [0.0]:
        h = a.new_tensor(time)
        mean = v @ (modes.decay(a, h) * y + modes.response(a, h) * b)
        deviation = torch.sqrt(kappa0 * (v.square() @ modes.response(a, 2 * h)))
        peak = torch.maximum(peak, (mean.abs() + 3 * deviation).amax(dim=0))
    return peak
