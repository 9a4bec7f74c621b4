"""SPUs that hold one system together, its columns side by side; one alone is the usual case.

The parameters are split: each SPU has its share of the cells, and of J the columns that belong to
them. The summing lines u = J x run through all of them to the first, which has the H array, and the
lines w back: r analog lines each way between neighbours. Within their bandwidth they are ideal, so
that the state relaxes as on one large SPU: it is computed once, every SPU is priced for its own
share, and what the resistors dissipate is attributed by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import simpy

from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.load import Load
from hybridsim.errors import InputError
from hybridsim.hardware.collective import Steps, side_by_side
from hybridsim.hardware.lane import Issuer, Label, Process
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import SpuSpec

_MARGIN = 10.0
"""Lines must be so many times faster than the fastest mode."""
Loads = Sequence[Load]
"""What each SPU of a group has of a system, in its order."""


class SpuGroup:
    """One system on several SPUs, asked for as if they were one.

    Args:
        spus: in the order of the chain; the first has the H array.

    Raises:
        InputError: they are not alike.
    """

    def __init__(self, spus: Sequence[Spu]) -> None:
        self.spus = list(spus)
        first = self.first = self.spus[0]
        for spu in self.spus[1:]:
            if _kind(spu) != _kind(first):
                raise InputError(
                    "training.algorithm.spus: split: expected SPUs that are alike (constants, "
                    "buffering, imperfections, bits of their links' numbers), got "
                    f"{first.name} and {spu.name}, which differ"
                )

    @property
    def name(self) -> str:
        """Of the first SPU."""
        return self.first.name

    @property
    def node(self) -> SpuSpec:
        """Of the first SPU; the others are alike."""
        return self.first.node

    @property
    def device(self) -> Device:
        """What is imperfect, over all cells: drawn as of one device, the first."""
        return self.first.device

    @property
    def system(self) -> Ref | None:
        """What is in force."""
        return self.first.system

    @property
    def drive(self) -> Ref | None:
        """Of all cells."""
        return self.first.drive

    @property
    def state(self) -> Ref | None:
        """Of all cells."""
        return self.first.state

    @state.setter
    def state(self, state: Ref | None) -> None:
        for spu in self.spus:
            spu.state = state

    @property
    def loads(self) -> Loads:
        """What each SPU has of the system in force."""
        return [spu.load for spu in self.spus]

    @property
    def since_ps(self) -> int:
        """When the state last moved."""
        return self.first.since_ps

    def duration_ps(self, tau: float) -> int:
        """Clock time of ``tau`` time constants."""
        return self.first.duration_ps(tau)

    def elapsed_tau(self) -> float:
        """Time constants since the state last moved."""
        return self.first.elapsed_tau()

    def bits(self, which: str) -> int:
        """Resolution of an end; see ``Spu.bits``."""
        return self.first.bits(which)

    def program(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        loads: Loads,
    ) -> Process:
        """Write the resistors of a system, each SPU its own; see ``Spu.program``.

        Raises:
            CapacityError: an SPU's share is more than it has.
        """
        known: dict[bytes, Ref] = {}
        of = dict(zip(self.spus, loads, strict=True))
        system = yield from self._each(
            issuer,
            lambda spu, own: spu.program(own, label, computation, args, of[spu], known=known),
        )
        rate = system.facts.get("largest_eigenvalue")
        if rate is not None and len(self.spus) > 1:
            there_and_back = 2 * (len(self.spus) - 1)
            for spu in self.spus:
                spu.crossed(_MARGIN * there_and_back * rate, label)
        return system

    def convert_input(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        loads: Loads,
    ) -> Process:
        """Digital to analog, each SPU for its own cells."""
        known: dict[bytes, Ref] = {}
        of = dict(zip(self.spus, loads, strict=True))
        return (
            yield from self._each(
                issuer,
                lambda spu, own: spu.convert_input(
                    own, label, computation, args, of[spu].cells, known=known
                ),
            )
        )

    def preset(self, issuer: Issuer, label: Label, ref: Ref, loads: Loads) -> Process:
        """Set the cells to a start state; see ``Spu.preset``."""
        if "preset" not in self.node.imperfections:
            return ref
        of = dict(zip(self.spus, loads, strict=True))
        return (
            yield from self._each(
                issuer, lambda spu, own: spu.preset(own, label, ref, of[spu].cells)
            )
        )

    def install(self, system: Ref, drive: Ref, state: Ref, loads: Loads, lines: int) -> None:
        """Put a system in force on all; ``lines`` cross each way between two neighbours."""
        resistors = sum(load.resistors for load in loads)
        for place, (spu, load) in enumerate(zip(self.spus, loads, strict=True)):
            neighbours = (place > 0) + (place < len(self.spus) - 1)
            share = load.resistors / resistors
            spu.install(system, drive, state, load, share=share, crossings=neighbours * lines)

    def settle(self, issuer: Issuer, label: Label, tau: float, relaxation: Computation) -> Process:
        """Relax for a commanded ``tau`` and wait."""
        known: dict[bytes, Ref] = {}
        state = yield from self._each(
            issuer, lambda spu, own: spu.settle(own, label, tau, relaxation, known=known)
        )
        self.state = state
        return state

    def relax(
        self, label: Label, relaxation: Computation, commanded_tau: float | None = None
    ) -> Ref:
        """Move the state by the time since it last moved, or by a commanded one."""
        known: dict[bytes, Ref] = {}
        found = [spu.relax(label, relaxation, commanded_tau, known=known) for spu in self.spus]
        return found[0]

    def measure(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: object,
    ) -> Process:
        """Sample, hold and convert the state, each SPU its own cells."""
        known: dict[bytes, Ref] = {}
        return (
            yield from self._each(
                issuer,
                lambda spu, own: spu.measure(
                    own, label, computation, args, spu.load.cells, shape=shape, known=known
                ),
            )
        )

    def _each(self, issuer: Issuer, operation: Callable[[Spu, Issuer], Steps[Ref]]) -> Process:
        """Run an operation on all SPUs; the thread goes on when the last is done."""
        env: simpy.Environment = self.first.context.env
        issuers = [issuer.fork() for _ in self.spus]
        running = [operation(spu, own) for spu, own in zip(self.spus, issuers, strict=True)]
        found = yield from side_by_side(env, issuers, running)
        issuer.last = issuers[0].last
        return found[0].at(*sorted({span for ref in found for span in ref.spans}))


def _kind(spu: Spu) -> tuple[object, ...]:
    node = spu.node
    return node.sheet.numbers, node.buffering, node.imperfections, spu.number_bits
