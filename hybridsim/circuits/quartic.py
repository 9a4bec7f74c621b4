"""A non-linear element on every node of a circuit, by operator splitting around the exact linear
step.

dx = -∇U dτ + sqrt(2 kappa0) dW with U = ½ xᵀA x - bᵀx + Σ u(x_j); its density tends to
exp(-U/kappa0) (TKFAC, arXiv 2502.08603, appendix A). The element is u = ¼ q x⁴: a current q x³,
whose own flow is known in closed form. One step of length h is half a step of the element, the
exact Ornstein-Uhlenbeck transition of A, and half a step of the element again (Strang); two halves
that meet are one. The error is O(h²), of the path without noise and of expectations with it;
however long the steps nothing runs away, and at q = 0 nothing is split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hybridsim.circuits.base import (
    AUTOMATIC,
    Dissipation,
    FullScales,
    State,
    System,
    check_interval,
)
from hybridsim.circuits.quadrature import panel_edges
from hybridsim.rng import address_seed

TOLERANCE = 0.01
"""Of the splitting's error over the state's norm; steps are cut until its estimate is below."""
GROWTH = 1.6
"""Of the parts of a way, from one to the next."""
MOST_CUTS = 32
"""Steps to a panel of the mesh, at most; the error that is left then stays in the facts."""


@dataclass(frozen=True)
class Quartic:
    """u(x) = ¼ q x⁴.

    Attributes:
        strength: q >= 0, dimensionless.
    """

    strength: float

    def flow(self, x: Tensor, tau: float) -> Tensor:
        """Where dx/dτ = -q x³ leads in ``tau`` RC: x/sqrt(1 + 2 q x² tau)."""
        return x / (1 + 2 * self.strength * tau * x.square()).sqrt()


def split(
    system: System[State],
    element: Quartic,
    state: State,
    drive: State,
    *,
    lengths: Sequence[float],
    kappa0: float = 0.0,
    noise_seeds: Sequence[int] | None = None,
) -> State:
    """Move a state by steps of ``lengths`` RC with an element on every node.

    Cost: a linear step and a reading of the nodes for each length.

    Args:
        system: the linear part.
        element: on every node.
        state: x at the start.
        drive: b, constant.
        lengths: h of each step, in RC.
        kappa0: noise strength, dimensionless.
        noise_seeds: one for each column; None only without noise.
    """
    for number, (before, length) in enumerate(pairwise((0.0, *lengths))):
        state = _bent(system, element, state, (before + length) / 2)
        seeds = _seeds(noise_seeds, kappa0, "split", number)
        state = system.relax(state, drive, tau=length, kappa0=kappa0, noise_seeds=seeds)
    return _bent(system, element, state, lengths[-1] / 2)


def _bent(system: System[State], element: Quartic, state: State, tau: float) -> State:
    """A step of the elements alone."""
    nodes = system.full(state).double()
    return system.displaced(state, element.flow(nodes, tau) - nodes)


def _seeds(
    seeds: Sequence[int] | None, kappa0: float, purpose: str, number: int
) -> list[int] | None:
    """Of one part of a way, for each column."""
    if not kappa0 or seeds is None:
        return None
    return [address_seed(seed, purpose, number) for seed in seeds]


def mesh(tau: float, rate: float, cuts: int) -> list[float]:
    """Lengths of steps over ``tau`` > 0 RC: panels that shrink by up to a factor 4 to 1/rate, each
    cut into ``cuts`` steps.

    Behind a step of length h the elements leave a mode of rate s off by s h/2 of its value; the
    shorter steps that follow let fast modes relax again.
    """
    edges = panel_edges(tau, rate)
    panels = [(end - start) / cuts for start, end in pairwise(edges)]
    return [length for length in reversed(panels) for _ in range(cuts)]


def settle(
    system: System[State],
    element: Quartic,
    state: State,
    drive: State,
    *,
    tau: float,
    kappa0: float,
    noise_seeds: Sequence[int] | None,
) -> tuple[State, Dissipation, dict[str, Tensor]]:
    """Move a state by ``tau`` RC, in steps that are fine enough.

    The way is divided at 1/rate, of the fastest mode or element at the start, growing by up to a
    factor 1.6; each part gets a ``mesh``, whose end is accurate however long its middle. Cuts are
    doubled, without noise, until the error that two meshes tell of the finer one, ‖x - x'‖/3 over
    ‖x‖, is at most ``TOLERANCE``; the finer is taken.

    Returns:
        The state; what was dissipated, the elements included (stage ``on_site``); facts:
        ``splitting_error``, the estimate, and ``splitting_steps``, the number of linear steps.

    Raises:
        ValueError: tau or kappa0 is negative or not finite.
    """
    check_interval(tau, kappa0)
    if tau == 0:
        heat, none = system.dissipation(state, drive, tau=tau, kappa0=kappa0), torch.zeros(())
        return state, heat, {"splitting_error": none, "splitting_steps": none}
    fastest = 3 * element.strength * float(system.full(state).abs().amax()) ** 2
    rate = max(float(system.spectrum[1]), fastest)
    parts = [end - start for start, end in pairwise(panel_edges(tau, rate, GROWTH))]

    def way(cuts: int, kappa0: float) -> list[State]:
        found = [state]
        for number, part in enumerate(parts):
            moved = split(
                system,
                element,
                found[-1],
                drive,
                lengths=mesh(part, rate, cuts),
                kappa0=kappa0,
                noise_seeds=_seeds(noise_seeds, kappa0, "part", number),
            )
            found.append(moved)
        return found

    cuts, states = 1, way(1, 0.0)
    while True:
        coarse, cuts = system.full(states[-1]).double(), 2 * cuts
        states = way(cuts, 0.0)
        fine = system.full(states[-1]).double()
        error = (fine - coarse).norm() / 3 / fine.norm().clamp(min=torch.finfo(fine.dtype).tiny)
        if not error > TOLERANCE or cuts >= MOST_CUTS:
            break
    if kappa0 > 0:
        states = way(cuts, kappa0)
    steps = float(sum(len(mesh(part, rate, cuts)) for part in parts))
    facts = {"splitting_error": error, "splitting_steps": error.new_tensor(steps)}
    return states[-1], _dissipated(system, element, states, drive, parts, kappa0), facts


def _dissipated(
    system: System[State],
    element: Quartic,
    states: Sequence[State],
    drive: State,
    parts: Sequence[float],
    kappa0: float,
) -> Dissipation:
    """By parts of the way: the linear circuit's under the drive less what the elements draw on
    average of a part's ends; the elements' own as if they changed exponentially. Right at rest
    however long a part is; off by up to a fifth, rarely a half, where elements draw most of it.

    With noise the elements hold no fluctuation back: too much where q kappa0 is not small against
    the square of the smallest rate.
    """
    q, nodes = element.strength, [system.full(state).double() for state in states]
    drawn = [q * (start**3 + end**3) / 2 for start, end in pairwise(nodes)]

    def linear(full_scales: FullScales) -> list[Dissipation]:
        return [
            system.dissipation(
                start,
                system.displaced(drive, -current),
                tau=part,
                kappa0=kappa0,
                full_scales=full_scales,
            )
            for start, current, part in zip(states, drawn, parts, strict=False)
        ]

    def driven(tau: float, full_scales: FullScales) -> Dissipation:
        rest = system.rest()
        return system.dissipation(rest, drive, tau=tau, kappa0=0.0, full_scales=full_scales)

    peaks = _largest([heat.full_scales for heat in linear(AUTOMATIC)])
    converted = driven(0.0, AUTOMATIC)
    largest_drive = converted.saturation["b"] * converted.full_scales["b"]
    peaks["b"] = torch.maximum(largest_drive, peaks["x"])
    fixed = FullScales(**{name: float(peak.amax()) for name, peak in peaks.items()})
    found, alone = linear(fixed), driven(sum(parts), fixed)
    stages = {
        name: torch.stack([heat.stages[name] for heat in found]).sum(dim=0)
        for name in found[0].stages
    }
    stages["input"] = alone.stages["input"]
    powers = [q * x.square().square().sum(dim=0) for x in nodes]
    heats = [part * _mean(*ends) for part, ends in zip(parts, pairwise(powers), strict=True)]
    square = alone.full_scales["x"] ** 2
    stages["on_site"] = torch.stack(heats).sum(dim=0) / square
    saturation = _largest([heat.saturation for heat in found]) | {"b": alone.saturation["b"]}
    conductances = {**alone.conductances, "on_site": q * square}
    return Dissipation(stages, alone.full_scales, saturation, conductances)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    """Over time, of what goes from a to b >= 0 exponentially: (b - a)/ln(b/a)."""
    exponent = (b / a).log()
    moved = exponent.isfinite() & (exponent.abs() > 1e-6)
    return torch.where(moved, (b - a) / torch.where(moved, exponent, 1.0), (a + b) / 2)


def _largest(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of several maps, name by name."""
    return {name: torch.stack([one[name] for one in found]).amax(dim=0) for name in found[0]}
