"""Dissipation of the summing-amplifier circuits of thermodynamic K-FAC (TKFAC, arXiv 2502.08603).

A factor in one array: one programmable resistor per entry, one damping and one input resistor and
one amplifier per node. Or its rows X in two: X driven by x, Xᵀ driven by u = X x, whose r
amplifiers have a feedback resistor each; it is TNGD's circuit with the empirical Fisher. Energies
are in units of V_fs² C, voltages V_j = x_j V_fs/x_fs, as in
:mod:`hybridsim.circuits.low_rank_dissipation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.dense import Dense, Diagonalised, Roots
from hybridsim.circuits.low_rank_dissipation import (
    AUTOMATIC,
    Dissipation,
    FullScales,
    full_scale,
)
from hybridsim.circuits.quadrature import instants, panel_edges


def dense_dissipation(
    system: Dense | Roots,
    states: Tensor | None,
    drives: Tensor | None,
    *,
    tau: float,
    kappa0: float,
    full_scales: FullScales = AUTOMATIC,
) -> Dissipation:
    """Dissipation over ``tau`` RC of dx = -(A x - b) dτ + sqrt(2 kappa0) dW, for each of k columns.

    Integrals of the second moment E x_j² = (E x_j)² + Var x_j given the states at the start,
    likewise u = X x; in units of V_fs² C:

        array     sum |G_ij| x_j²/x_fs²                 j_array     sum |X_ij| x_j²/x_fs²
        damping   λ sum x_j²/x_fs²                      jt_array    sum |X_ij| u_i²/(u_fs x_fs)
        input     sum b_j²/(b_fs x_fs)                  feedback_u  sum u_i²/(u_fs x_fs)

    (left: one array; with X the three on the right take the place of ``array``). Mode pairs are
    integrated over time first, so the cost is O(n³) once per system and O(n² k), not times the
    number of instants. A full scale left None is, for each column, the largest |mean| + 3 sd of its
    stage at the interval's ends and at the nodes between (an ideal programmable gain, to be flagged
    as assumed; looked for on the signal that swings most at the edges of the panels), b_fs the
    larger of max |b| and x_fs.

    Args:
        system: A (n, n).
        states: x at the start (n, k); None for a circuit at rest.
        drives: b (n, k), constant; None for none.
        tau: duration in RC, >= 0.
        kappa0: noise strength, dimensionless.
        full_scales: fixed ones > 0 for all columns, or None; w is not asked for.

    Returns:
        Stages, full scales and saturation (x, u with X, and the input b); each (k,), k = 1 without
        columns.
    """
    flow = _Flow.of(system, states, drives, tau, kappa0)
    x_peak = flow.peak(system.eigenvectors)
    x_fs = full_scale(full_scales.x, x_peak)
    b2, b_peak = _drive_moments(drives, x_peak)
    b_fs = (
        torch.maximum(b_peak, x_fs) if full_scales.b is None else full_scale(full_scales.b, b_peak)
    )
    scales, peaks = {"x": x_fs, "b": b_fs}, {"x": x_peak, "b": b_peak}
    stages = {
        "damping": system.damping * flow.integral(torch.ones_like(system.eigenvalues)) / x_fs**2,
        "input": tau * b2 / (b_fs * x_fs),
    }
    if isinstance(system, Roots):
        peaks["u"] = flow.peak(system.outputs)
        scales["u"] = full_scale(full_scales.u, peaks["u"])
        through = scales["u"] * x_fs
        stages["j_array"] = flow.integral(system.array_form) / x_fs**2
        stages["jt_array"] = flow.integral(system.transposed_form) / through
        stages["feedback_u"] = flow.integral(system.eigenvalues - system.damping) / through
    else:
        stages["array"] = flow.integral(system.array_form) / x_fs**2
    return Dissipation(stages, scales, {stage: peaks[stage] / scales[stage] for stage in peaks})


class _Signal(NamedTuple):
    """Something of the columns in the modes (n, k), and what carries it: a function of rate and
    time, at T instants.
    """

    columns: Tensor
    function: Callable[[Tensor, Tensor], Tensor]
    values: Tensor  # (n, T)


@dataclass(frozen=True, eq=False)
class _Flow:
    """The modes of k columns in time: means E y + psi b, variances kappa0 psi_2t."""

    rates: Tensor  # (n, 1)
    signals: tuple[_Signal, ...]  # the start y and the drive b, where there are any
    products: tuple[Tensor, ...]  # time integrals (n, n) of the signals' functions, pair by pair
    variances: Tensor  # (n, T)
    weights: Tensor  # (T,)
    edges: list[float]  # instants at which the nodes that swing most are looked for
    kappa0: float

    @classmethod
    def of(
        cls,
        system: Diagonalised,
        states: Tensor | None,
        drives: Tensor | None,
        tau: float,
        kappa0: float,
    ) -> _Flow:
        a, v = system.eigenvalues[:, None], system.eigenvectors
        rate = float(a.abs().max())
        t, weights = (
            p.to(a) for p in (instants(tau, rate) if tau > 0 else (torch.zeros(1), torch.zeros(1)))
        )
        given = ((states, modes.decay), (drives, modes.response))
        signals = tuple(
            _Signal(v.T @ x.double(), function, function(a, t))
            for x, function in given
            if x is not None
        )
        products = tuple(
            (signals[i].values * weights) @ signals[j].values.T for i, j in _pairs(len(signals))
        )
        edges = panel_edges(tau, rate) if tau > 0 else [0.0]
        return cls(
            a,
            signals,
            products,
            kappa0 * modes.response(a, 2 * t),
            weights,
            edges[states is None :],
            kappa0,
        )

    @property
    def count(self) -> int:
        """k, the number of columns."""
        return self.signals[0].columns.shape[1] if self.signals else 1

    def integral(self, form: Tensor) -> Tensor:
        """Time integral of E[xᵀ W x] (k,): W in the modes, (n, n) symmetric, or (n,) where it is
        diagonal.
        """
        diagonal = form if form.ndim == 1 else form.diagonal()
        total = (diagonal @ (self.variances @ self.weights)).expand(self.count)
        for (i, j), product in zip(_pairs(len(self.signals)), self.products, strict=True):
            left, right = self.signals[i].columns, self.signals[j].columns
            weighted = (
                (form * product.diagonal())[:, None] * right
                if form.ndim == 1
                else (form * product) @ right
            )
            total = total + (1 if i == j else 2) * (left * weighted).sum(dim=0)
        return total

    def peak(self, outputs: Tensor) -> Tensor:
        """Largest |mean| + 3 sd of M y (k,), M (m, n): over all instants, of the node that leads at
        the edges.

        Following all m nodes through all instants would cost more than the decomposition.
        """
        none = self.rates.new_zeros(self.count)
        highest, node = none, none.long()
        squares = outputs.square()
        for edge in self.edges:
            h = self.rates.new_tensor(edge)
            mean = sum(
                (outputs @ (s.function(self.rates, h) * s.columns) for s in self.signals), none
            )
            spread = torch.sqrt(squares @ (self.kappa0 * modes.response(self.rates, 2 * h)))
            swing, leading = (mean.abs() + 3 * spread).max(dim=0)
            node = torch.where(swing > highest, leading, node)
            highest = torch.maximum(highest, swing)
        followed = outputs[node]
        mean = sum(((followed * s.columns.T) @ s.values for s in self.signals), none[:, None])
        return (mean.abs() + 3 * torch.sqrt(followed.square() @ self.variances)).amax(dim=1)


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i, count)]


def _drive_moments(drives: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of b_j² and largest |b_j| of each column (k,)."""
    if drives is None:
        return torch.zeros_like(like), torch.zeros_like(like)
    return drives.double().square().sum(dim=0), drives.double().abs().amax(dim=0)
