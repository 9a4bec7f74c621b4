"""Shampoo (Gupta, Koren & Singer, ICML 2018, arXiv 1802.09568).

Algorithm 2 of the paper, with its diagonal variant for large dimensions, and with what made it
practical in Anil et al. (arXiv 2002.09018): roots kept for some steps, decaying statistics, the
length of another optimizer's step (grafting), and momentum of the preconditioned direction. The
paper's own is ``grafting: none``. With few examples behind them roots are large, ε^(-1/2k), along
what they have not seen: where they are kept for some steps only grafting bounds these.

Epsilon is added where the root is taken, (L + ε I)^(-1/2k), and L starts at zero: for sums that is
the paper's start at ε I, and decaying statistics do not forget it (as in PyTorch's distributed
Shampoo, Shi et al., arXiv 2309.06497). pytorch_optimizer.Shampoo differs from the paper where roots
are kept, moving nothing until the first are due, and where there is momentum, for which it takes
the preconditioned direction of the step before for a gradient.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import decoupled, denominator
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout

Grafting = Literal["none", "sgd", "adagrad", "adam"]
Sides = tuple[Tensor, ...]
"""For each dimension n of a parameter a matrix (n, n), or a diagonal (n,) where n is large."""


class ShampooState(NamedTuple):
    """Steps taken; momentum (N,); second moment of what is grafted, (N,) or (0,); statistics and
    their inverse roots of each parameter, in the layout's order.
    """

    step: int
    momentum: Tensor
    second: Tensor
    statistics: tuple[Sides, ...]
    roots: tuple[Sides, ...]


def start(
    theta: Tensor, *, layout: Layout, max_dimension: int = 1200, grafting: Grafting = "adam"
) -> ShampooState:
    """All zero; no root is used before the first step takes it."""

    def empty(shape: tuple[int, ...]) -> Sides:
        return tuple(
            theta.new_zeros(n, n) if n <= max_dimension else theta.new_zeros(n)
            for n in shape or (1,)
        )

    statistics, roots = (tuple(empty(shape) for shape in layout.shapes) for _ in range(2))
    moment = torch.zeros_like(theta) if grafting in ("adagrad", "adam") else theta.new_empty(0)
    return ShampooState(0, torch.zeros_like(theta), moment, statistics, roots)


def update(
    theta: Tensor,
    state: ShampooState,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    momentum: float = 0.9,
    beta2: float = 1.0,
    epsilon: float = 1e-6,
    root_every: int = 20,
    max_dimension: int = 1200,
    grafting: Grafting = "adam",
    grafting_beta2: float = 0.999,
    grafting_epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    renew: bool = True,
) -> Outcome:
    """One step, for θ and d (N,).

    For a parameter of k dimensions with direction D, and each dimension i of n_i:
    L_i ← β₂ L_i + (1 - β₂) D_(i) D_(i)ᵀ with D_(i) (n_i, all others), their sum for β₂ = 1; only
    the diagonal where n_i > ``max_dimension``. P = D ×_1 X_1 ... ×_k X_k with the inverse roots
    X_i = (L_i + ε I)^(-1/2k), newest where ``renew``. Grafted: P ← P |A|/|P| with the step A of
    SGD, D; of AdaGrad, D/(√v + ε'), v ← v + D²; or of Adam without momentum, D/(√v̂ + ε').
    Then M ← μ M + P and Θ ← Θ (1 - η w) - η M.
    """
    step = state.step + 1
    slopes = {name: _with_sides(part) for name, part in layout.unflatten(direction).items()}
    statistics = tuple(
        _added(slope, sides, beta2)
        for slope, sides in zip(slopes.values(), state.statistics, strict=True)
    )
    roots = state.roots
    if renew:
        roots = tuple(
            tuple(_inverse_root(side, 2 * len(sides), epsilon) for side in sides)
            for sides in statistics
        )
    found = {
        name: _preconditioned(slope, sides)
        for (name, slope), sides in zip(slopes.items(), roots, strict=True)
    }
    second = state.second
    if grafting != "none":
        second, lengths = _grafted(
            second, direction, grafting, step, grafting_beta2, grafting_epsilon
        )
        found = {
            name: found[name] * (part.norm() / found[name].norm().clamp(min=_TINY))
            for name, part in layout.unflatten(lengths).items()
        }
    velocity = layout.flatten(found)
    if momentum:
        velocity = velocity.add_(state.momentum, alpha=momentum)
    moved = decoupled(theta, learning_rate, weight_decay).sub(velocity, alpha=learning_rate)
    return Outcome((moved, ShampooState(step, velocity, second, statistics, roots)))


_TINY = 1e-30  # a parameter without a direction has none to give a length to


def _with_sides(part: Tensor) -> Tensor:
    """A scalar is a vector of one."""
    return part if part.ndim else part.reshape(1)


def _added(slope: Tensor, sides: Sides, beta2: float) -> Sides:
    """Statistics with a direction in them."""
    found = []
    for dimension, side in enumerate(sides):
        rows = slope.movedim(dimension, 0).reshape(len(side), -1)
        new = rows @ rows.T if side.ndim == 2 else rows.square().sum(dim=1)
        found.append(side + new if beta2 == 1 else torch.lerp(side, new, 1 - beta2))
    return tuple(found)


def _inverse_root(side: Tensor, order: int, epsilon: float) -> Tensor:
    """(L + ε I)^(-1/order), or of a diagonal; eigenvalues below zero are rounding."""
    if side.ndim == 1:
        return side.add(epsilon).pow(-1 / order)
    values, vectors = torch.linalg.eigh(side)
    powers = values.clamp(min=0).add(epsilon).pow(-1 / order)
    root: Tensor = (vectors * powers) @ vectors.T
    return root


def _preconditioned(slope: Tensor, roots: Sides) -> Tensor:
    """Each dimension in turn comes first and goes last, so that they end in their old order."""
    for root in roots:
        if root.ndim == 2:
            slope = torch.tensordot(slope, root, dims=([0], [0]))
        else:
            slope = slope.movedim(0, -1) * root
    return slope


def _grafted(
    second: Tensor, direction: Tensor, grafting: Grafting, step: int, beta2: float, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Second moment and step (N,) of the optimizer whose lengths are taken."""
    if grafting == "sgd":
        return second, direction
    if grafting == "adagrad":
        second = torch.addcmul(second, direction, direction)
        return second, direction / second.sqrt().add_(epsilon)
    second = torch.addcmul(second * beta2, direction, direction, value=1 - beta2)
    return second, direction / denominator(second, 1 - beta2**step, epsilon)
