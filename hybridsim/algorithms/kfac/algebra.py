"""What K-FAC does with its Kronecker factors: average, damp, invert, precondition, join, clip, cut
into tiles.

A block's curvature is G ⊗ A (weights row-major), its damped inverse maps the gradient D (m, n) to
U = (G + λ_g I)⁻¹ D (A + λ_a I)⁻¹ (Martens & Grosse, ICML 2015; TKFAC eq. 24). A vector A (n,) is
diagonal.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hybridsim.algorithms.kfac.inverses import spd_inverse
from hybridsim.algorithms.kfac.layers import Sharing, layers, parameters_of
from hybridsim.outcome import Outcome
from hybridsim.tasks.task import Task

FactoredRule = Literal["plain", "pi"]
Rule = Literal["plain", "pi", "exact"]


def average(old_a: Tensor, old_g: Tensor, new_a: Tensor, new_g: Tensor, *, decay: float) -> Outcome:
    """Moving averages (A, G): ``decay`` · old + (1 - decay) · new. The weight is the old
    factor's.
    """
    return Outcome((torch.lerp(new_a, old_a, decay), torch.lerp(new_g, old_g, decay)))


def damping_terms(
    a: Tensor,
    g: Tensor,
    *,
    damping: float,
    rule: FactoredRule,
    form: Literal["factors", "roots"] = "factors",
) -> Outcome:
    """What is added to the diagonals of A and G, each 0-dim.

    ``plain``: λ, λ (TKFAC eq. 24). ``pi``: π√λ, √λ/π with π² = (tr A/dim A)/(tr G/dim G) (Martens &
    Grosse, ICML 2015, §6.3); π = 1 where a trace is not positive, or one is rounding beside the
    other (a dead layer: less than ε² of it, ε the precision of their type, as squares of rounded
    sums are).

    Args:
        a: (n, n), its diagonal (n,), or the root X (rows, n).
        g: (m, m), or the root Y (rows, m).
        damping: λ.
        rule: how λ is shared.
        form: ``roots`` says that matrices are roots of A = XᵀX and G = YᵀY.

    Raises:
        ValueError: unknown rule.
    """
    if rule == "plain":
        return Outcome((a.new_full((), damping), g.new_full((), damping)))
    if rule != "pi":
        raise ValueError(f"expected plain or pi, got {rule!r}")
    mean_a, mean_g = (_mean_eigenvalue(factor, form) for factor in (a, g))
    negligible = torch.finfo(mean_a.dtype).eps ** 2
    alive = torch.minimum(mean_a, mean_g) > negligible * torch.maximum(mean_a, mean_g).clamp(min=0)
    pi = torch.where(alive, mean_a / torch.where(alive, mean_g, 1.0), 1.0).sqrt()
    return Outcome((pi * damping**0.5, damping**0.5 / pi))


def damp(a: Tensor, g: Tensor, *, damping: float, rule: FactoredRule) -> Outcome:
    """What is inverted elsewhere: (A + λ_a I, G + λ_g I), (n, n) and (m, m); of a diagonal A (n,)
    the inverse itself, its reciprocals.

    Raises:
        ValueError: as ``damping_terms``.
    """
    shift_a, shift_g = damping_terms(a, g, damping=damping, rule=rule).value
    damped_a = reciprocal(a, shift_a).value if a.ndim == 1 else _plus(a, shift_a)
    return Outcome((damped_a, _plus(g, shift_g)))


def invert(a: Tensor, g: Tensor, *, damping: float, rule: Rule) -> Outcome:
    """What ``precondition`` needs of A (n, n) or (n,) and G (m, m).

    ``plain``, ``pi``: the inverses of the damped factors, by Cholesky; of a diagonal A the
    reciprocals. ``exact``: eigenvalues and eigenvectors, negative rounding taken as zero; of a
    diagonal A itself.

    Returns:
        Outcome((A⁻¹, G⁻¹)), or Outcome(((values,) or (values, vectors) of A, (values, vectors) of
        G)).

    Raises:
        InputError: a damped factor is not positive definite to working precision.
        ValueError: unknown rule.
    """
    if rule == "exact":
        return Outcome((_eigen(a), _eigen(g)))
    shifts = damping_terms(a, g, damping=damping, rule=rule).value
    return Outcome(
        tuple(_inverse(m, shift, damping) for m, shift in zip((a, g), shifts, strict=True))
    )


def precondition(inverses: tuple[Tensor, ...], d: Tensor, *, rule: Rule, damping: float) -> Outcome:
    """U (m, n) from ``invert``'s value and the gradient D (m, n).

    ``plain``, ``pi``: G⁻¹ D A⁻¹. ``exact``: Q_G [(Q_Gᵀ D Q_A)/(e_G e_Aᵀ + λ)] Q_Aᵀ, which solves (G
    ⊗ A + λI) u = d.
    """
    a, g = inverses
    if rule != "exact":
        return apply_inverses(a, g, d)
    (values_a, *vectors_a), (values_g, vectors_g) = a, g
    inner = vectors_g.T @ d
    for vectors in vectors_a:
        inner = inner @ vectors
    inner = vectors_g @ (inner / (values_g[:, None] * values_a + damping))
    for vectors in vectors_a:
        inner = inner @ vectors.T
    return Outcome(inner)


def divide(columns: Tensor, a: Tensor, shift: Tensor) -> Outcome:
    """Solutions (n, k) of (diag(a) + shift I) x = column, for columns (n, k) and a diagonal
    (n,).
    """
    return Outcome(columns / (a + shift)[:, None])


def transpose(*pieces: Tensor) -> Outcome:
    """Columns (n, k_i) that were solved in several places, joined to (n, k) and turned to (k, n),
    contiguous.
    """
    return Outcome(torch.cat(pieces, dim=1).T.contiguous())


def join(
    task: Task,
    gradient: Tensor,
    learning_rate: float,
    *parts: Tensor,
    sharing: Sharing,
    kl_clip: float | None,
) -> Outcome:
    """The flat direction (N,): the blocks' matrices U (m, n), elsewhere the raw gradient.

    With ``kl_clip`` κ the blocks' part is multiplied by ν = min(1, √(κ/(η² |Σ <U, D>|))), so that
    the quadratic model of the KL divergence of a step η U is at most κ (Ba, Grosse & Martens, ICLR
    2017, §5).

    Args:
        task: the task.
        gradient: (N,), of the mean loss; D are its parts.
        learning_rate: η, of this step.
        parts: U of each block, in the order of ``blocks``.
        sharing: as for the factors.
        kl_clip: κ, or None for no clipping.

    Returns:
        Outcome((N,)), with the fact "kl_scale" ν where it is clipped.
    """
    found, remaining = layers(task, sharing), iter(parts)
    named: dict[str, Tensor] = {}
    for layer in found:
        named |= parameters_of(layer, tuple(next(remaining) for _ in layer.blocks))
    raw = task.layout.unflatten(gradient)
    if kl_clip is None:
        return Outcome(task.layout.flatten(raw | named))
    sizes = [part.numel() for part in named.values()]
    direction = torch.cat([part.reshape(-1) for part in named.values()])
    slope = torch.cat([raw[name].reshape(-1) for name in named])
    scale = (kl_clip / (learning_rate**2 * (direction @ slope).abs())).sqrt().clamp(max=1.0)
    scaled = dict(zip(named, (direction * scale).split(sizes), strict=True))
    return Outcome(task.layout.flatten(raw | scaled), {"kl_scale": scale})


def join_columns(*pieces: Tensor) -> Outcome:
    """Columns (n, k_i) that were solved in several places, side by side (n, k)."""
    return Outcome(torch.cat(pieces, dim=1))


def reciprocal(a: Tensor, shift: Tensor) -> Outcome:
    """The inverse of a damped diagonal factor, (n,): 1/(a + shift)."""
    return Outcome((a + shift).reciprocal())


def apply_inverses(a: Tensor, g: Tensor, gradient: Tensor) -> Outcome:
    """U = G⁻¹ D A⁻¹ (m, n) from inverses at hand; a diagonal A⁻¹ is a vector (n,)."""
    solved = g @ gradient
    return Outcome(solved * a if a.ndim == 1 else solved @ a)


def covariance(*samples: Tensor, kappa0: float) -> Outcome:
    """A⁻¹ (n, n) as Σ x xᵀ/(S kappa0) over samples x ~ N(0, kappa0 A⁻¹); their mean is known to be
    zero.

    Args:
        samples: (n, S_i), as they came from one device or several; S = Σ S_i.
        kappa0: noise strength > 0, dimensionless.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("expected samples, got none")
    first, *others = (part @ part.T for part in samples)
    count = sum(part.shape[1] for part in samples)
    return Outcome(sum(others, first) / (count * kappa0))


