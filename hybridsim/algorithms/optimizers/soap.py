"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv 2409.11321).

Algorithm 3 of the paper where it leaves things open as the authors' code has them, and
pytorch_optimizer.SOAP: the first step moves nothing, since the bases would be those of the very
gradient that they turn; epsilon is added to the root of the uncorrected second moment; weights
decay after the step. Both codes take the QR factor in float32 whatever the type of theta; here it
has theta's type. What they offer beyond the paper (merged dimensions, normalized steps) is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import decoupled
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout

Sides = tuple[Tensor | None, ...]
"""A matrix (n, n) for each dimension n of a parameter; None where it is not preconditioned."""


class SoapState(NamedTuple):
    """Steps that moved theta; first moment (N,), of the direction itself; second moment (N,), in
    the eigenbases; statistics and eigenbases of each parameter, in the layout's order.
    """

    moves: int
    first: Tensor
    second: Tensor
    statistics: tuple[Sides, ...]
    bases: tuple[Sides, ...]


def start(
    theta: Tensor,
    *,
    layout: Layout,
    max_dimension: int = 10_000,
    precondition_vectors: bool = False,
) -> SoapState:
    """Moments and statistics zero; no basis is used before the first step finds it."""

    def empty(shape: tuple[int, ...]) -> Sides:
        turned = len(shape) > 1 or precondition_vectors
        return tuple(
            theta.new_zeros(n, n) if turned and n <= max_dimension else None for n in shape
        )

    zero = torch.zeros_like(theta)
    statistics, bases = (tuple(empty(shape) for shape in layout.shapes) for _ in range(2))
    return SoapState(0, zero, torch.zeros_like(theta), statistics, bases)


def update(
    theta: Tensor,
    state: SoapState,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    beta1: float = 0.95,
    beta2: float = 0.95,
    shampoo_beta: float | None = None,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    basis_every: int = 10,
    max_dimension: int = 10_000,
    precondition_vectors: bool = False,
    bases: Literal["found", "turned", "kept"] = "kept",
) -> Outcome:
    """One step, for θ and d (N,).

    For a matrix with direction D (m, n), at the t-th step after the first:
    M ← β₁ M + (1 - β₁) D and V ← β₂ V + (1 - β₂) (Q_Lᵀ D Q_R)²;
    Θ ← [Θ - η √(1 - β₂ᵗ)/(1 - β₁ᵗ) Q_L ((Q_Lᵀ M Q_R)/(√V + ε)) Q_Rᵀ] (1 - η w);
    L ← β L + (1 - β) D Dᵀ, R ← β R + (1 - β) Dᵀ D, β = ``shampoo_beta``. A tensor has a basis and
    statistics for each of its dimensions; with none it takes Adam's step. The eigenbases Q are

    - found: the eigenvectors of L and R, at the first step, which does nothing else;
    - turned: one power iteration, Q ← qr(L Q), columns and V in descending order of diag(Qᵀ L Q);
    - kept.
    """
    beta = beta2 if shampoo_beta is None else shampoo_beta
    slopes = layout.unflatten(direction)
    statistics = tuple(
        _averaged(slope, sides, beta)
        for slope, sides in zip(slopes.values(), state.statistics, strict=True)
    )
    if bases == "found":
        found = tuple(tuple(_eigenbasis(s) for s in sides) for sides in statistics)
        return Outcome((theta, state._replace(statistics=statistics, bases=found)))
    moves = state.moves + 1
    first = torch.lerp(state.first, direction, 1 - beta1)
    turned = _turned(layout, direction, state.bases)
    second = torch.lerp(state.second, turned.square(), 1 - beta2)
    ratio = _turned(layout, first, state.bases) / second.sqrt().add_(epsilon)
    step = _turned(layout, ratio, state.bases, back=True)
    correction = (1 - beta2**moves) ** 0.5 / (1 - beta1**moves)
    moved = theta.add(step, alpha=-learning_rate * correction)
    theta = decoupled(moved, learning_rate, weight_decay)
    sides = state.bases
    if bases == "turned":
        second, sides = _renewed(layout, second, statistics, sides)
    return Outcome((theta, SoapState(moves, first, second, statistics, sides)))


def _averaged(slope: Tensor, sides: Sides, beta: float) -> Sides:
    """Statistics with a direction in them: of each dimension, its product with itself over all
    others.
    """
    found: list[Tensor | None] = []
    for dimension, side in enumerate(sides):
        others = [k for k in range(slope.ndim) if k != dimension]
        found.append(
            None
            if side is None
            else torch.lerp(side, torch.tensordot(slope, slope, dims=(others, others)), 1 - beta)
        )
    return tuple(found)


def _turned(
    layout: Layout, vector: Tensor, bases: Sequence[Sides], *, back: bool = False
) -> Tensor:
    """A vector (N,) with each parameter in its eigenbases, or back from them."""
    if not any(_any(sides) for sides in bases):
        return vector
    parts = layout.unflatten(vector)
    return layout.flatten(
        {
            name: _turned_part(part, sides, back) if _any(sides) else part
            for (name, part), sides in zip(parts.items(), bases, strict=True)
        }
    )


def _turned_part(part: Tensor, bases: Sides, back: bool) -> Tensor:
    """Each dimension in turn comes first and goes last, so that they end in their old order."""
    for basis in bases:
        if basis is None:
            part = part.movedim(0, -1)
        else:
            part = torch.tensordot(part, basis, dims=([0], [1 if back else 0]))
    return part


def _any(sides: Sides) -> bool:
    return any(side is not None for side in sides)


def _eigenbasis(statistics: Tensor | None) -> Tensor | None:
    """Eigenvectors as columns, in descending order of the eigenvalues."""
    return None if statistics is None else torch.linalg.eigh(statistics)[1].flip(1)


def _renewed(
    layout: Layout, second: Tensor, statistics: Sequence[Sides], bases: Sequence[Sides]
) -> tuple[Tensor, tuple[Sides, ...]]:
    """Bases after one power iteration, and the second moment (N,) in the order of their columns."""
    parts, found = layout.unflatten(second), []
    for name, known, old in zip(layout.names, statistics, bases, strict=True):
        new: list[Tensor | None] = []
        for dimension, (side, basis) in enumerate(zip(known, old, strict=True)):
            if side is None or basis is None:
                new.append(None)
                continue
            product = side @ basis
            order = torch.argsort((basis * product).sum(dim=0), descending=True)
            parts[name] = parts[name].index_select(dimension, order)
            new.append(torch.linalg.qr(product.index_select(1, order))[0])
        found.append(tuple(new))
    return layout.flatten(parts), tuple(found)
