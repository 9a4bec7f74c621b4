"""What crosses between the GPUs and the SPUs of TNGD: rows of J and H up, the answer down.

Every GPU has the rows of its share of the batch, every SPU the columns of its share of the
parameters: each pair exchanges one block of J, over the route between them. H goes to the first
SPU, or to all that have an H array. The gradient, which the GPUs average, and the answer go between
an SPU and the GPU that it belongs to; the GPUs then pass the answer round. With one of each this is
one upload and one download.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.group import Group, Refs
from hybridsim.algorithms.natural_gradient.linearization import Linearization
from hybridsim.algorithms.session import Session
from hybridsim.circuits import low_rank_parts
from hybridsim.circuits.load import Array, Load, rectangle
from hybridsim.hardware.collective import Steps, side_by_side
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.link import Message
from hybridsim.hardware.spu import Spu
from hybridsim.hardware.spu_group import Loads, SpuGroup
from hybridsim.operations.ref import Ref, Token
from hybridsim.scenario.settings.tngd import Tngd as Settings

Sending = list[tuple[Array, int]]
"""Arrays, with the bits of their numbers."""


SPLIT_ASSUMPTION = (
    "SPUs that hold one system together relax as one large one: the lines between neighbours are "
    "ideal within their bandwidth, and the imperfections are those of one device, drawn as the "
    "first SPU's over all cells, with one gain for each stage. What the resistors take is "
    "attributed to the SPUs by their number."
)


class Packed(NamedTuple):
    """What is sent: each GPU's share, all of it as one, what it takes on each SPU."""

    shares: Refs
    whole: Ref
    loads: Loads


class Posed(NamedTuple):
    """What is written and converted, and not yet in force."""

    system: Ref
    drive: Ref
    loads: Loads


