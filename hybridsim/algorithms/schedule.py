"""How the learning rate changes over a run, and the clipping of what it multiplies."""

from __future__ import annotations

from math import cos, pi

import torch
from torch import Tensor

from hybridsim.outcome import Outcome
from hybridsim.scenario.settings.base import Schedule


def factor(schedule: Schedule | None, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at a step, counted from 1.

    With W steps of warm-up, horizon H and final share f: step/W up to step W; then, with p = (step
    - 1 - W)/(H - W), but 1 from the horizon on, 1 (constant), f + (1 - f)(1 + cos π p)/2 (cosine)
    or 1 - (1 - f) p (linear). As torch.optim.lr_scheduler.SequentialLR of LinearLR(1/W, 1, W - 1)
    and of CosineAnnealingLR or LinearLR over H - W steps.

    Args:
        schedule: the algorithm's; without one the factor is 1.
        step: counted from 1.
        steps: of the run, the horizon where the schedule names none.
    """
    if schedule is None:
        return 1.0
    warmup, horizon = schedule.warmup_steps, schedule.steps or steps
    if step <= warmup:
        return step / warmup
    if schedule.kind == "constant":
        return 1.0
    part = (step - 1 - warmup) / (horizon - warmup) if step <= horizon else 1.0
    left = (1 + cos(pi * part)) / 2 if schedule.kind == "cosine" else 1 - part
    return schedule.final + (1 - schedule.final) * left


def clip(direction: Tensor, *, norm: float) -> Outcome:
    """Direction d min(1, c/(|d| + 1e-6)), as torch.nn.utils.clip_grad_norm_ makes of gradients.

    Args:
        direction: (N,).
        norm: c, the largest Euclidean norm.

    Returns:
        Outcome((N,)).
    """
    scale = (norm / (torch.linalg.vector_norm(direction) + 1e-6)).clamp(max=1.0)
    return Outcome(direction * scale)
