"""First-order training: the gradient, on one GPU or on several with an all-reduce in between."""

from __future__ import annotations

from hybridsim.algorithms.base import Algorithm, Direction, Process
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation
from hybridsim.scenario.settings.base import OptimizerSettings

GRADIENT = Computation(gradient)


class FirstOrder(Algorithm[OptimizerSettings]):
    """The gradient of the mean loss.

    Several GPUs train data-parallel: each takes the gradient of its share of the batch, a ring
    all-reduce takes the mean.
    """

    @property
    def update(self) -> OptimizerSettings:
        """The algorithm is the optimizer."""
        return self.settings

    def direction(self, step: int) -> Process[Direction]:
        """The gradient."""
        group, session = self.group, self.session
        task = group.everywhere(session.task_ref)
        args = list(zip(task, self.theta, group.shards(step), strict=True))
        slopes = yield from group.each(Label("gradient", step), GRADIENT, args)
        loss = group.loss(slopes)
        session.check_loss(step, loss)
        bits = session.task.layout.size * group.number_bits
        slopes = yield from group.all_reduce(Label("all-reduce gradient", step), slopes, bits)
        return Direction(slopes, loss, {})
