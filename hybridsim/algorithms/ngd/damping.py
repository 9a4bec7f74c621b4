"""Levenberg-Marquardt: damping that follows how well the quadratic model foretold the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Curvature
from hybridsim.algorithms.natural_gradient.products import along_step, losses
from hybridsim.outcome import Outcome
from hybridsim.tasks.task import Batch, Task

_GOOD, _POOR = 0.75, 0.25


def adapt(
    task: Task,
    before: Tensor,
    after: Tensor,
    batch: Batch,
    damping: Tensor,
    *,
    curvature: Curvature,
    factor: float,
) -> Outcome:
    """λ after a step δ = after - before (Martens & Grosse 2015, section 6.5; Moré 1978).

    With h the batch's mean loss and M(δ) = h(before) + gᵀδ + δᵀ(A + λI)δ/2, the ratio is ρ =
    (h(after) - h(before))/(M(δ) - M(0)). λ ← λ·factor where ρ > 3/4, λ/factor where ρ < 1/4 or is
    no number, or where M foretold no reduction (a step that an optimizer bent). One forward-mode
    pass and one forward pass.

    Args:
        task: the task.
        before: theta (N,) at which the step was found.
        after: theta (N,) that the optimizer made of it.
        batch: the step's.
        damping: λ.
        curvature: what A is.
        factor: below 1.

    Returns:
        Outcome(λ, {"damping", "reduction_ratio"}).
    """
    x, y = batch
    step = after - before
    loss, slope, bent = along_step(task, before, batch, step, curvature=curvature)
    predicted = slope + (bent + damping * (step @ step)) / 2
    reached = losses(task, task.apply(task.layout.unflatten(after), x), y).mean()
    ratio = (reached - loss) / predicted
    trusted = predicted < 0
    good, fair = trusted & (ratio > _GOOD), trusted & (ratio >= _POOR)
    damping = torch.where(good, damping * factor, torch.where(fair, damping, damping / factor))
    return Outcome(damping, {"damping": damping, "reduction_ratio": ratio})
