"""Every optimizer by itself: gradient and update on one GPU, or on several with an all-reduce in
between.
"""

from __future__ import annotations

from collections.abc import Generator

import simpy

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.group import Group
from hybridsim.algorithms.natural_gradient.linearization import gradient
from hybridsim.algorithms.session import Session
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation

GRADIENT = Computation(gradient)


def run(session: Session) -> Generator[simpy.Event, object, None]:
    """``theta <- theta - update(gradient)``, ``steps`` times.

    Several GPUs train data-parallel: each takes the gradient of its share of the batch, a ring
    all-reduce takes the mean, and every one moves its own copy of the parameters.
    """
    group, layout = Group(session), session.task.layout
    update = optimizers.rule(session.algorithm, session.algorithm.learning_rate, layout)
    bits = layout.size * group.number_bits
    theta = group.everywhere(session.theta)
    start = optimizers.start(session.algorithm, session.theta.value, layout)
    state = group.everywhere(session.backend.root(start, "optimizer state"))
    task = group.everywhere(session.task_ref)
    for step in range(1, session.steps + 1):
        start_ps = int(session.machine.context.env.now)
        args = list(zip(task, theta, group.shards(step), strict=True))
        slopes = yield from group.each(Label("gradient", step), GRADIENT, args)
        loss = group.loss(slopes)
        session.check_loss(step, loss)
        slopes = yield from group.all_reduce(Label("all-reduce gradient", step), slopes, bits)
        pairs = yield from group.replicate(
            Label("update", step), update, list(zip(theta, state, slopes, strict=True))
        )
        theta, state = [pair.pick(0) for pair in pairs], [pair.pick(1) for pair in pairs]
        session.end_step(step, start_ps, theta[0], loss)
