"""What every circuit answers: relax, sample, dissipation, load, conductances, facts.

Time is in units of RC. No linear system is solved here: A⁻¹(I - exp(-A h)) is the device's own
relaxation, evaluated mode by mode as -expm1(-a h)/a.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from hybridsim.circuits.load import Load
from hybridsim.rng import address_seed

State = TypeVar("State")
"""What a circuit makes of node voltages: state and drive alike."""


class FullScales(NamedTuple):
    """Largest value of each stage, dimensionless; None: chosen for each settle by
    :func:`dissipation`.
    """

    x: float | None = None
    u: float | None = None
    w: float | None = None
    b: float | None = None


AUTOMATIC = FullScales()


@dataclass(frozen=True, eq=False)
class Dissipation:
    """One settle's dissipation by stage; float64, 0-dim for TNGD, (k,) for k columns of a dense
    circuit.

    Attributes:
        stages: energy by stage, in units of V_fs² C.
        full_scales: by amplifier stage (x, u, w), dimensionless.
        saturation: largest (|mean| + 3 sd)/full scale by stage, |b|/b_fs of the input; above 1 a
            stage clips.
        conductances: largest of each set of resistors that full scales enter, in units of 1/R; the
            others' are the system's (``System.conductances``). Feedback resistors are not among
            them: of an amplifier only their ratio to its array counts, which is its gain.
        charge: that amplifiers supply to their loads, integrated |I|, by stage, in units of V_fs C;
            empty where it was not asked for.
        further: facts of how it was found.
    """

    stages: dict[str, Tensor]
    full_scales: dict[str, Tensor]
    saturation: dict[str, Tensor]
    conductances: dict[str, Tensor] = field(default_factory=dict)
    charge: dict[str, Tensor] = field(default_factory=dict)
    further: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """Sum over the stages, in units of V_fs² C."""
        return torch.stack(list(self.stages.values())).sum(dim=0)

    @property
    def largest_saturation(self) -> Tensor:
        """Over all stages and columns, 0-dim."""
        return torch.stack([part.amax() for part in self.saturation.values()]).amax()

    def facts(self) -> dict[str, Tensor]:
        """What a program reports of a settle beside its energy."""
        found = {"saturation": self.largest_saturation, **conductance_facts(self.conductances)}
        if self.charge:
            found["charge"] = torch.stack(list(self.charge.values())).sum()
        return {**found, **self.further}


class System(ABC, Generic[State]):
    """A programmed circuit that relaxes dx = -(A x - b) dτ + sqrt(2 kappa0) dW.

    A subclass is a circuit, one file each. It holds what its resistors hold; what it is made of
    (``load``) is known from shapes alone and lies beside it as a function, since a timing-only run
    has no system to ask.
    """

    @property
    @abstractmethod
    def load(self) -> Load:
        """What it occupies on a device."""

    @property
    @abstractmethod
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest eigenvalue of A, 0-dim float64.

        The circuit is stable while the smallest is positive.
        """

    @abstractmethod
    def conductances(self) -> dict[str, Tensor]:
        """Largest |G_ij| of every set of programmable resistors that no full scale enters.

        0-dim, in units of 1/R, by the stage that ``dissipation`` names; the others are known when
        the full scales are (``Dissipation.conductances``).
        """

    @abstractmethod
    def rest(self) -> State:
        """Discharged capacitors, or no drive."""

    @abstractmethod
    def full(self, state: State) -> Tensor:
        """Node voltages (N,) or (n, k), dimensionless."""

    @abstractmethod
    def displaced(self, state: State, change: Tensor) -> State:
        """The state with ``change`` added to its node voltages, in the shape of ``full(state)``."""

    @abstractmethod
    def relax(
        self,
        state: State,
        drive: State,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
    ) -> State:
        """Move the state by ``tau`` RC, exactly.

        x(τ+h) = exp(-A h) x(τ) + A⁻¹(I - exp(-A h)) b + η,
        η ~ N(0, kappa0 A⁻¹(I - exp(-2 A h))), η = σ(A) z

        Args:
            state: x(τ).
            drive: b, constant over the interval.
            tau: duration in RC, >= 0; 0 changes nothing, also with noise.
            kappa0: noise strength >= 0, dimensionless.
            noise_seeds: of z ~ N(0, I), one for each column; None only without noise.

        Raises:
            ValueError: tau or kappa0 is negative or not finite, or there are not as many seeds as
                columns.
        """

    @abstractmethod
    def dissipation(
        self,
        state: State,
        drive: State,
        *,
        tau: float,
        kappa0: float,
        full_scales: FullScales = AUTOMATIC,
    ) -> Dissipation:
        """What the resistors dissipate over ``tau`` RC, given the state at the start.

        Integrals of the second moment E x_j² = (E x_j)² + Var x_j, never an end value times a
        duration.
        """

    def settle(
        self,
        state: State,
        drive: State,
        *,
        tau: float,
        kappa0: float,
        noise_seeds: Sequence[int] | None,
    ) -> tuple[State, Dissipation]:
        """``relax`` and ``dissipation`` over the same interval."""
        moved = self.relax(state, drive, tau=tau, kappa0=kappa0, noise_seeds=noise_seeds)
        return moved, self.dissipation(state, drive, tau=tau, kappa0=kappa0)

    def sample(
        self,
        *,
        samples: int,
        settle_tau: float,
        spacing_tau: float,
        kappa0: float,
        noise_seed: int,
    ) -> Tensor:
        """Samples (n, S) of the noise of a device that starts at rest, without a drive.

        The first after ``settle_tau`` RC, each further one after ``spacing_tau`` more, by exact
        transitions, so that neighbours are correlated as on the device. The first samples do not
        depend on how many follow.

        Raises:
            ValueError: a time or kappa0 is negative or not finite.
        """
        state, tau, found = self.rest(), settle_tau, []
        for number in range(samples):
            seeds = [address_seed(noise_seed, "sample", number)]
            state = self.relax(state, self.rest(), tau=tau, kappa0=kappa0, noise_seeds=seeds)
            found.append(self.full(state))
            tau = spacing_tau
        return torch.stack(found, dim=-1)

    def facts(self) -> dict[str, Tensor]:
        """What a program reports of a system: its spectrum, and what its parts have limits for."""
        smallest, largest = self.spectrum
        return {
            "largest_eigenvalue": largest,
            "smallest_eigenvalue": smallest,
            **conductance_facts(self.conductances()),
        }


