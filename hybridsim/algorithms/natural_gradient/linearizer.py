"""What a program linearizes with, by the curvature that it is asked for."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from torch import nn

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.group import Group, Refs
from hybridsim.algorithms.natural_gradient.linearization import GRADIENT, joined, linearize
from hybridsim.algorithms.natural_gradient.matrix_free import Form, linearize_free, sample_free
from hybridsim.algorithms.natural_gradient.sampled_fisher import sampled_fisher
from hybridsim.algorithms.session import Session
from hybridsim.errors import InputError, Problem
from hybridsim.hardware.lane import Label
from hybridsim.operations.ref import Computation, Ref, Token

JOIN = Computation(joined)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)  # torch does not differentiate them example by example


class Linearized(NamedTuple):
    """The linearization of each GPU's share of a batch, that of all of it, and the loss."""

    shares: Refs
    whole: Ref
    loss: Token


class Linearizer:
    """What a program linearizes with: the computation and its arguments.

    Args:
        session: the run.
        curvature: as of ``linearize``, or ``sampled_fisher``.
        samples: labels drawn for each loss term.
        form: how the Jacobian is held; explicit is no setting.

    Raises:
        InputError: the network has a recurrent layer of torch's.
    """

    def __init__(
        self,
        session: Session[Any],  # Any: whatever the algorithm's settings
        curvature: Literal["ggn", "empirical_fisher", "sampled_fisher"],
        samples: int,
        form: Literal["explicit"] | Form = "explicit",
    ) -> None:
        _refuse_recurrent(session)
        self._session, self._draws = session, curvature == "sampled_fisher"
        drawn = {"samples": samples} if self._draws else {"curvature": curvature}
        self.computation = (
            Computation(sampled_fisher if self._draws else linearize, **drawn)
            if form == "explicit"
            else Computation(sample_free if self._draws else linearize_free, form=form, **drawn)
        )

    def operands(self, step: int, theta: Ref, shard: tuple[int, int] = (0, 1)) -> tuple[Ref, ...]:
        """Task, parameters, batch or share k of G of it, and what labels are drawn with."""
        session = self._session
        found = (session.task_ref, theta, session.batch(step, shard))
        if not self._draws:
            return found
        return (*found, session.draw(session.noise_seed("labels", step), shard))

    def linearize(self, step: int, group: Group, theta: Refs) -> Process[Linearized]:
        """Each GPU its share of the batch; their gradients are averaged.

        Raises:
            Diverged: the training loss is no number.
        """
        backend, computation = self._session.backend, self.computation
        args = [self.operands(step, own, (k, group.size)) for k, own in enumerate(theta)]
        shares = yield from group.each(Label("linearize", step), computation, args)
        loss = group.loss(shares)
        self._session.check_loss(step, loss)
        if group.size == 1:
            return Linearized(shares, shares[0], loss)
        gradients = [backend.pick(share, GRADIENT) for share in shares]
        bits = self._session.task.layout.size * group.number_bits
        gradients = yield from group.all_reduce(Label("all-reduce gradient", step), gradients, bits)
        parts = (gradients[0], *shares)
        whole = backend.evaluate(JOIN, parts, backend.work(JOIN, parts)[1], exact=True)
        return Linearized(shares, whole, loss)


def _refuse_recurrent(session: Session[Any]) -> None:
    """An error if the network has a recurrent layer, frozen or not."""
    for name, module in session.task.network.named_modules():
        if isinstance(module, _RECURRENT):
            expected = (
                "a recurrence written with nn.Linear layers, called at every time step; or an "
                "optimizer by itself (adam, muon, ...)"
            )
            where = f"{session.settings.kind.upper()}, {name or 'the network'}"
            got = type(module).__name__
            raise InputError([Problem(session.task.name, None, where, expected, got)])
