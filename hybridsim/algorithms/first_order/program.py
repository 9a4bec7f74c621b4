"""First-order training: the gradient, on one GPU or on several with an all-reduce in between."""

from __future__ import annotations

from hybridsim.algorithms.base import Algorithm, Direction, Process
from hybridsim.algorithms.first_order.gradient import gradient, training_gradient
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.session import Session
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.rng import Draw
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.tasks.task import Task

GRADIENT = Computation(gradient)
TRAINING_GRADIENT = Computation(training_gradient)


class FirstOrder(Algorithm[OptimizerSettings]):
    """The gradient of the mean loss.

    Several GPUs train data-parallel: each takes the gradient of its share of the batch, a ring
    all-reduce takes the mean. BatchNorm does as in PyTorch's DistributedDataParallel: each GPU
    normalises by its own share's statistics and keeps running ones of its own, of which evaluation
    takes the first GPU's.
    """

    def __init__(self, session: Session[OptimizerSettings]) -> None:
        super().__init__(session)
        self.buffers = self.group.everywhere(session.buffers)

    @property
    def update(self) -> OptimizerSettings:
        """The algorithm is the optimizer."""
        return self.settings

    @classmethod
    def assumptions(cls, settings: OptimizerSettings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of running statistics on several GPUs."""
        found = super().assumptions(settings, spec, task)
        if len(spec.usable_gpus()) > 1 and task.initial_buffers():
            found.append(
                "Each GPU normalises by the statistics of its own share of the batch and keeps its "
                "own running ones, as PyTorch's DistributedDataParallel does with "
                "broadcast_buffers=False; evaluation takes the first GPU's."
            )
        return found

    def direction(self, step: int) -> Process[Direction]:
        """The gradient."""
        group, session = self.group, self.session
        slopes, loss = yield from self._slopes(step)
        session.check_loss(step, loss)
        bits = session.task.layout.size * group.number_bits
        slopes = yield from group.all_reduce(Label("all-reduce gradient", step), slopes, bits)
        return Direction(slopes, loss, {})

    def _slopes(self, step: int) -> Process[tuple[Refs, Token]]:
        """Each GPU's gradient of its share of the batch, and the loss."""
        group, session, pick = self.group, self.session, self.session.backend.pick
        task, label = group.everywhere(session.task_ref), Label("gradient", step)
        args = zip(task, self.theta, group.shards(step), strict=True)
        if session.task.training is None:
            found = yield from group.each(label, GRADIENT, list(args))
            return found, group.loss(found)
        draws = [self._draw(step, k) for k in range(group.size)]
        more = [(*a, b, d) for a, b, d in zip(args, self.buffers, draws, strict=True)]
        found = yield from group.each(label, TRAINING_GRADIENT, more)
        self.buffers = [pick(ref, 1) for ref in found]
        session.buffers = self.buffers[0]
        return [pick(ref, 0) for ref in found], group.loss(found)

    def _draw(self, step: int, shard: int) -> Ref:
        """Where dropout's masks come from: by seed and step, whichever GPU draws them."""
        session, size = self.session, self.session.batch_size
        draw = Draw(session.noise_seed("dropout", step), shard * size // self.group.size, size)
        return session.backend.root(draw, "draw", *draw)