class Transport:
    """``group`` and ``spus``: who sends what to whom."""

    def __init__(self, session: Session[Settings], group: Group, spus: SpuGroup) -> None:
        self.session, self.settings, self.machine = session, session.settings, session.machine
        self.group, self.spus = group, spus
        self._env = session.machine.context.env
        self._owners = [self.machine.owner_of(spu) for spu in spus.spus]

    def loads(self, share: Linearization, shares: int) -> Loads:
        """What the circuit takes on each SPU, from the shapes of one of several equal shares."""
        hessian, (rows, size) = share.hessian, share.jacobian.shape
        return low_rank_parts.loads(
            size,
            rows * shares,
            outputs=0 if hessian is None else hessian.shape[-1],
            parts=len(self.spus.spus),
            full_hessian=self.settings.hessian_upload == "full",
            copies=1 if self.settings.jacobian_upload == "once" else 2,
            own_hessian=self.settings.spus == "iterated",
            on_site=self.settings.strength > 0,
        )

    def packed_bytes(self, gpu: Gpu, loads: Loads) -> int:
        """Memory of what a GPU sends of a system."""
        sending = self._sent_by(gpu, loads)
        return -(-sum(min(a.sent, a.entries) * bits for a, bits in sending) // 8)

    def pack(self, step: int, shares: Refs, loads: Loads) -> Process[Refs]:
        """Round and pack the arrays on the GPUs, each its own."""
        group, element_bytes = self.group, self.group.number_bits // 8

        def one(gpu: Gpu, issuer: Issuer, share: Ref) -> Steps[Ref]:
            sending, label = self._sent_by(gpu, loads), Label("pack", step)
            (packed,) = yield from gpu.pack(issuer, label, (share,), sending, element_bytes)
            return packed

        running = [one(*trio) for trio in zip(group.gpus, group.issuers, shares, strict=True)]
        return (yield from group.together(running))

    def upload(self, step: int, packed: Packed, issuer: Issuer) -> Process[Ref]:
        """Send every block to its SPU, back to back on each route; all of it as it lies there."""
        loads = packed.loads
        pairs = [
            (gpu, ref, place)
            for gpu, ref in zip(self.group.gpus, packed.shares, strict=True)
            for place in range(len(self.spus.spus))
        ]
        issuers = [issuer.fork() for _ in pairs]

        def one(own: Issuer, gpu: Gpu, share: Ref, place: int) -> Steps[Ref]:
            messages = [
                Message(Label(f"upload {array.name}", step), array.sent * bits)
                for array, bits in self._block(gpu, place, loads[place])
            ]
            route = self.machine.route(gpu.name, self.spus.spus[place].name)
            return (yield from route.transfer(own, messages, share))

        running = [one(own, *pair) for own, pair in zip(issuers, pairs, strict=True)]
        found = yield from side_by_side(self._env, issuers, running)
        issuer.last = issuers[0].last
        return packed.whole.at(*_spans(found))

    def send(self, step: int, name: str, vector: Ref, loads: Loads) -> Process[Ref]:
        """Send a vector (N,) from the first GPU, in the bits of the gradient: each SPU its part."""
        gpu, first, bits = self.group.gpus[0], self.group.issuers[0], self.spus.bits("bias")
        sending = [(rectangle(name, sum(load.cells for load in loads)), bits)]
        label, element_bytes = Label(f"pack {name}", step), self.group.number_bits // 8
        (packed,) = yield from gpu.pack(first, label, (vector,), sending, element_bytes)
        issuers, label = [first.fork() for _ in loads], Label(f"upload {name}", step)

        def one(own: Issuer, spu: Spu, load: Load) -> Steps[Ref]:
            amount = load.cells * bits
            return (
                yield from self.machine.transfer(own, label, gpu.name, spu.name, packed, amount)
            )

        trios = zip(issuers, self.spus.spus, loads, strict=True)
        found = yield from side_by_side(self._env, issuers, [one(*trio) for trio in trios])
        first.last = issuers[0].last
        return packed.at(*_spans(found))

    def download(self, step: int, answer: Ref, number_bits: int, loads: Loads) -> Process[Refs]:
        """Send the answer to every GPU, each SPU its part to its own first."""
        group, first = self.group, self.group.issuers[0]
        issuers = [first.fork() for _ in loads]

        def one(own: Issuer, spu: Spu, gpu: Gpu, load: Load) -> Steps[Ref]:
            label, bits = Label("download", step), load.cells * number_bits
            return (yield from self.machine.transfer(own, label, spu.name, gpu.name, answer, bits))

        quads = zip(issuers, self.spus.spus, self._owners, loads, strict=True)
        parts = yield from side_by_side(self._env, issuers, [one(*quad) for quad in quads])
        first.last = issuers[0].last
        if group.size == 1:
            return [answer.at(*_spans(parts))]
        held = {
            gpu.name: [k for k, owner in enumerate(self._owners) if owner is gpu]
            for gpu in group.gpus
        }
        bits = [sum(loads[k].cells for k in held[g.name]) * number_bits for g in group.gpus]
        tokens = [Token(_spans([parts[k] for k in held[g.name]])) for g in group.gpus]
        gathered = yield from group.all_gather(Label("gather answer", step), tokens, bits)
        return group.everywhere(answer.at(*_spans(gathered)))

    def _sent_by(self, gpu: Gpu, loads: Loads) -> Sending:
        """What a GPU sends to all SPUs, each array as one: it is packed in one go."""
        found: dict[str, tuple[Array, int]] = {}
        for place, load in enumerate(loads):
            for array, bits in self._block(gpu, place, load):
                before = found[array.name][0][1:] if array.name in found else (0, 0, 0)
                counts = (one + other for one, other in zip(before, array[1:], strict=True))
                found[array.name] = (Array(array.name, *counts), bits)
        return list(found.values())

    def _block(self, gpu: Gpu, place: int, load: Load) -> Sending:
        """What a GPU sends to an SPU: its rows of each array, and the gradient to its own."""
        number, of = self.group.size, self.spus
        found = [(_share(array, number), of.bits("input")) for array in load.arrays]
        if self._owners[place] is gpu and load.cells:
            found.append((rectangle("gradient", load.cells), of.bits("bias")))
        return found


def _share(array: Array, number: int) -> Array:
    """The rows of one of so many GPUs."""
    counts = (array.entries, array.sent, array.diagonal)
    return Array(array.name, *(count // number for count in counts))


def _spans(refs: list[Ref] | list[Token]) -> tuple[int, ...]:
    return tuple(sorted({span for ref in refs for span in ref.spans}))
