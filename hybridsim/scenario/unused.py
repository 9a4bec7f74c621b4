"""Fields that a user set and that change nothing in this run: reported, never silently ignored."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from hybridsim.scenario.algorithms import FIRST_ORDER, Tngd
from hybridsim.scenario.choices import SpuChoice, SpuNode
from hybridsim.scenario.machine import Machine
from hybridsim.scenario.schema import Scenario


def unused_fields(scenario: Scenario, timing_only: bool = False) -> list[str]:
    """Fields that differ from their defaults and have no effect on this run: paths, some with the reason behind.

    Args:
        scenario: the scenario.
        timing_only: the run computes no tensors; otherwise the activity factor is never asked for.
    """
    algorithm, machine = scenario.training.algorithm, scenario.machine
    found = list(_tngd(algorithm)) if isinstance(algorithm, Tngd) else []
    paths = [f"training.algorithm.{key}" for key in found]
    if algorithm.kind in FIRST_ORDER:
        return paths + list(_analog(machine))
    if isinstance(algorithm, Tngd):
        paths += _beyond_the_first(machine)
    one_spu = isinstance(algorithm, Tngd) or (machine.spus is not None and machine.spus.count == 1)
    return paths + list(_machine(machine, one_spu, _buffering_matters(scenario), timing_only))


def _tngd(algorithm: Tngd) -> Iterator[str]:
    forced = algorithm.delay_tau is not None
    if algorithm.update == "sgd" and algorithm.adam is not None:
        yield "adam"
    if algorithm.readout.samples == 1 and _differs(algorithm.readout, "spacing_tau"):
        yield "readout.spacing"
    if algorithm.curvature == "empirical_fisher" and _differs(algorithm, "hessian_upload"):
        yield "hessian_upload"
    if algorithm.mode == "asynchronous" and not forced and _differs(algorithm, "settle_tau"):
        yield "settle"
    if forced and _differs(algorithm, "wait_tau"):
        yield "wait"
    if _reads_the_gradient(algorithm):
        remedy = "a delay below the settling time" if forced else "a wait"
        reason = "asynchronous with state: reset and no wait reads the gradient itself: this is SGD"
        yield f"mode ({reason}; set state: kept or {remedy})"


def _reads_the_gradient(algorithm: Tngd) -> bool:
    """Is every reading taken at the moment at which the state was set to the gradient?"""
    wait_tau = algorithm.wait_tau if algorithm.delay_tau is None else algorithm.settle_tau - algorithm.delay_tau
    at_once = wait_tau == 0 and (algorithm.readout.samples == 1 or algorithm.readout.spacing_tau == 0)
    return algorithm.mode == "asynchronous" and algorithm.state == "reset" and at_once


def _beyond_the_first(machine: Machine) -> list[str]:
    """SPUs beside the one that TNGD uses; a node with several edges may lie on its way."""
    if machine.spus is not None:
        return ["machine.spus.count"] if machine.spus.count > 1 else []
    ends = [name for edge in machine.edges or () for name in edge.between]
    return [f"machine.nodes.{name}" for name in machine.expand().usable_spus()[1:] if ends.count(name) == 1]


def _analog(machine: Machine) -> Iterator[str]:
    """What a digital algorithm does not touch."""
    for key in ("link", "spus"):
        if getattr(machine, key) is not None:
            yield f"machine.{key}"
    for name, node in (machine.nodes or {}).items():
        if node.kind != "gpu":
            yield f"machine.nodes.{name}"
    if machine.edges:
        yield "machine.edges"


def _buffering_matters(scenario: Scenario) -> bool:
    algorithm = scenario.training.algorithm
    return isinstance(algorithm, Tngd) and algorithm.mode == "asynchronous" and algorithm.delay_tau is None


def _machine(machine: Machine, one_spu: bool, buffering: bool, timing_only: bool) -> Iterator[str]:
    spus: dict[str, SpuChoice] = {
        f"machine.nodes.{n}": c for n, c in (machine.nodes or {}).items() if isinstance(c, SpuNode)
    }
    if machine.spus is not None:
        spus = {"machine.spus": machine.spus}
        if one_spu and machine.link is not None and _differs(machine.link, "sharing"):
            yield "machine.link.sharing"
    for path, choice in spus.items():
        if not buffering and _differs(choice, "buffering"):
            yield f"{path}.buffering"
        if not timing_only and _differs(choice, "activity_factor"):
            yield f"{path}.activity_factor"
    yield from (f"machine.nodes.{name}" for name in _unreachable(machine))


def _unreachable(machine: Machine) -> list[str]:
    if machine.nodes is None:
        return []
    spec = machine.expand()
    first = next(node.name for node in spec.nodes if node.kind == "gpu")
    return [node.name for node in spec.nodes if node.name not in spec.reachable(first)]


def _differs(model: BaseModel, name: str) -> bool:
    return bool(getattr(model, name) != type(model).model_fields[name].default)
