"""Several GPUs that train one model together: data parallelism, replicas, ring collectives.

Every GPU holds all parameters and takes an equal share of each batch. What a step does with numbers
of its own on every GPU runs with ``each``; what all compute alike (an update) with ``replicate``:
the time passes on every GPU, the numbers are computed once. A quantity that lives on the GPUs is a
list of references, one for each GPU in order; where it is the same everywhere the references differ
in their spans alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridsim.algorithms.session import Session
from hybridsim.hardware import collective
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations import reductions
from hybridsim.operations.ref import Carried, Computation, Ref, Token

Refs = list[Ref]
"""One reference for each GPU of a group, in its order."""
Replicas = collective.Steps[Refs]
MEAN = Computation(reductions.mean)


class Group:
    """The GPUs that take part in a run, and a thread of control for each.

    The methods that take time are SimPy generators (``refs = yield from group.each(...)``): the
    GPUs work side by side, and all go on when the last is done. With one GPU nothing is sent and
    nobody waits.

    Args:
        session: the run.
        gpus: who takes part; default: all GPUs of the machine that the first one reaches.
        issuers: their threads of control; default: new ones.
    """

    def __init__(
        self,
        session: Session[Any],  # Any: whatever the algorithm's settings
        gpus: Sequence[Gpu] | None = None,
        issuers: Sequence[Issuer] | None = None,
    ) -> None:
        self.session, self.machine = session, session.machine
        self.gpus = list(session.machine.gpus if gpus is None else gpus)
        self.issuers = [Issuer() for _ in self.gpus] if issuers is None else list(issuers)
        element = session.theta.value.element_size()
        self.number_bits = 8 * int(element)

    @property
    def size(self) -> int:
        """Number of GPUs."""
        return len(self.gpus)

    def fork(self) -> Group:
        """The same GPUs with threads that start where these stand, for work that goes on beside
        theirs.
        """
        return Group(self.session, self.gpus, [issuer.fork() for issuer in self.issuers])

    def everywhere(self, ref: Ref) -> Refs:
        """Something that every GPU has from the start."""
        return [ref] * self.size

    def shards(self, step: int) -> Refs:
        """Each GPU's share of the batch of a step, in the order of the batch.

        Raises:
            InputError: the batch cannot be divided equally.
        """
        return [self.session.batch(step, shard=(k, self.size)) for k in range(self.size)]

    def together(self, processes: Sequence[collective.Steps[Ref]]) -> Replicas:
        """Run one process for each GPU, given in order and on its issuer; all go on when the last
        is done.
        """
        return (
            yield from collective.side_by_side(self.machine.context.env, self.issuers, processes)
        )

    def each(
        self,
        label: Label,
        computation: Computation,
        args: Sequence[tuple[Ref, ...]],
        *,
        synchronous: bool = False,
    ) -> Replicas:
        """Run a computation on every GPU, on arguments of its own.

        Args:
            label: what the operation is called.
            computation: the same for all.
            args: one tuple of arguments for each GPU.
            synchronous: the host must wait for data from another part first.
        """
        pairs = zip(self.gpus, self.issuers, args, strict=True)
        running = [
            g.execute(i, label, computation, a, synchronous=synchronous) for g, i, a in pairs
        ]
        return (yield from self.together(running))

    def replicate(
        self,
        label: Label,
        computation: Computation,
        args: Sequence[tuple[Ref, ...]],
        *,
        synchronous: bool = False,
    ) -> Replicas:
        """Run a computation on every GPU, on equal arguments: priced on each, computed once.

        Args:
            label: what the operation is called.
            computation: the same for all.
            args: one tuple of arguments for each GPU; their keys are equal, their spans are each
                GPU's own.
            synchronous: the host must wait for data from another part first.
        """
        if self.size == 1:
            return (yield from self.each(label, computation, args, synchronous=synchronous))
        backend = self.session.backend
        known = backend.evaluate(computation, args[0], backend.work(computation, args[0])[1])
        trios = zip(self.gpus, self.issuers, args, strict=True)
        running = [
            g.execute(i, label, computation, a, synchronous=synchronous, known=known)
            for g, i, a in trios
        ]
        return (yield from self.together(running))

    def all_reduce(
        self, label: Label, payloads: Sequence[Ref], bits: int, combine: Computation = MEAN
    ) -> Replicas:
        """Combine what the GPUs have, so that each has the result; see
        ``hardware.collective.all_reduce``.

        Args:
            label: what the transfers are called.
            payloads: one pytree for each GPU.
            bits: size of one of them: numbers times ``number_bits``, where symmetric matrices of
                order n are sent as triangles of n (n + 1) / 2 numbers.
            combine: the result as a function of all payloads; default: their mean, leaf by leaf.
        """
        machine, gpus = self.machine, self.gpus
        return (
            yield from collective.all_reduce(
                machine, self.issuers, label, gpus, payloads, bits, combine, self.number_bits
            )
        )

    def all_gather(
        self, label: Label, payloads: Sequence[Carried], bits_each: Sequence[int]
    ) -> collective.Steps[list[Carried]]:
        """Bring what each GPU has to all others; afterwards every GPU has all of the references
        returned.

        Args:
            label: what the transfers are called.
            payloads: what each GPU has.
            bits_each: their sizes; of an empty one nothing is sent.
        """
        machine, gpus = self.machine, self.gpus
        return (
            yield from collective.all_gather(
                machine, self.issuers, label, gpus, payloads, bits_each
            )
        )

    def loss(self, results: Sequence[Ref]) -> Token:
        """The step's training loss, as the fact ``train_loss``: the mean of what the equal shards
        found.
        """
        found = [ref.facts["train_loss"] for ref in results if "train_loss" in ref.facts]
        return Token((), {"train_loss": sum(found) / self.size} if found else {})
