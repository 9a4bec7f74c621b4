"""Conjugate gradients on (A + λI) x = g, one iteration a computation (Hestenes & Stiefel 1952).

A is known by its products alone. The loop, which branches on the facts of each iteration, is the
program's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Curvature
from hybridsim.algorithms.natural_gradient.products import curvature_product, residual
from hybridsim.outcome import Outcome
from hybridsim.tasks.task import Batch, Task


class State(NamedTuple):
    """An iterate x (N,), its residual r = g - (A + λI) x (N,), the next search direction p (N,);
    rᵀr and gᵀg.
    """

    solution: Tensor
    residual: Tensor
    direction: Tensor
    squared: Tensor
    scale: Tensor


def start(gradient: Tensor) -> Outcome:
    """From x = 0: the residual is the gradient."""
    squared = gradient @ gradient
    state = State(torch.zeros_like(gradient), gradient, gradient, squared, squared)
    return Outcome(state, {"residual": _relative(squared, squared)})


def resume(
    task: Task,
    theta: Tensor,
    batch: Batch,
    damping: Tensor,
    gradient: Tensor,
    solution: Tensor,
    *,
    curvature: Curvature,
) -> Outcome:
    """From an x at hand (warm start), for one product more."""
    left = residual(task, theta, batch, damping, gradient, solution, curvature=curvature)
    squared, scale = left @ left, gradient @ gradient
    state = State(solution, left, left, squared, scale)
    return Outcome(state, {"residual": _relative(squared, scale)})


def iterate(
    task: Task, theta: Tensor, batch: Batch, damping: Tensor, state: State, *, curvature: Curvature
) -> Outcome:
    """α = rᵀr/pᵀ(A + λI)p; x ← x + α p; r ← r - α (A + λI)p; p ← r + (rᵀr/previous rᵀr) p.

    Returns:
        Outcome(State, {"residual", "curvature"}): ‖r‖/‖g‖ as the recurrence has it, and
        pᵀ(A + λI)p/pᵀp, which is positive unless rounding or the system has spoilt it.
    """
    x, r, p, squared, scale = state
    product = curvature_product(task, theta, batch, p, curvature=curvature) + damping * p
    bent = p @ product
    step = squared / bent
    x, r = x + step * p, r - step * product
    following = r @ r
    facts = {"residual": _relative(following, scale), "curvature": bent / (p @ p)}
    return Outcome(State(x, r, r + (following / squared) * p, following, scale), facts)


def _relative(squared: Tensor, scale: Tensor) -> Tensor:
    """‖r‖/‖g‖; no residual is none of a zero gradient, too."""
    return torch.where(squared == 0, 0.0, squared / scale).sqrt()
