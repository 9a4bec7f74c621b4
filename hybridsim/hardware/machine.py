"""A machine: a graph of parts; networkx finds the routes, the edges carry capacity and
contention.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

import networkx as nx
import simpy

from hybridsim.errors import InputError
from hybridsim.hardware.extent import Size
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Context, Issuer, Label, Place, pass_time
from hybridsim.hardware.link import Message, Route, Wire
from hybridsim.hardware.part import Basis, Limit, Part, StaticPower
from hybridsim.hardware.price import Quote
from hybridsim.hardware.requests import Amounts, Pause, encode
from hybridsim.hardware.size import sizes_on
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Carried, Ref, Token
from hybridsim.scenario.machine import GpuSpec, MachineSpec, SpuSpec

PAPERS_NUMBER_BITS = 16
"""Bits per number in both papers (arXiv 2405.13817, 2502.08603)."""


class Machine:
    """The parts named in a specification, as far as the first GPU reaches them, and the routes
    between them.

    Raises:
        InputError: no GPU.
    """

    def __init__(self, context: Context, spec: MachineSpec) -> None:
        self.context, self._spec = context, spec
        usable = {*spec.usable_gpus(), *spec.usable_spus()}
        nodes = [node for node in spec.nodes if node.name in usable]
        self.gpus = [
            Gpu(context, node.name, node.sheet, graphs=node.graphs)
            for node in nodes
            if isinstance(node, GpuSpec)
        ]
        if not self.gpus:
            raise InputError("machine: expected at least one node of kind gpu, got none")
        self._graph: nx.Graph[str] = nx.Graph()
        self._graph.add_nodes_from(node.name for node in spec.nodes)
        self._wires: dict[tuple[str, str], Wire] = {}
        for index, edge in enumerate(spec.edges):
            self._graph.add_edge(edge.a, edge.b)
            if edge.sheet is not None:
                self._wires[edge.a, edge.b] = Wire(context, edge, 2 * index, edge.b)
                self._wires[edge.b, edge.a] = Wire(context, edge, 2 * index + 1, edge.a)
        self._routes: dict[tuple[str, str], Route] = {}
        self._owners = spec.owners()
        self.spus = [
            Spu(context, node, self._number_bits(node.name))
            for node in nodes
            if isinstance(node, SpuSpec)
        ]

    @property
    def gpu(self) -> Gpu:
        """The first GPU."""
        return self.gpus[0]

    def spus_of(self, gpu: Gpu) -> list[Spu]:
        """The SPUs that belong to a GPU: those that it is nearest to; see
        ``MachineSpec.owners``.
        """
        return [spu for spu in self.spus if self._owners[spu.name] == gpu.name]

    def owner_of(self, spu: Spu) -> Gpu:
        """The GPU that an SPU belongs to."""
        return next(gpu for gpu in self.gpus if gpu.name == self._owners[spu.name])

    def route(self, source: str, target: str) -> Route:
        """The shortest route between two nodes.

        Raises:
            InputError: there is none.
        """
        if (source, target) not in self._routes:
            try:
                path = nx.shortest_path(self._graph, source, target)
            except nx.NetworkXNoPath:
                raise InputError(
                    f"machine: expected a route from {source} to {target}, got none"
                ) from None
            wires = [self._wires[hop] for hop in pairwise(path) if hop in self._wires]
            self._routes[source, target] = Route(self.context, wires)
        return self._routes[source, target]

    def _number_bits(self, spu: str) -> int:
        """Bits of an unquantized number on the way to an SPU; a free connection has no sheet that
        says otherwise.
        """
        return max(
            (wire.number_bits for wire in self.route(self._owners[spu], spu).wires),
            default=PAPERS_NUMBER_BITS,
        )

    def transfer(
        self,
        issuer: Issuer,
        label: Label,
        source: str,
        target: str,
        payload: Carried,
        bits: int,
        count: int = 1,
    ) -> Generator[simpy.Event, None, Carried]:
        """Send a payload from node to node."""
        messages = [Message(label, bits, count)]
        return (yield from self.route(source, target).transfer(issuer, messages, payload))

    def pause(
        self,
        issuer: Issuer,
        label: Label,
        part: str,
        duration_ps: int,
        after: Carried,
        *also: Ref | Token,
    ) -> Generator[simpy.Event, None, Carried]:
        """Let time pass on purpose; a span, so that the critical path has no gap."""
        if duration_ps <= 0:
            return after
        row = self.context.trace.request(*encode(Pause(duration_ps)), again=True)
        quote = Quote(duration_ps, "pause", (0, *Amounts(), 0.0, 0.0, 0.0, row))
        where = Place(part, "pause", "pause")
        span = yield from pass_time(self.context, issuer, label, (after, *also), where, quote)
        return after.at(span)

    @property
    def parts(self) -> list[Part]:
        """Every part that has a datasheet; of a link both directions."""
        return [*self.gpus, *self._wires.values(), *self.spus]

    def basis(self) -> list[Basis]:
        """What the times and energies of every part rest on."""
        return [row for part in self.parts for row in part.basis()]

    def static_power(self) -> list[StaticPower]:
        """Every part's power that does not depend on what it does."""
        return [row for part in self.parts for row in part.static_power()]

    def sizes(self) -> list[Size]:
        """How large the SPUs are, by their largest systems so far."""
        return sizes_on(self._spec, {spu.name: spu.largest for spu in self.spus})

    def limits(self) -> list[Limit]:
        """How much of what they have the parts needed."""
        return [row for part in self.parts for row in part.limits()]
