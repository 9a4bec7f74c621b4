"""A small symmetric system with its eigendecomposition: exact transitions mode by mode.

Energies are in units of V_fs² C, voltages V_j = x_j V_fs/x_fs, as in
:mod:`hybridsim.circuits.low_rank`. Columns are systems that are solved one after the other: states
and drives are (n, k) float64, or None for a circuit at rest and for one without a drive.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.circuits import modes
from hybridsim.circuits.base import (
    AUTOMATIC,
    Dissipation,
    FullScales,
    System,
    check_interval,
    full_scale,
    normal,
)
from hybridsim.circuits.quadrature import NODES, instants, panel_edges
from hybridsim.errors import HybridsimError

_SAMPLES = 1024  # drawn at once; part of what a seed means


@dataclass(frozen=True, eq=False)
class Diagonalised(System[Tensor | None]):
    """A = V diag(a) Vᵀ; its circuits differ in what stands in their arrays.

    Attributes:
        damping: λ, dimensionless, one more resistor per node.
        eigenvalues: a, of A (n,) float64, ascending; a negative one is a mode that runs away.
        eigenvectors: V (n, n) float64.
    """

    damping: float
    eigenvalues: Tensor
    eigenvectors: Tensor

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """See ``System``."""
        return self.eigenvalues[0], self.eigenvalues[-1]

    def rest(self) -> Tensor | None:
        """See ``System``."""
        return None

    def full(self, state: Tensor | None) -> Tensor:
        """See ``System``: (n, k); one column of zeros at rest."""
        return self.eigenvalues.new_zeros(len(self.eigenvalues), 1) if state is None else state

    def displaced(self, state: Tensor | None, change: Tensor) -> Tensor:
        """See ``System``."""
        return self.full(state) + change

    def relax(
        self,
        state: Tensor | None,
        drive: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
    ) -> Tensor:
        """See ``System``; O(n² k).

        Negative eigenvalues are legal: the state grows, and is infinite or NaN where it leaves
        float64.
        """
        check_interval(tau, kappa0)
        if tau == 0:
            return torch.zeros_like(self.full(drive)) if state is None else state
        a, v = self.eigenvalues[:, None], self.eigenvectors
        h, given = a.new_tensor(tau), self.full(drive).double()
        moved = modes.response(a, h) * (v.T @ given)
        if state is not None:
            moved = modes.decay(a, h) * (v.T @ state.double()) + moved
        if kappa0 > 0:
            z = normal_columns(noise_seeds, given)
            moved = moved + modes.spread(a, h, kappa0) * (v.T @ z)
        return v @ moved

    def sample(
        self,
        *,
        samples: int,
        settle_tau: float,
        spacing_tau: float,
        kappa0: float,
        noise_seed: int,
    ) -> Tensor:
        """See ``System``: (n, S) in the modes y = Vᵀ x, 4 n² S FLOP.

        y_1 = σ(a; settle) Vᵀ z_1,    y_s+1 = exp(-a spacing) y_s + σ(a; spacing) Vᵀ z_s+1
        """
        check_interval(settle_tau, kappa0)
        check_interval(spacing_tau, kappa0)
        a, v = self.eigenvalues, self.eigenvectors
        settle, spacing = a.new_tensor(settle_tau), a.new_tensor(spacing_tau)
        kept, width = modes.decay(a, spacing), modes.spread(a, spacing, kappa0)
        generator = torch.Generator(device=a.device).manual_seed(noise_seed)
        last, gain = torch.zeros_like(a), modes.spread(a, settle, kappa0)
        result = a.new_empty(samples, len(a))
        for start in range(0, samples, _SAMPLES):
            drawn = a.new_empty(_SAMPLES, len(a)).normal_(generator=generator)
            rows = drawn @ v
            for row in rows.unbind(0):
                last = row.mul_(gain).addcmul_(kept, last)
                gain = width
            result[start : start + _SAMPLES] = (rows @ v.T)[: samples - start]
        return result.T

    def dissipation(
        self,
        state: Tensor | None,
        drive: Tensor | None,
        *,
        tau: float,
        kappa0: float,
        full_scales: FullScales = AUTOMATIC,
    ) -> Dissipation:
        """See ``System``; each of the figures is (k,), k = 1 without columns.

        Beside what the arrays dissipate (``array_stages``), in units of V_fs² C:

            damping   λ sum x_j²/x_fs²                      input     sum b_j²/(b_fs x_fs)

        Mode pairs are integrated over time first, so the cost is O(n³) once per system and O(n² k),
        not times the number of instants. A full scale left None is, for each column, the largest
        |mean| + 3 sd of its stage at the interval's ends and at the nodes between (an ideal
        programmable gain, to be flagged as assumed; looked for on the signal that swings most at
        the edges of the panels), b_fs the larger of max |b| and x_fs; w is not asked for.
        """
        flow = Flow.of(self, state, drive, tau, kappa0)
        x_peak = flow.peak(self.eigenvectors)
        x_fs = full_scale(full_scales.x, x_peak)
        b2, b_peak = _drive_moments(drive, x_peak)
        automatic = full_scales.b is None
        b_fs = torch.maximum(b_peak, x_fs) if automatic else full_scale(full_scales.b, b_peak)
        scales, peaks = {"x": x_fs, "b": b_fs}, {"x": x_peak, "b": b_peak}
        stages = {
            "damping": self.damping * flow.integral(torch.ones_like(self.eigenvalues)) / x_fs**2,
            "input": tau * b2 / (b_fs * x_fs),
        }
        conductances = {"input": b_fs / x_fs}
        stages |= self.array_stages(flow, full_scales, scales, peaks)
        conductances |= self.scaled_conductances(scales)
        saturation = {name: peaks[name] / scales[name] for name in peaks}
        return Dissipation(stages, scales, saturation, conductances)

    @abstractmethod
    def array_stages(
        self,
        flow: Flow,
        fixed: FullScales,
        scales: dict[str, Tensor],
        peaks: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Energy (k,) of the circuit's own arrays by stage, in units of V_fs² C.

        ``scales`` and ``peaks`` hold those of x and of the input; further stages enter theirs,
        scaled as ``fixed`` says.
        """

    def scaled_conductances(self, scales: dict[str, Tensor]) -> dict[str, Tensor]:
        """Largest conductances (k,) of the circuit's own resistors that full scales enter."""
        return {}


