"""Muon on hidden matrices, AdamW on everything else.

Muon: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), as in
torch.optim.Muon of torch 2.13; ``match_rms_adamw``: Liu et al., arXiv 2502.16982. AdamW:
Loshchilov & Hutter (2019), as torch.optim.AdamW.

Who takes what (``tasks.layout.Layout.kinds``): Muon takes the two-dimensional weights of linear
layers that are neither an embedding nor the head; the head is the linear layer whose weight comes
last in the network. AdamW takes the head, embeddings, convolutions, biases, norms and whatever else
there is; so it takes everything in a network without a hidden linear layer.

The Newton-Schulz iterations run in bf16 whatever the type of theta, as in torch: also in a float64
task the direction of a hidden matrix has no more than 8 significant bits. Momentum, weight decay
and the sum with theta have theta's type.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.optimizers._moments import adam_step, decoupled, moments
from hybridsim.outcome import Outcome
from hybridsim.tasks.layout import Layout

AdjustLr = Literal["original", "match_rms_adamw"]
Coefficients = tuple[float, float, float]


class State(NamedTuple):
    """Steps taken; Muon's momentum of each hidden matrix (m, n), in the layout's order; AdamW's
    first and second moment of all other parameters as one vector.
    """

    step: int
    momenta: tuple[Tensor, ...]
    first: Tensor
    second: Tensor


def start(theta: Tensor, *, layout: Layout) -> State:
    """Momentum and moments zero."""
    hidden, others = _divided(layout, theta)
    momenta = tuple(torch.zeros_like(matrix) for matrix in hidden.values())
    return State(0, momenta, torch.zeros_like(others), torch.zeros_like(others))


def update(
    theta: Tensor,
    state: State,
    direction: Tensor,
    *,
    layout: Layout,
    learning_rate: float,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
    epsilon: float = 1e-7,
    adjust_lr: AdjustLr = "original",
    beta1: float = 0.9,
    beta2: float = 0.999,
    adamw_epsilon: float = 1e-8,
    adamw_learning_rate: float | None = None,
) -> Outcome:
    """One step, for θ and d (N,).

    A hidden matrix Θ (m, n) with direction D: M ← μ M + (1 - μ) D, and Θ ← Θ (1 - η w) - η s O,
    where O is about the orthogonal polar factor of μ M + (1 - μ) D (of M without ``nesterov``; see
    :func:`orthogonalized`), and s = √max(1, m/n) (original) or 0.2 √max(m, n) (match_rms_adamw).
    All other parameters: θ ← θ (1 - η w) - η m̂/(√v̂ + ε), with AdamW's own η and ε.
    """
    step = state.step + 1
    hidden, others = _divided(layout, theta)
    slopes, other_slopes = _divided(layout, direction)
    momenta, moved = [], {}
    for (name, matrix), slope, old in zip(
        hidden.items(), slopes.values(), state.momenta, strict=True
    ):
        new = torch.lerp(old, slope, 1 - momentum)
        ahead = torch.lerp(slope, new, momentum) if nesterov else new
        factor = orthogonalized(ahead, ns_coefficients, ns_steps, epsilon)
        scaled = learning_rate * _scale(matrix.shape, adjust_lr)
        decayed = decoupled(matrix, learning_rate, weight_decay)
        moved[name] = decayed.add(factor, alpha=-scaled)
        momenta.append(new)
    rate = learning_rate if adamw_learning_rate is None else adamw_learning_rate
    first, second = moments(state.first, state.second, other_slopes, beta1, beta2)
    others = adam_step(
        decoupled(others, rate, weight_decay),
        first,
        second,
        step,
        learning_rate=rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=adamw_epsilon,
    )
    return Outcome((_joined(layout, moved, others), State(step, tuple(momenta), first, second)))


def orthogonalized(
    matrix: Tensor, coefficients: Coefficients, steps: int, epsilon: float
) -> Tensor:
    """A matrix near U Vᵀ of G = U S Vᵀ (m, n), in bf16: singular values of about 0.5 to 1.5.

    X ← G / max(|G|_F, ε), then ``steps`` times X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, the shorter side
    first: a tall matrix is transposed meanwhile.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    if tall:
        x = x.T
    x = x.div(x.norm().clamp(min=epsilon))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _scale(shape: torch.Size, adjust_lr: AdjustLr) -> float:
    """Factor s on the learning rate of a matrix (m, n)."""
    m, n = shape
    return sqrt(max(1, m / n)) if adjust_lr == "original" else 0.2 * sqrt(max(m, n))


def _divided(layout: Layout, vector: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The hidden matrices of a vector (N,) by name, and all the rest as one vector."""
    parts = layout.unflatten(vector)
    hidden = {n: parts[n] for n in _hidden(layout)}
    if not hidden:
        return hidden, vector
    others = [part.reshape(-1) for name, part in parts.items() if name not in hidden]
    return hidden, torch.cat(others) if others else vector.new_empty(0)


def _joined(layout: Layout, hidden: dict[str, Tensor], others: Tensor) -> Tensor:
    """The vector (N,) that ``_divided`` gives these parts of."""
    if not hidden:
        return others
    sizes = dict(zip(layout.names, layout.sizes, strict=True))
    names = [name for name in layout.names if name not in hidden]
    parts = torch.split(others, [sizes[name] for name in names])
    return layout.flatten(hidden | dict(zip(names, parts, strict=True)))


def _hidden(layout: Layout) -> list[str]:
    pairs = zip(layout.names, layout.kinds, strict=True)
    return [name for name, kind in pairs if kind == "hidden"]
