"""First-order optimizers as pure functions of flat vectors; equal to torch.optim step for step.

A module ``<kind>.py`` of this package, found by its name, has

- ``State``, a NamedTuple: an immutable pytree, whose Python numbers (the step count and what
  follows from it) live on the host as in torch.optim, its tensors on the GPU;
- ``start(theta, *, layout) -> State``, the state before the first step for theta (N,);
- ``update(theta, state, direction, *, layout, learning_rate, ...) -> Outcome((theta, state))``,
  whose further keyword arguments are the fields of its settings,
  ``hybridsim/scenario/settings/<kind>.py``. ``direction`` (N,) stands for the gradient: the
  gradient itself, or what another algorithm made of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, cast

from torch import Tensor

from hybridsim.operations.ref import Computation
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings import OPTIMIZERS, OptimizerSettings
from hybridsim.tasks.layout import Layout

State = tuple[Any, ...]  # Any: each module's own
"""Numbers and tensors that only the optimizer's own module reads."""


class Optimizer(Protocol):
    """What a module of this package offers."""

    def start(self, theta: Tensor, *, layout: Layout) -> State:
        """The state before the first step."""

    def update(
        self,
        theta: Tensor,
        state: State,
        direction: Tensor,
        *,
        layout: Layout,
        learning_rate: float,
        **settings: Any,  # Any: each optimizer names its own
    ) -> Outcome:
        """Parameters and state after a step."""


def optimizer(kind: str) -> Optimizer:
    """The module of an optimizer.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(f"expected one of {', '.join(OPTIMIZERS)}, got {kind!r}")
    return cast(Optimizer, import_module(f"{__name__}.{kind}"))


def rule(settings: OptimizerSettings, learning_rate: float, layout: Layout) -> Computation:
    """A step as a computation ``(theta, state, direction) -> (theta, state)``.

    Args:
        settings: of the optimizer, by itself or under ``update:``.
        learning_rate: eta.
        layout: of theta.

    Raises:
        ValueError: unknown kind.
    """
    fields = type(settings).model_fields.keys() - {"kind", "learning_rate"}
    own = {name: getattr(settings, name) for name in fields}
    update = optimizer(settings.kind).update
    return Computation(update, layout=layout, learning_rate=learning_rate, **own)


def start(settings: OptimizerSettings, theta: Tensor, layout: Layout) -> State:
    """The optimizer's state before the first step, for theta (N,).

    Raises:
        ValueError: unknown kind.
    """
    return optimizer(settings.kind).start(theta, layout=layout)