def quadratic_form(outputs: Tensor, weights: Tensor) -> Tensor:
    """Mᵀ diag(weights) M (n, n) for M (m, n): the weighted sum of squares of M y."""
    return outputs.T @ (weights[:, None] * outputs)


def check_finite(expected: str, matrix: Tensor, damping: float) -> None:
    """Numbers all of them.

    Raises:
        HybridsimError: there is a NaN or an infinity.
    """
    if matrix.is_meta:
        return
    if not (math.isfinite(damping) and bool(torch.isfinite(matrix).all())):
        raise HybridsimError(f"expected {expected}, got NaN or infinity")


class Signal(NamedTuple):
    """Something of the columns in the modes (n, k), and what carries it: a function of rate and
    time, at T instants.
    """

    columns: Tensor
    function: Callable[[Tensor, Tensor], Tensor]
    values: Tensor  # (n, T)


@dataclass(frozen=True, eq=False)
class Flow:
    """The modes of k columns in time: means E y + psi b, variances kappa0 psi_2t."""

    rates: Tensor  # (n, 1)
    signals: tuple[Signal, ...]  # the start y and the drive b, where there are any
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
    ) -> Flow:
        """Follow a system over ``tau`` RC from its states under its drives."""
        a, v = system.eigenvalues[:, None], system.eigenvectors
        rate = float(a.abs().max())
        t, weights = (
            p.to(a) for p in (instants(tau, rate) if tau > 0 else (torch.zeros(1), torch.zeros(1)))
        )
        given = ((states, modes.decay), (drives, modes.response))
        signals = tuple(
            Signal(v.T @ x.double(), function, function(a, t))
            for x, function in given
            if x is not None
        )
        edges = (panel_edges(tau, rate) if tau > 0 else [0.0])[states is None :]
        return cls.between(a, signals, t, weights, edges, kappa0)

    @classmethod
    def between(
        cls,
        rates: Tensor,
        signals: tuple[Signal, ...],
        t: Tensor,
        weights: Tensor,
        edges: list[float],
        kappa0: float = 0.0,
    ) -> Flow:
        """Signals of any modes, with their values at the instants t (T,)."""
        products = tuple(
            (signals[i].values * weights) @ signals[j].values.T for i, j in _pairs(len(signals))
        )
        variances = kappa0 * modes.response(rates, 2 * t)
        return cls(rates, signals, products, variances, weights, edges, kappa0)

    @property
    def count(self) -> int:
        """k, the number of columns."""
        return self.signals[0].columns.shape[1] if self.signals else 1

    def integral(self, form: Tensor) -> Tensor:
        """Time integral of E[xᵀ W x] (k,): W in the modes, (n, n) symmetric, or (n,) where it is
        diagonal.
        """
        total = self.weights.new_zeros(self.count)
        if self.kappa0 > 0:
            diagonal = form if form.ndim == 1 else form.diagonal()
            total = total + diagonal @ (self.variances @ self.weights)
        for (i, j), product in zip(_pairs(len(self.signals)), self.products, strict=True):
            left, right = self.signals[i].columns, self.signals[j].columns
            weighted = (
                (form * product.diagonal())[:, None] * right
                if form.ndim == 1
                else (form * product) @ right
            )
            total = total + (1 if i == j else 2) * (left * weighted).sum(dim=0).real
        return total

    def magnitudes(self, outputs: Tensor) -> Tensor:
        """Time integrals of |o| (m, k) of the means o = M y, M (m, n): a signal that keeps its sign
        within a panel is integrated exactly, one that changes it is taken too small.
        """
        total = self.weights.new_zeros(len(outputs), self.count)
        for first in range(1, len(self.weights) - 1, NODES):
            panel = slice(first, first + NODES)
            swung = [
                (s.values[:, panel] @ self.weights[panel].to(s.values))[:, None] * s.columns
                for s in self.signals
            ]
            if swung:
                total += (outputs @ torch.stack(swung).sum(dim=0)).abs()
        return total

    def peak(self, outputs: Tensor) -> Tensor:
        """Largest |mean| + 3 sd of M y (k,), M (m, n): over all instants, of the node that leads at
        the edges.

        Following all m nodes through all instants would cost more than the decomposition.
        """
        none = self.weights.new_zeros(self.count)
        highest, node = none, none.long()
        noisy, squares = self.kappa0 > 0, outputs.square()
        for edge in self.edges:
            h = self.weights.new_tensor(edge)
            mean = sum(
                (outputs @ (s.function(self.rates, h) * s.columns) for s in self.signals), none
            )
            swings = mean.abs().expand(len(outputs), -1)
            if noisy:
                variance = self.kappa0 * modes.response(self.rates, 2 * h)
                swings = swings + 3 * torch.sqrt(squares @ variance)
            swing, leading = swings.max(dim=0)
            node = torch.where(swing > highest, leading, node)
            highest = torch.maximum(highest, swing)
        followed = outputs[node]
        mean = sum(((followed * s.columns.T) @ s.values for s in self.signals), none[:, None])
        swings = mean.abs()
        if noisy:
            swings = swings + 3 * torch.sqrt(followed.square() @ self.variances)
        return swings.amax(dim=1)


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i, count)]


def _drive_moments(drives: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of b_j² and largest |b_j| of each column (k,)."""
    if drives is None:
        return torch.zeros_like(like), torch.zeros_like(like)
    return drives.double().square().sum(dim=0), drives.double().abs().amax(dim=0)


def normal_columns(seeds: Sequence[int] | None, like: Tensor) -> Tensor:
    """Normal numbers (n, k) float64: each column from its own seed, whatever its neighbours."""
    count = like.shape[1]
    if seeds is None or len(seeds) != count:
        got = "none" if seeds is None else len(seeds)
        raise ValueError(f"expected {count} noise seeds, got {got}")
    return torch.stack([normal(seed, like[:, 0]) for seed in seeds], dim=1)