# Tiles: a damped factor P = [[P11, P12], [P21, P22]] that is too large for an SPU is solved by
# block elimination,
#
#     Y = P11⁻¹ [P12, B1],   S = P22 - P21 Y_P,   X2 = S⁻¹ (B2 - P21 Y_B),   X1 = Y_B - Y_P X2,
#
# with the two inverses on SPUs. The damping is a resistor of its own in each of them, so P stands
# here without it.


def first_tile(factor: Tensor, columns: Tensor, *, size: int) -> Outcome:
    """P11 (t, t) and the columns [P12, B1] (t, n - t + k) that are solved against it."""
    return Outcome(
        (
            factor[:size, :size].contiguous(),
            torch.cat([factor[:size, size:], columns[:size]], dim=1),
        )
    )


def following_tiles(factor: Tensor, columns: Tensor, solved: Tensor, *, size: int) -> Outcome:
    """The Schur complement S (n - t, n - t), symmetrised, and its right-hand sides (n - t, k)."""
    rest = len(factor) - size
    below = factor[size:, :size]
    schur = factor[size:, size:] - below @ solved[:, :rest]
    return Outcome(((schur + schur.T) / 2, columns[size:] - below @ solved[:, rest:]))


def join_tiles(solved: Tensor, following: Tensor) -> Outcome:
    """X (n, k) from Y (t, n - t + k) and X2 (n - t, k)."""
    rest = len(following)
    return Outcome(torch.cat([solved[:, rest:] - solved[:, :rest] @ following, following]))


def _mean_eigenvalue(factor: Tensor, form: str) -> Tensor:
    if factor.ndim == 1:
        return factor.mean()
    return factor.square().sum() / factor.shape[1] if form == "roots" else factor.diagonal().mean()


def _inverse(factor: Tensor, shift: Tensor, damping: float) -> Tensor:
    if factor.ndim == 1:
        inverse: Tensor = reciprocal(factor, shift).value
        return inverse
    return spd_inverse(_plus(factor, shift), damping)


def _plus(factor: Tensor, shift: Tensor) -> Tensor:
    damped = factor.clone()
    damped.diagonal().add_(shift)
    return damped


def _eigen(factor: Tensor) -> tuple[Tensor, ...]:
    if factor.ndim == 1:
        return (factor,)
    values, vectors = torch.linalg.eigh(factor)
    return values.clamp(min=0), vectors
