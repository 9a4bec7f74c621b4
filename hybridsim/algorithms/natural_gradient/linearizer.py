"""What a program linearizes with, by the curvature that it is asked for."""

from __future__ import annotations

from typing import Any, Literal

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.natural_gradient.sampled_fisher import sampled_fisher
from hybridsim.algorithms.session import Session
from hybridsim.operations.ref import Computation, Ref


class Linearizer:
    """What a program linearizes with: the computation and its arguments.

    Args:
        session: the run.
        curvature: as of ``linearize``, or ``sampled_fisher``.
        samples: labels drawn for each loss term.
    """

    def __init__(
        self,
        session: Session[Any],  # Any: whatever the algorithm's settings
        curvature: Literal["ggn", "empirical_fisher", "sampled_fisher"],
        samples: int,
    ) -> None:
        self._session, self._draws = session, curvature == "sampled_fisher"
        if curvature == "sampled_fisher":
            self.computation = Computation(sampled_fisher, samples=samples)
        else:
            self.computation = Computation(linearize, curvature=curvature)

    def operands(self, step: int, theta: Ref, shard: tuple[int, int] = (0, 1)) -> tuple[Ref, ...]:
        """Task, parameters, batch or share k of G of it, and what labels are drawn with."""
        session = self._session
        found = (session.task_ref, theta, session.batch(step, shard))
        if not self._draws:
            return found
        return (*found, session.draw(session.noise_seed("labels", step), shard))
