"""The training loop that all algorithms share: direction, update, evaluation, learning curve."""

from __future__ import annotations

from typing import Any

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.base import Algorithm, Process
from hybridsim.hardware.lane import Label


def train(algorithm: Algorithm[Any]) -> Process[None]:  # Any: whatever its settings
    """``theta <- theta - update(direction)``, ``steps`` times, on every GPU of the group.

    Each GPU updates a copy of its own: priced on each, computed once.
    """
    session, group = algorithm.session, algorithm.group
    for gpu in session.machine.gpus:
        gpu.resident_bytes = algorithm.resident_bytes(gpu)
    layout, rate = session.task.layout, algorithm.settings.learning_rate
    rule = optimizers.Rule(algorithm.update, rate, layout)
    start = optimizers.start(algorithm.update, session.theta.value, layout)
    state = group.everywhere(session.backend.root(start, "optimizer state"))
    yield from algorithm.prepare()
    for step in range(1, session.steps + 1):
        start_ps = session.now_ps()
        found = yield from algorithm.direction(step)
        args = list(zip(algorithm.theta, state, found.refs, strict=True))
        waits = algorithm.waits_for_analog
        label, update = Label("update", step), rule.at(step)
        pairs = yield from group.replicate(label, update, args, synchronous=waits)
        algorithm.theta = [session.backend.pick(pair, 0) for pair in pairs]
        state = [session.backend.pick(pair, 1) for pair in pairs]
        columns = found.columns | (yield from algorithm.finish(step))
        session.end_step(step, start_ps, algorithm.theta[0], found.loss, columns)
