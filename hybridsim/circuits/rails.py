"""Amplifiers clip: columns that reach their full scale, followed in small steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ranges(NamedTuple):
    """Full scales of each column; None: what this settle itself asks for (an ideal range).

    ``x`` (k,) or 0-dim, ``b`` likewise.
    """

    x: Tensor | None = None
    b: Tensor | None = None


class Stage(NamedTuple):
    """Resistors and the amplifiers that drive them: sum_j w_j o_j², o = O x.

    Attributes:
        weights: w (m,), what the conductances that o_j drives add up to.
        outputs: O (m, n); None: x itself.
        ratio: full scale of o over that of x.
    """

    weights: Tensor
    outputs: Tensor | None = None
    ratio: float = 1.0


def held_at_rails(
    state: Tensor | None,
    kept: Tensor,
    pushed: Tensor,
    *,
    x_fs: Tensor,
    step_tau: float,
    number: int,
    stages: dict[str, Stage],
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """X ← clip(E x + ψ b): exact linear steps, each followed by the rails of the integrators.

    An amplifier at its rail stays there while current drives it on, and leaves it at once where the
    current turns (its capacitor is clamped, not charged further). Order 1 in the step.

    Args:
        state: (n, k); None: at rest.
        kept: E of one step (n, n).
        pushed: ψ b of one step (n, k).
        x_fs: rails (k,).
        step_tau: length of a step, RC.
        number: of steps.
        stages: whose integrals are taken, by the trapezoidal rule.

    Returns:
        Where the columns end (n, k), and by stage ∫ Σ w o² dτ and ∫ Σ w |o| dτ, (k,) each.
    """
    x = torch.zeros_like(pushed) if state is None else state.clamp(-x_fs, x_fs)
    parts = {name: (torch.zeros_like(x[0]), torch.zeros_like(x[0])) for name in stages}
    for step in range(number + 1):
        share = step_tau * (0.5 if step in (0, number) else 1.0)
        for name, stage in stages.items():
            o = x if stage.outputs is None else stage.outputs @ x
            parts[name][0].add_(stage.weights @ o.square(), alpha=share)
            parts[name][1].add_(stage.weights @ o.abs(), alpha=share)
        if step < number:
            x = (kept @ x + pushed).clamp(-x_fs, x_fs)
    return x, parts
