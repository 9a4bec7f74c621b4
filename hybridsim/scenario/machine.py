"""The machine: a short form (GPU, link, SPUs) or a general graph, and what both expand to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.choices import (
    Circuit,
    Edge,
    GpuChoice,
    GpusChoice,
    LinkChoice,
    NodeChoice,
    SharedLinkChoice,
    SpuChoice,
    SpusChoice,
    SwitchNode,
)
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.fields import NODE_NAME, Complaint, Short, Strict, complain
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import describe, format_quantity


@dataclass(frozen=True)
class NodeSpec:
    """A node of the expanded machine: a switch, or one of the kinds below."""

    name: str
    kind: ClassVar[Literal["gpu", "spu", "switch"]] = "switch"


@dataclass(frozen=True)
class GpuSpec(NodeSpec):
    """A digital processor; ``graphs``: its operations are launched as CUDA graphs."""

    kind = "gpu"
    sheet: Datasheet
    graphs: bool = False


@dataclass(frozen=True)
class SpuSpec(NodeSpec):
    """An analog processor.

    ``imperfections``: the names of those that act; ``sized_by``: the sheet that their sizes are
    taken from, where it is priced by another one.
    """

    kind = "spu"
    sheet: Datasheet
    buffering: Literal["single", "double", "row_pairs"]
    imperfections: frozenset[str] = frozenset()
    instance: int = 0
    area_limit_m2: float | None = None
    sized_by: Datasheet | None = None
    circuit: Circuit = "summing"
    dual_rail: bool = False

    @property
    def sizes(self) -> Datasheet:
        """The sheet that its imperfections are sized by."""
        return self.sized_by or self.sheet

    @property
    def sets(self) -> int:
        """Sets of resistors."""
        return 2 if self.buffering == "double" else 1

    @property
    def input_bits(self) -> int | None:
        """Resolution of programmed conductances; None: ideal."""
        return self._bits("input_bits")

    @property
    def bias_bits(self) -> int | None:
        """Resolution of the DACs; None: ideal."""
        return self._bits("bias_bits")

    @property
    def output_bits(self) -> int | None:
        """Resolution of the ADCs; None: ideal."""
        return self._bits("output_bits")

    def _bits(self, name: str) -> int | None:
        return int(self.sheet.value(name)) or None


@dataclass(frozen=True)
class EdgeSpec:
    """A link of the expanded machine; ``sheet`` None: free (no time, no energy, any bandwidth)."""

    name: str
    a: str
    b: str
    sheet: Datasheet | None
    chunk_bits: int | None = None


@dataclass(frozen=True)
class MachineSpec:
    """The expanded machine."""

    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]

    def hops(self, start: str) -> dict[str, int]:
        """Number of edges from ``start`` to every node connected with it, itself included."""
        found, frontier = {start: 0}, [start]
        for here in frontier:
            for there in self._neighbours.get(here, ()):
                if there not in found:
                    found[there] = found[here] + 1
                    frontier.append(there)
        return found

    @cached_property
    def _neighbours(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for edge in self.edges:
            found.setdefault(edge.a, []).append(edge.b)
            found.setdefault(edge.b, []).append(edge.a)
        return found

    def reachable(self, start: str) -> set[str]:
        """Nodes connected with ``start``, itself included."""
        return set(self.hops(start))

    def shortest(self, a: str, b: str) -> list[EdgeSpec]:
        """Edges that lie on a shortest route between two nodes, of several on any of them."""
        near, far = self.hops(a), self.hops(b)
        length = near.get(b, -1)

        def on_the_way(x: str, y: str) -> bool:
            return x in near and y in far and near[x] + 1 + far[y] == length

        return [
            edge for edge in self.edges if on_the_way(edge.a, edge.b) or on_the_way(edge.b, edge.a)
        ]

    def usable_gpus(self) -> list[str]:
        """The first GPU and all others that it reaches."""
        return self._near("gpu")

    def usable_spus(self) -> list[str]:
        """SPUs that the first GPU reaches."""
        return self._near("spu")

    def used_spus(self, first_alone: bool) -> list[SpuSpec]:
        """The usable ones, or the first of them."""
        usable = self.usable_spus()[: 1 if first_alone else None]
        return [node for node in self.nodes if isinstance(node, SpuSpec) and node.name in usable]

    def owners(self) -> dict[str, str]:
        """The GPU that each usable SPU belongs to: the nearest in hops; where several are, they
        take turns.
        """
        hops = {gpu: self.hops(gpu) for gpu in self.usable_gpus()}
        turns: dict[tuple[str, ...], int] = {}
        found = {}
        for spu in self.usable_spus():
            nearest = min(distance[spu] for distance in hops.values())
            tied = tuple(gpu for gpu, distance in hops.items() if distance[spu] == nearest)
            turn = turns[tied] = turns.get(tied, -1) + 1
            found[spu] = tied[turn % len(tied)]
        return found

    def _near(self, kind: str) -> list[str]:
        first = next((node.name for node in self.nodes if node.kind == "gpu"), None)
        near = self.reachable(first) if first is not None else set()
        return [node.name for node in self.nodes if node.kind == kind and node.name in near]


class Machine(Strict):
    """Short form: ``gpu``, ``link``, ``spus``. General form: ``nodes`` and ``edges``. Not both."""

    constants: Literal["paper", "realistic", "optimistic"] = Field(
        "realistic", description="constant set put over the datasheets"
    )
    gpu: Annotated[GpusChoice, Short("part")] | None = Field(
        None, description="the digital processors, all alike"
    )
    link: Annotated[SharedLinkChoice, Short("part")] | None = Field(
        None,
        description="between GPU and SPUs; default: the papers' link, shared, where there are SPUs",
    )
    spus: SpusChoice | None = Field(None, description="the analog processors; default: none")
    nodes: dict[str, NodeChoice] | None = Field(None, description="general form: nodes by name")
    edges: list[Edge] | None = Field(None, description="general form: links between nodes")

    @model_validator(mode="before")
    @classmethod
    def _default_link(cls, value: Any) -> Any:  # Any: not checked yet
        """SPUs without a link hang on the papers' link."""
        if (
            isinstance(value, dict)
            and isinstance(value.get("spus"), dict)
            and value.get("link") is None
        ):
            return {**value, "link": {}}
        return value

    @model_validator(mode="before")
    @classmethod
    def _default_imperfections(cls, value: Any) -> Any:  # Any: not checked yet
        """The papers count an ideal device."""
        if not (isinstance(value, dict) and value.get("constants") == "paper"):
            return value

        def ideal(choice: Any) -> Any:
            return {"imperfections": "ideal", **choice} if isinstance(choice, dict) else choice

        found = dict(value)
        if "spus" in value:
            found["spus"] = ideal(value["spus"])
        if isinstance(nodes := value.get("nodes"), dict):
            found["nodes"] = {
                name: ideal(node) if isinstance(node, dict) and node.get("kind") == "spu" else node
                for name, node in nodes.items()
            }
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Machine:
        complain(list(self._form()) or [*self._graph(), *self._power()])
        return self

    def _form(self) -> Iterator[Complaint]:
        general = self.nodes is not None or self.edges is not None
        if not general and self.gpu is None:
            yield Complaint(("gpu",), "a GPU (or the general form: nodes and edges)", "nothing")
        for key in ("gpu", "link", "spus"):
            if general and getattr(self, key) is not None:
                yield Complaint(
                    (key,),
                    "either the short form or nodes and edges",
                    f"both ('{key}' beside them)",
                )
        if general and not self.nodes:
            yield Complaint(("nodes",), "at least one node", "none")
        elif general and not any(node.kind == "gpu" for node in (self.nodes or {}).values()):
            yield Complaint(("nodes",), "at least one node of kind gpu", "none")

    def _graph(self) -> Iterator[Complaint]:
        nodes, seen = self.nodes or {}, set[frozenset[str]]()
        for name in nodes:
            if not NODE_NAME.fullmatch(name):
                yield Complaint(
                    ("nodes", name), "a name of letters, digits, _ and -", describe(name)
                )
        for index, edge in enumerate(self.edges or ()):
            ends = frozenset(edge.between)
            for side, name in enumerate(edge.between):
                if name not in nodes:
                    yield Complaint(
                        ("edges", index, "between", side),
                        one_of(nodes, name, "a node"),
                        describe(name),
                    )
            if len(ends) == 1:
                yield Complaint(
                    ("edges", index, "between"), "two different nodes", f"{edge.between[0]!r} twice"
                )
            if ends in seen:
                yield Complaint(
                    ("edges", index, "between"), "one edge for each pair of nodes", "a second one"
                )
            seen.add(ends)
        yield from self._shared_names()

    def _shared_names(self) -> Iterator[Complaint]:
        """A link is called after its nodes; no two parts may share a name, and so a row of the
        books.
        """
        taken = dict.fromkeys(self.nodes or {}, "node")
        for index, edge in enumerate(self.edges or ()):
            name = "-".join(edge.between)
            if edge.link is None:
                continue
            if name in taken:
                yield Complaint(
                    ("edges", index, "between"),
                    "nodes whose link has a name of its own",
                    f"'{name}', the name of another {taken[name]}",
                )
            taken.setdefault(name, "link")

    def _power(self) -> Iterator[Complaint]:
        """Under the constant set and the scenario's own values a GPU draws at full load no less
        than idle.
        """
        gpus: dict[tuple[str | int, ...], GpuChoice] = (
            {("gpu",): self.gpu} if self.gpu is not None else {}
        )
        gpus |= {("nodes", n): c for n, c in (self.nodes or {}).items() if isinstance(c, GpuChoice)}
        for path, choice in gpus.items():
            value, given = choice.sheet(self.constants).value, choice.overrides()
            if value("tdp_w") < value("idle_w"):
                tdp, idle = (
                    format_quantity(value("tdp_w"), "W"),
                    format_quantity(value("idle_w"), "W"),
                )
                key = "idle" if "tdp_w" not in given and "idle_w" in given else "tdp"
                expected = f"tdp >= idle ({idle})" if key == "tdp" else f"idle <= tdp ({tdp})"
                yield Complaint((*path, key), expected, tdp if key == "tdp" else idle)

    def spu_choices(self) -> dict[tuple[str | int, ...], SpuChoice]:
        """What is said of SPUs, by where."""
        if self.nodes is None:
            return {} if self.spus is None else {("spus",): self.spus}
        return {("nodes", n): c for n, c in self.nodes.items() if isinstance(c, SpuChoice)}

    def expand(self) -> MachineSpec:
        """Named nodes and edges with resolved datasheets.

        The short form becomes ``gpu0 - hub - spu0..n``: a shared link is the one edge ``gpu0-hub``,
        and the edges from the hub are free; private links are edges ``gpu0-spuJ``. Of several GPUs
        each has an edge ``gpuK-fabric`` to a switch; SPU j hangs on GPU j modulo their number,
        under shared links by way of ``hubK``.
        """
        return self._short() if self.nodes is None else self._general()

    def _short(self) -> MachineSpec:
        assert self.gpu is not None, "validated"
        count = self.gpu.count
        sheet, graphs = self.gpu.sheet(self.constants), self.gpu.launch == "graph"
        nodes: list[NodeSpec] = [GpuSpec(f"gpu{k}", sheet, graphs) for k in range(count)]
        edges: list[EdgeSpec] = []
        if count > 1:
            assert self.gpu.interconnect is not None, "filled in with the number"
            edge = self._edge("gpu", "fabric", self.gpu.interconnect)
            edges += [replace(edge, name=f"{gpu.name}-fabric", a=gpu.name) for gpu in nodes]
            nodes.append(NodeSpec("fabric"))
        if self.spus is not None and self.spus.count > 0:
            spus = self._hang_spus(count, self.spus)
            nodes, edges = nodes + list(spus.nodes), edges + list(spus.edges)
        return MachineSpec(tuple(nodes), tuple(edges))

    def _hang_spus(self, gpus: int, choice: SpusChoice) -> MachineSpec:
        """The short form's SPUs, its links and the hubs of shared links."""
        link = self.link
        assert link is not None, "filled in with the SPUs"
        first, wire = self._spu("spu", choice), self._edge("gpu", "spu", link)
        spus = [
            replace(first, name=f"spu{j}", instance=first.instance + j) for j in range(choice.count)
        ]
        if link.sharing == "private":
            pairs = [(f"gpu{j % gpus}", spu.name) for j, spu in enumerate(spus)]
            return MachineSpec(
                tuple(spus), tuple(replace(wire, name=f"{a}-{b}", a=a, b=b) for a, b in pairs)
            )
        hubs = [f"hub{k}" if gpus > 1 else "hub" for k in range(min(gpus, choice.count))]
        priced = [
            replace(wire, name=f"gpu{k}-{hub}", a=f"gpu{k}", b=hub) for k, hub in enumerate(hubs)
        ]
        free = [self._edge(hubs[j % gpus], spu.name, None) for j, spu in enumerate(spus)]
        return MachineSpec((*(NodeSpec(hub) for hub in hubs), *spus), (*priced, *free))

    def _general(self) -> MachineSpec:
        nodes: list[NodeSpec] = []
        spus: list[str] = []
        for name, choice in (self.nodes or {}).items():
            if isinstance(choice, SwitchNode):
                nodes.append(NodeSpec(name))
            elif isinstance(choice, SpuChoice):
                spu = self._spu(name, choice)
                nodes.append(replace(spu, instance=spu.instance + len(spus)))
                spus.append(name)
            else:
                nodes.append(GpuSpec(name, choice.sheet(self.constants), choice.launch == "graph"))
        return MachineSpec(
            tuple(nodes), tuple(self._edge(*e.between, e.link) for e in self.edges or ())
        )

    def _spu(self, name: str, choice: SpuChoice) -> SpuSpec:
        acting, sheet = choice.imperfections.acting, choice.sheet(self.constants)
        return SpuSpec(
            name,
            sheet,
            choice.buffering,
            acting,
            choice.instance,
            choice.area_limit_m2,
            circuit=choice.circuit,
            dual_rail=choice.dual_rail,
        )

    def _edge(self, a: str, b: str, link: LinkChoice | None) -> EdgeSpec:
        if link is None:
            return EdgeSpec(f"{a}-{b}", a, b, None)
        return EdgeSpec(f"{a}-{b}", a, b, link.sheet(self.constants), link.chunk_bits())
