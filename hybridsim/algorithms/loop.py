"""The training loop that all algorithms share: direction, update, evaluation, learning curve."""

from __future__ import annotations

from typing import Any

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.base import Algorithm, Process
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.schedule import clip
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation


def train(algorithm: Algorithm[Any]) -> Process[None]:  # Any: whatever its settings
    """``theta <- theta - update(direction)``, ``steps`` times, on every GPU of the group.

    Each GPU updates a copy of its own: priced on each, computed once.
    """
    session, group = algorithm.session, algorithm.group
    layout, rate = session.task.layout, algorithm.settings.learning_rate
    rule = optimizers.Rule(algorithm.update, rate, layout)
    start = optimizers.start(algorithm.update, session.theta.value, layout)
    kept_bytes = optimizers.state_bytes(start)
    _hold(algorithm, kept_bytes)
    state = group.everywhere(session.backend.root(start, "optimizer state"))
    yield from algorithm.prepare()
    for step in range(1, session.steps + 1):
        start_ps = session.now_ps()
        found = yield from algorithm.direction(step)
        waits, directions = algorithm.waits_for_answer, found.refs
        if algorithm.settings.clip_norm is not None:
            directions = yield from _clipped(algorithm, step, directions)
            waits = False  # clipping did
        factors = group.everywhere(session.number(session.factor(step)))
        args = list(zip(algorithm.theta, state, directions, factors, strict=True))
        label, update = Label("update", step), rule.at(step)
        _hold(algorithm, 0)  # the state is among the operands
        pairs = yield from group.replicate(label, update, args, synchronous=waits)
        _hold(algorithm, kept_bytes)
        algorithm.theta = [session.backend.pick(pair, 0) for pair in pairs]
        state = [session.backend.pick(pair, 1) for pair in pairs]
        columns = found.columns | (yield from algorithm.finish(step))
        session.end_step(step, start_ps, algorithm.theta[0], found.loss, columns)


def _hold(algorithm: Algorithm[Any], kept_bytes: int) -> None:
    """Every GPU holds what the algorithm does throughout, and so much of the optimizer's."""
    for gpu in algorithm.session.machine.gpus:
        gpu.resident_bytes = algorithm.resident_bytes(gpu) + kept_bytes


def _clipped(algorithm: Algorithm[Any], step: int, directions: Refs) -> Process[Refs]:
    """Directions no longer than ``clip_norm``."""
    label = Label("clip", step)
    computation = Computation(clip, norm=algorithm.settings.clip_norm)
    args = [(direction,) for direction in directions]
    waits = algorithm.waits_for_answer
    return (yield from algorithm.group.replicate(label, computation, args, synchronous=waits))
