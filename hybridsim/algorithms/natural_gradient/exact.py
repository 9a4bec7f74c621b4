"""Exact digital solves, for diagnostics that tell how far an analog answer is from the system it
was asked to solve.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import (
    Jacobian,
    Linearization,
    range_coordinates,
)
from hybridsim.circuits.rows import Rows
from hybridsim.outcome import Outcome

_BLOCK = 1 << 18  # elements of J raised to float64 at once
_NEWTON_STEPS, _NEWTON_TOLERANCE = 60, 1e-10


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


def quartic_step(lin: Linearization, *, damping: float, strength: float) -> Tensor:
    """Minimise ½ xᵀ(J̃ᵀJ̃ + λI)x - gᵀx + ¼ q Σ x_j⁴ by Newton's method, (N,) float64.

    Each iteration solves (J̃ᵀJ̃ + D) δ = -∇ with D = λ + 3 q x² by Woodbury's identity, 2 N r² + r³,
    from the natural gradient. The function is convex: full steps converge from there.
    """
    root, beta = range_coordinates(lin)
    scale = lin.size**-0.5

    def tall(weights: Tensor) -> Tensor:
        return _transposed_times(lin.jacobian, scale * _unrooted(root, weights))

    def wide(vector: Tensor) -> Tensor:
        found: Tensor = scale * _rooted(root, _times(lin.jacobian, vector)[:, None])[:, 0]
        return found

    x = natural_gradient(lin, damping=damping)
    gradient = lin.gradient.double() if lin.drawn else tall(beta)
    for _ in range(_NEWTON_STEPS):
        slope = tall(wide(x)) + damping * x + strength * x**3 - gradient
        inverse = 1 / (damping + 3 * strength * x.square())
        gram = _rooted(root, _rooted(root, _gram(lin.jacobian, inverse)).T) * scale**2
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weights, info = torch.linalg.solve_ex(gram + identity, wide(inverse * slope))
        weights = torch.where(info == 0, weights, torch.nan)
        change = inverse * (slope - tall(weights))
        x = x - change
        if not change.norm() > _NEWTON_TOLERANCE * x.norm():
            break
    return x


def quartic_fidelity(
    lin: Linearization, answer: Tensor, *, damping: float, strength: float
) -> Outcome:
    """``fidelity`` for a quartic term: against :func:`quartic_step`."""
    return _compared(answer, quartic_step(lin, damping=damping, strength=strength))


def fidelity(lin: Linearization, answer: Tensor, *, damping: float) -> Outcome:
    """How well an answer (N,) solves the system of a linearization.

    Returns:
        Outcome(None, {"solver_cosine", "solver_relative_error"}): the cosine with the exact
        solution x, and ‖answer - x‖/‖x‖.
    """
    return _compared(answer, natural_gradient(lin, damping=damping))


def _compared(answer: Tensor, exact: Tensor) -> Outcome:
    given = answer.double()
    cosine = given @ exact / (given.norm() * exact.norm())
    return Outcome(
        None,
        {"solver_cosine": cosine, "solver_relative_error": (given - exact).norm() / exact.norm()},
    )


def _blocks(jacobian: Jacobian) -> Iterator[tuple[slice, Tensor]]:
    """Columns, and J of them in float64."""
    if isinstance(jacobian, Rows):
        yield from jacobian.column_blocks()
        return
    width = max(64, _BLOCK // max(len(jacobian), 1))
    for start in range(0, jacobian.shape[1], width):
        part = slice(start, min(start + width, jacobian.shape[1]))
        yield part, jacobian[:, part].double()


def _gram(jacobian: Jacobian, weights: Tensor | None = None) -> Tensor:
    """J diag(weights) Jᵀ; J Jᵀ without."""
    if isinstance(jacobian, Rows) and weights is None:
        return jacobian.gram()
    shape = (len(jacobian), len(jacobian))
    total = torch.zeros(shape, dtype=torch.float64, device=jacobian.device)
    for part, block in _blocks(jacobian):
        total.addmm_(block if weights is None else block * weights[part], block.T)
    return total


def _times(jacobian: Jacobian, vector: Tensor) -> Tensor:
    if isinstance(jacobian, Rows):
        return jacobian.times(vector[:, None])[:, 0]
    total = vector.new_zeros(len(jacobian))
    for part, block in _blocks(jacobian):
        total.addmv_(block, vector[part])
    return total


def _transposed_times(jacobian: Jacobian, weights: Tensor) -> Tensor:
    if isinstance(jacobian, Rows):
        return jacobian.transposed_times(weights, weights.new_zeros(jacobian.shape[1]))
    return torch.cat([block.T @ weights for _, block in _blocks(jacobian)])


def _rooted(root: Tensor | None, rows: Tensor) -> Tensor:
    """blockdiag(rootᵀ) Y."""
    if root is None:
        return rows
    return (root.mT @ rows.reshape(*root.shape[:2], -1)).reshape(rows.shape)


def _unrooted(root: Tensor | None, weights: Tensor) -> Tensor:
    """blockdiag(root) w."""
    return weights if root is None else (root @ weights.reshape(*root.shape[:2], 1)).reshape(-1)
