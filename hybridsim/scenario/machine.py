"""The machine: a short form (GPU, link, SPUs) or a general graph, and what both expand to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hybridsim.scenario.choices import (
    Edge,
    GpuChoice,
    LinkChoice,
    NodeChoice,
    SharedLinkChoice,
    SpuChoice,
    SpusChoice,
    SwitchNode,
)
from hybridsim.scenario.fields import NODE_NAME, Complaint, Short, Strict, complain
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.parts import Datasheet
from hybridsim.scenario.quantity import describe, format_quantity


@dataclass(frozen=True)
class NodeSpec:
    """A node of the expanded machine; no ``sheet``: a switch; converter bits None: ideal."""

    name: str
    kind: Literal["gpu", "spu", "switch"]
    sheet: Datasheet | None = None
    buffering: str | None = None
    input_bits: int | None = None
    bias_bits: int | None = None
    output_bits: int | None = None


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

    def reachable(self, start: str) -> set[str]:
        """Nodes connected with ``start``, itself included."""
        found, frontier = {start}, [start]
        while frontier:
            here = frontier.pop()
            new = {e.b if e.a == here else e.a for e in self.edges if here in (e.a, e.b)} - found
            found |= new
            frontier.extend(new)
        return found

    def usable_spus(self) -> list[str]:
        """SPUs that the first GPU reaches."""
        first = next((node.name for node in self.nodes if node.kind == "gpu"), None)
        near = self.reachable(first) if first is not None else set()
        return [node.name for node in self.nodes if node.kind == "spu" and node.name in near]


class Machine(Strict):
    """Short form: ``gpu``, ``link``, ``spus``. General form: ``nodes`` and ``edges``. Not both."""

    constants: Literal["paper", "realistic", "optimistic"] = Field(
        "realistic", description="constant set put over the datasheets"
    )
    gpu: Annotated[GpuChoice, Short("part")] | None = Field(None, description="the digital processor")
    link: Annotated[SharedLinkChoice, Short("part")] | None = Field(
        None, description="between GPU and SPUs; default: the papers' link, shared, where there are SPUs"
    )
    spus: SpusChoice | None = Field(None, description="the analog processors; default: none")
    nodes: dict[str, NodeChoice] | None = Field(None, description="general form: nodes by name")
    edges: list[Edge] | None = Field(None, description="general form: links between nodes")

    @model_validator(mode="before")
    @classmethod
    def _default_link(cls, value: Any) -> Any:
        """SPUs without a link hang on the papers' link."""
        if isinstance(value, dict) and isinstance(value.get("spus"), dict) and value.get("link") is None:
            return {**value, "link": {}}
        return value

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
                yield Complaint((key,), "either the short form or nodes and edges", f"both ('{key}' beside them)")
        if general and not self.nodes:
            yield Complaint(("nodes",), "at least one node", "none")
        elif general and not any(node.kind == "gpu" for node in (self.nodes or {}).values()):
            yield Complaint(("nodes",), "at least one node of kind gpu", "none")

    def _graph(self) -> Iterator[Complaint]:
        nodes, seen = self.nodes or {}, set[frozenset[str]]()
        for name in nodes:
            if not NODE_NAME.fullmatch(name):
                yield Complaint(("nodes", name), "a name of letters, digits, _ and -", describe(name))
        for index, edge in enumerate(self.edges or ()):
            ends = frozenset(edge.between)
            for side, name in enumerate(edge.between):
                if name not in nodes:
                    yield Complaint(("edges", index, "between", side), one_of(nodes, name, "a node"), describe(name))
            if len(ends) == 1:
                yield Complaint(("edges", index, "between"), "two different nodes", f"{edge.between[0]!r} twice")
            if ends in seen:
                yield Complaint(("edges", index, "between"), "one edge for each pair of nodes", "a second one")
            seen.add(ends)

    def _power(self) -> Iterator[Complaint]:
        """Under the constant set and the scenario's own values a GPU draws at full load no less than idle."""
        gpus: dict[tuple[str | int, ...], GpuChoice] = {("gpu",): self.gpu} if self.gpu is not None else {}
        gpus |= {("nodes", n): c for n, c in (self.nodes or {}).items() if isinstance(c, GpuChoice)}
        for path, choice in gpus.items():
            value, given = choice.sheet(self.constants).value, choice.overrides()
            if value("tdp_w") < value("idle_w"):
                tdp, idle = format_quantity(value("tdp_w"), "W"), format_quantity(value("idle_w"), "W")
                key = "idle" if "tdp_w" not in given and "idle_w" in given else "tdp"
                expected = f"tdp >= idle ({idle})" if key == "tdp" else f"idle <= tdp ({tdp})"
                yield Complaint((*path, key), expected, tdp if key == "tdp" else idle)

    def expand(self) -> MachineSpec:
        """Named nodes and edges with resolved datasheets.

        The short form becomes ``gpu0 - hub - spu0..n``: a shared link is the one edge ``gpu0-hub``, and the
        edges from the hub are free; private links are edges ``gpu0-spuK``.
        """
        return self._short() if self.nodes is None else self._general()

    def _short(self) -> MachineSpec:
        assert self.gpu is not None, "validated"
        gpu = NodeSpec("gpu0", "gpu", self.gpu.sheet(self.constants))
        if self.spus is None or self.spus.count == 0:
            return MachineSpec((gpu,), ())
        link = self.link
        assert link is not None, "filled in with the SPUs"
        names = [f"spu{k}" for k in range(self.spus.count)]
        first = self._spu(names[0], self.spus)
        spus = tuple(replace(first, name=name) for name in names)
        if link.sharing == "private":
            edge = self._edge("gpu0", names[0], link)
            return MachineSpec((gpu, *spus), tuple(replace(edge, name=f"gpu0-{name}", b=name) for name in names))
        free = tuple(EdgeSpec(f"hub-{name}", "hub", name, None) for name in names)
        return MachineSpec((gpu, NodeSpec("hub", "switch"), *spus), (self._edge("gpu0", "hub", link), *free))

    def _general(self) -> MachineSpec:
        nodes = []
        for name, choice in (self.nodes or {}).items():
            if isinstance(choice, SwitchNode):
                nodes.append(NodeSpec(name, "switch"))
            elif isinstance(choice, SpuChoice):
                nodes.append(self._spu(name, choice))
            else:
                nodes.append(NodeSpec(name, "gpu", choice.sheet(self.constants)))
        return MachineSpec(tuple(nodes), tuple(self._edge(*e.between, e.link) for e in self.edges or ()))

    def _spu(self, name: str, choice: SpuChoice) -> NodeSpec:
        bits = (choice.input_bits, choice.bias_bits, choice.output_bits)
        return NodeSpec(name, "spu", choice.sheet(self.constants), choice.buffering, *bits)

    def _edge(self, a: str, b: str, link: LinkChoice | None) -> EdgeSpec:
        if link is None:
            return EdgeSpec(f"{a}-{b}", a, b, None)
        return EdgeSpec(f"{a}-{b}", a, b, link.sheet(self.constants), link.chunk_bits())
