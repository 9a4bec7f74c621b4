"""Exact digital solves, for diagnostics that tell how far an analog answer is from the system it
was asked to solve.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Linearization, range_coordinates
from hybridsim.outcome import Outcome

_BLOCK = 1 << 18  # elements of J raised to float64 at once


def natural_gradient(lin: Linearization, *, damping: float) -> Tensor:
    """Solve (J̃ᵀJ̃ + λI) x = g exactly: x = J̃ᵀ (J̃J̃ᵀ + λI)⁻¹ β, (N,) float64, with g = J̃ᵀβ; with
    drawn labels x = (g - J̃ᵀ (J̃J̃ᵀ + λI)⁻¹ J̃ g)/λ (Woodbury).

    Cost: 2 N r² + r³; the ideal loss Hessian, nothing rounded.
    """
    root, beta = range_coordinates(lin)
    size = lin.size
    gram = _gram(lin.jacobian)
    kernel = _rooted(root, _rooted(root, gram).T) / size
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    if lin.drawn:
        beta = _times(lin.jacobian, lin.gradient.double()) / size**0.5
    # A diagnostic must not end a run: a singular or non-finite kernel gives NaN.
    weights, info = torch.linalg.solve_ex(kernel + damping * identity, beta)
    weights = torch.where(info == 0, weights, torch.nan)
    found = _transposed_times(lin.jacobian, _unrooted(root, weights) / size**0.5)
    return (lin.gradient.double() - found) / damping if lin.drawn else found


def fidelity(lin: Linearization, answer: Tensor, *, damping: float) -> Outcome:
    """How well an answer (N,) solves the system of a linearization.

    Returns:
        Outcome(None, {"solver_cosine", "solver_relative_error"}): the cosine with the exact
        solution x, and ‖answer - x‖/‖x‖.
    """
    exact = natural_gradient(lin, damping=damping)
    given = answer.double()
    cosine = given @ exact / (given.norm() * exact.norm())
    return Outcome(
        None,
        {"solver_cosine": cosine, "solver_relative_error": (given - exact).norm() / exact.norm()},
    )


def _blocks(jacobian: Tensor) -> list[slice]:
    width = max(64, _BLOCK // max(len(jacobian), 1))
    return [slice(start, start + width) for start in range(0, jacobian.shape[1], width)]


def _gram(jacobian: Tensor) -> Tensor:
    total = jacobian.new_zeros((len(jacobian), len(jacobian)), dtype=torch.float64)
    for part in _blocks(jacobian):
        block = jacobian[:, part].double()
        total.addmm_(block, block.T)
    return total


def _times(jacobian: Tensor, vector: Tensor) -> Tensor:
    total = vector.new_zeros(len(jacobian))
    for part in _blocks(jacobian):
        total.addmv_(jacobian[:, part].double(), vector[part])
    return total


def _transposed_times(jacobian: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([jacobian[:, part].double().T @ weights for part in _blocks(jacobian)])


def _rooted(root: Tensor | None, rows: Tensor) -> Tensor:
    """blockdiag(rootᵀ) Y."""
    if root is None:
        return rows
    return (root.mT @ rows.reshape(*root.shape[:2], -1)).reshape(rows.shape)


def _unrooted(root: Tensor | None, weights: Tensor) -> Tensor:
    """blockdiag(root) w."""
    return weights if root is None else (root @ weights.reshape(*root.shape[:2], 1)).reshape(-1)
