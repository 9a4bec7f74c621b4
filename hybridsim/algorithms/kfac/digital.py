"""K-FAC's linear algebra on the GPUs: every GPU inverts the factors of the layers that belong to
it.
"""

from __future__ import annotations

import simpy

from hybridsim.algorithms.base import Columns, Process
from hybridsim.algorithms.kfac import algebra
from hybridsim.algorithms.kfac.blocks import Parts, Prepared
from hybridsim.algorithms.kfac.layers import Block
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.settings.kfac import Kfac as Settings


class Digital:
    """Inverses by cholesky and cholesky_inverse, or eigendecompositions for damping ``exact``."""

    plan: object = None

    def __init__(self, settings: Settings, owner: dict[str, Gpu]) -> None:
        rule = {"rule": settings.damping_rule, "damping": settings.damping}
        self.owner = owner
        self._invert = Computation(algebra.invert, **rule)
        self._precondition = Computation(algebra.precondition, **rule)

    def begin_step(self) -> None:
        """Nothing is kept from step to step."""

    def columns(self) -> Columns:
        """Nothing: inverses are exact to rounding."""
        return {}

    def prepare(self, step: int, block: Block, a: Ref, g: Ref, issuer: Issuer) -> Process[Prepared]:
        """Inverses of the damped factors."""
        label = Label("invert", step, block.name)
        inverses = yield from self.owner[block.name].execute(issuer, label, self._invert, (a, g))
        return Prepared(step, (inverses,))

    def apply(
        self, step: int, block: Block, prepared: Prepared, ready: simpy.Event, issuer: Issuer
    ) -> Process[Ref]:
        """U = G⁻¹ D A⁻¹ once the gradient is ``ready``."""
        parts: Parts = yield ready
        label, args = Label("precondition", step, block.name), (prepared.refs[0], parts.d)
        return (yield from self.owner[block.name].execute(issuer, label, self._precondition, args))