def conductance_facts(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Largest conductances as facts of a computation: ``conductance_<stage>``, over all columns."""
    return {f"conductance_{stage}": value.amax() for stage, value in found.items()}


def full_scale(fixed: float | None, peak: Tensor) -> Tensor:
    """The fixed full scale, else the peak; 1 for a stage that stays at zero."""
    if fixed is not None:
        if not fixed > 0:
            raise ValueError(f"expected a full scale > 0, got {fixed!r}")
        return torch.full_like(peak, fixed)
    return torch.where(peak > 0, peak, 1.0)


def normal(seed: int, like: Tensor) -> Tensor:
    """Standard normal numbers in the shape, type and device of ``like``, from the seed alone."""
    if like.is_meta:
        return torch.empty_like(like)
    generator = torch.Generator(device=like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def settling_tau(bits: float, alpha_min: float) -> float:
    """Time in RC in which the slowest mode, of rate ``alpha_min``, decays to 2^-bits: bits ln
    2/alpha_min.

    Raises:
        ValueError: alpha_min is not positive.
    """
    if not alpha_min > 0:
        raise ValueError(f"expected a positive slowest rate, got {alpha_min!r}")
    return bits * math.log(2) / alpha_min


def check_interval(tau: float, kappa0: float) -> None:
    """Both are finite and not negative.

    Raises:
        ValueError: they are not.
    """
    if not 0 <= tau < math.inf:
        raise ValueError(f"expected a finite tau >= 0, got {tau!r}")
    if not 0 <= kappa0 < math.inf:
        raise ValueError(f"expected a finite kappa0 >= 0, got {kappa0!r}")
