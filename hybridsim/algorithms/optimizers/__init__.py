"""First-order optimizers as pure functions of flat vectors; equal step for step to torch.optim or
pytorch_optimizer.

A module ``<kind>.py`` of this package, found by its name, has

- ``State``, a NamedTuple: an immutable pytree, whose Python numbers (the step count and what
  follows from it) live on the host as in torch.optim, its tensors on the GPU. It has a name of its
  own where it could be taken for another optimizer's: counts are kept by name and shapes;
- ``start(theta, *, layout, ...) -> State``, the state before the first step for theta (N,);
  further keyword arguments are those of its settings that the state's shapes depend on;
- ``update(theta, state, direction, *, layout, learning_rate, ...) -> Outcome((theta, state))``,
  whose further keyword arguments are the fields of its settings,
  ``hybridsim/scenario/settings/<kind>.py``, and what these say of a step (``phase``).
  ``direction`` (N,) stands for the gradient: the gradient itself, or what another algorithm made
  of it.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, Protocol, cast

from torch import Tensor
from torch.utils._pytree import tree_leaves

from hybridsim.operations.ref import Computation
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings import OPTIMIZERS, OptimizerSettings
from hybridsim.scenario.settings.base import TRAINING
from hybridsim.tasks.layout import Layout

State = tuple[Any, ...]  # Any: each module's own
"""Numbers and tensors that only the optimizer's own module reads."""


class Optimizer(Protocol):
    """What a module of this package offers."""

    def start(
        self,
        theta: Tensor,
        *,
        layout: Layout,
        **settings: Any,  # Any: each optimizer names its own
    ) -> State:
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


class Rule:
    """The steps of an optimizer as computations ``(theta, state, direction, factor) -> (theta,
    state)``; the factor multiplies its learning rates (``update``).

    Args:
        settings: of the optimizer, by itself or under ``update:``.
        learning_rate: eta.
        layout: of theta.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, settings: OptimizerSettings, learning_rate: float, layout: Layout) -> None:
        self._settings = settings
        own = {"kind": settings.kind, "layout": layout, "learning_rate": learning_rate}
        self._keywords = _fields(settings) | own
        self._made: dict[tuple[tuple[str, bool | str], ...], Computation] = {}

    def at(self, step: int) -> Computation:
        """The step of this number, counted from 1: one computation for each phase."""
        phase = self._settings.phase(step)
        known = tuple(sorted(phase.items()))
        if known not in self._made:
            self._made[known] = Computation(update, **self._keywords, **phase)
        return self._made[known]


def update(
    theta: Tensor,
    state: State,
    direction: Tensor,
    factor: float,
    *,
    kind: str,
    **settings: Any,  # Any: each optimizer names its own
) -> Outcome:
    """A step of an optimizer with all its learning rates times a factor, as torch's schedulers do.

    The factor is an argument, since it is a number that changes from step to step and no work.

    Raises:
        ValueError: unknown kind.
    """
    for name, value in settings.items():
        if name.endswith("learning_rate") and value is not None:
            settings[name] = factor * value
    return optimizer(kind).update(theta, state, direction, **settings)


def start(settings: OptimizerSettings, theta: Tensor, layout: Layout) -> State:
    """The optimizer's state before the first step, for theta (N,).

    Raises:
        ValueError: unknown kind.
    """
    found = optimizer(settings.kind).start
    asked = inspect.signature(found).parameters.keys()
    shaping = {name: value for name, value in _fields(settings).items() if name in asked}
    return found(theta, layout=layout, **shaping)


def state_bytes(state: State) -> int:
    """Memory that a state takes; its shapes are the same before every step."""
    return sum(leaf.nbytes for leaf in tree_leaves(state) if isinstance(leaf, Tensor))


def _fields(settings: OptimizerSettings) -> dict[str, Any]:  # Any: as the fields are typed
    names = type(settings).model_fields.keys() - {"kind", *TRAINING}
    return {name: getattr(settings, name) for name in names}
