"""Parts of a machine that take no part in a run: nobody reaches them, or the algorithm does not use
them.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridsim.scenario.choices import SpuNode
from hybridsim.scenario.machine import EdgeSpec, Machine, MachineSpec
from hybridsim.scenario.settings.base import AlgorithmSettings

_FIRST_GPU = (
    "{} computes on the first GPU: the others draw idle power, what connects them carries nothing"
)


def of_digital(machine: Machine, algorithm: AlgorithmSettings) -> Iterator[str]:
    """What lies neither on a GPU's own nor on the way from one GPU to the next, if it takes
    several.
    """
    yield from _interconnect(machine)
    if algorithm.one_gpu and machine.gpu is not None and machine.gpu.count > 1:
        yield f"machine.gpu.count ({_FIRST_GPU.format(algorithm.kind)})"
    for key in ("link", "spus"):
        if getattr(machine, key) is not None:
            yield f"machine.{key}"
    spec = machine.expand()
    edges = [] if algorithm.one_gpu else _ring(spec)
    nodes = {spec.usable_gpus()[0], *_ends(edges)}
    yield from (f"machine.nodes.{name}" for name in machine.nodes or {} if name not in nodes)
    if machine.edges and not edges:
        yield "machine.edges"
    elif machine.edges:
        used = {(edge.a, edge.b) for edge in edges}
        yield from (
            f"machine.edges[{i}]"
            for i, edge in enumerate(spec.edges)
            if (edge.a, edge.b) not in used
        )


def of_one_spu(machine: Machine) -> Iterator[str]:
    """SPUs beside the first, where the algorithm uses no other; what lies on its way is used."""
    spec = machine.expand()
    first = spec.usable_spus()[0]
    way = {end for gpu in spec.usable_gpus() for end in _ends(spec.shortest(gpu, first))}
    if machine.spus is not None and machine.spus.count > 1:
        yield "machine.spus.count"
    for name, node in (machine.nodes or {}).items():
        if name in spec.usable_spus() and name not in way and isinstance(node, SpuNode):
            yield f"machine.nodes.{name}"


def of_any(machine: Machine) -> Iterator[str]:
    """What no algorithm uses."""
    yield from _interconnect(machine)
    if machine.nodes is not None:
        spec = machine.expand()
        near = spec.reachable(spec.usable_gpus()[0])
        yield from (f"machine.nodes.{name}" for name in machine.nodes if name not in near)


def _interconnect(machine: Machine) -> Iterator[str]:
    """One GPU talks to no other; gradients are sent in the precision of the training."""
    if machine.gpu is None or machine.gpu.interconnect is None:
        return
    if machine.gpu.count == 1:
        yield "machine.gpu.interconnect"
    elif "number_bits" in machine.gpu.interconnect.overrides():
        yield "machine.gpu.interconnect.number_bits"


def _ring(spec: MachineSpec) -> list[EdgeSpec]:
    """Edges on the way from each GPU to the next, from the last to the first."""
    gpus = spec.usable_gpus()
    neighbours = zip(gpus, gpus[1:] + gpus[:1], strict=True)
    return [edge for a, b in neighbours for edge in spec.shortest(a, b)]


def _ends(edges: list[EdgeSpec]) -> set[str]:
    return {end for edge in edges for end in (edge.a, edge.b)}
