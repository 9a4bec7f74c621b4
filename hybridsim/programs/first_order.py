"""SGD, Nesterov, Adam, NAdamW: gradient and update on the GPU, nothing else."""

from __future__ import annotations

from collections.abc import Generator

import simpy

from hybridsim.hardware.lane import Issuer, Label
from hybridsim.learning import optimizers
from hybridsim.learning.curvature import gradient
from hybridsim.operations.ref import Computation
from hybridsim.programs.session import Session

GRADIENT = Computation(gradient)
_SETTINGS = {
    "sgd": ("learning_rate",),
    "nesterov": ("learning_rate", "momentum"),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon"),
    "nadamw": ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay"),
}


def run(session: Session) -> Generator[simpy.Event, object, None]:
    """``theta <- theta - update(gradient)``, ``steps`` times."""
    algorithm, gpu, issuer = session.algorithm, session.machine.gpu, Issuer()
    update = update_rule(algorithm.kind, algorithm)
    theta = session.theta
    state = session.backend.root(optimizers.initial_state(algorithm.kind, theta.value), "optimizer state")
    for step in range(1, session.steps + 1):
        start_ps = int(session.machine.context.env.now)
        args = (session.task_ref, theta, session.batch(step))
        slope = yield from gpu.execute(issuer, Label("gradient", step), GRADIENT, args)
        session.check_loss(step, slope)
        pair = yield from gpu.execute(issuer, Label("update", step), update, (theta, state, slope))
        theta, state = pair.pick(0), pair.pick(1)
        session.end_step(step, start_ps, theta, slope)


def update_rule(kind: str, settings: object) -> Computation:
    """The optimizer ``kind`` as a computation ``(theta, state, direction) -> (theta, state)``."""
    return Computation(getattr(optimizers, kind), **{name: getattr(settings, name) for name in _SETTINGS[kind]})
