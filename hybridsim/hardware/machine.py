"""A machine: a graph of parts; networkx finds the routes, the edges carry capacity and
contention.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import networkx as nx

from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Context, Issuer, Label, Price, Process, record_start
from hybridsim.hardware.link import Route, Wire
from hybridsim.hardware.spu import Spu
from hybridsim.operations.ref import Ref
from hybridsim.scenario.machine import MachineSpec

PAPERS_NUMBER_BITS = 16
"""Bits per number in both papers (arXiv 2405.13817, 2502.08603)."""


class Machine:
    """The parts named in a specification, as far as the first GPU reaches them, and the routes
    between them.

    Raises:
        InputError: no GPU.
    """

    def __init__(self, context: Context, spec: MachineSpec) -> None:
        self.context = context
        usable = {*spec.usable_gpus(), *spec.usable_spus()}
        nodes = [node for node in spec.nodes if node.name in usable]
        self.gpus = [
            Gpu(context, n.name, n.sheet) for n in nodes if n.kind == "gpu" and n.sheet is not None
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
        self.spus = [Spu(context, n, self._number_bits(n.name)) for n in nodes if n.kind == "spu"]

    @property
    def gpu(self) -> Gpu:
        """The first GPU."""
        return self.gpus[0]

    def spus_of(self, gpu: Gpu) -> list[Spu]:
        """The SPUs that belong to a GPU: those that it is nearest to; see
        ``MachineSpec.owners``.
        """
        return [spu for spu in self.spus if self._owners[spu.name] == gpu.name]

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
        payload: Ref,
        bits: int,
        count: int = 1,
    ) -> Process:
        """Send a payload from node to node."""
        return (yield from self.route(source, target).transfer(issuer, label, payload, bits, count))

    def pause(
        self, issuer: Issuer, label: Label, part: str, duration_ps: int, *args: Ref
    ) -> Process:
        """Let time pass on purpose (a forced delay); a span of its own, so that the critical path
        has no gap.
        """
        env, trace, _ = self.context
        payload = args[0] if args else Ref(None, b"")
        if duration_ps <= 0:
            return payload
        span, start = trace.new_id(), int(env.now)
        price = Price(duration_ps, 0, (0.0, 0.0, 0, 0, 0, 0), (0.0, 0.0, 0.0))
        record_start(
            trace, span, issuer.parents(args), -1, (part, "pause"), label, start, start, price
        )
        yield env.timeout(duration_ps)
        trace.finish(span)
        issuer.last = span
        return payload.at(span)

    def energy_basis(self) -> list[dict[str, Any]]:
        """What the energy of every lane rests on."""
        rows = [row for gpu in self.gpus for row in gpu.energy_basis()]
        rows += [wire.energy_basis() for wire in self._wires.values()]
        return rows + [row for spu in self.spus for row in spu.energy_basis()]

    def static_power(self) -> list[dict[str, Any]]:
        """Every part's power that does not depend on what it does."""
        rows = [row for gpu in self.gpus for row in gpu.static_power()]
        return rows + [row for spu in self.spus for row in spu.static_power()]
