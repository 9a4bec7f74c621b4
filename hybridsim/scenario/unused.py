"""Fields that a user set and that change nothing in this run: reported, never silently ignored."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from hybridsim.scenario import unused_parts
from hybridsim.scenario.choices import SpuChoice, SpuNode
from hybridsim.scenario.machine import Machine, SpuSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.settings import AlgorithmSettings, OptimizerSettings
from hybridsim.scenario.settings.analog import AnalogSettings
from hybridsim.scenario.settings.kfac import Kfac
from hybridsim.scenario.settings.ngd import Ngd
from hybridsim.scenario.settings.shampoo import Shampoo
from hybridsim.scenario.settings.tngd import Tngd


def unused_fields(scenario: Scenario, timing_only: bool = False) -> list[str]:
    """Fields that differ from their defaults and have no effect on this run: paths, some with the
    reason behind.

    Args:
        scenario: the scenario.
        timing_only: the run computes no tensors; otherwise the activity factor is never asked for.
    """
    algorithm, machine = scenario.training.algorithm, scenario.machine
    found = list(_training(algorithm))
    if isinstance(algorithm, AnalogSettings) and algorithm.needs_spu:
        found += list(_analog(algorithm, machine))
    if isinstance(algorithm, Tngd):
        found += list(_tngd(algorithm))
    if isinstance(algorithm, Ngd) and algorithm.method != "cg":
        keys = ("iterations", "tolerance", "warm_start")
        found += [key for key in keys if _differs(algorithm, key)]
    if isinstance(algorithm, Tngd | Ngd) and algorithm.curvature != "sampled_fisher":
        found += ["fisher_samples"] if _differs(algorithm, "fisher_samples") else []
    if isinstance(algorithm, Kfac):
        found += list(_kfac(algorithm))
        if len(machine.expand().usable_gpus()) > 1 and _differs(algorithm, "pipelining"):
            found.append("pipelining (several GPUs average over the whole backward pass)")
    paths = [f"training.algorithm.{key}" for key in found]
    if not isinstance(algorithm, Tngd) and _differs(scenario.host, "jacobian"):
        paths.append("host.jacobian (it is TNGD's)")
    training = scenario.training
    if training.amp != "none":
        reason = f"amp: {training.amp} takes all products"
        names = [n for n in type(training.tf32).model_fields if _differs(training.tf32, n)]
        paths += [f"training.tf32.{name} ({reason})" for name in names]
    if not algorithm.needs_spu:
        return paths + list(unused_parts.of_digital(machine, algorithm))
    spec = machine.expand()
    first_alone = isinstance(algorithm, Tngd) and algorithm.spus == "first"
    if first_alone:
        paths += unused_parts.of_one_spu(machine)
    elif isinstance(algorithm, Tngd) and len(spec.usable_spus()) == 1:
        paths.append("training.algorithm.spus (there is one SPU)")
    if (
        isinstance(algorithm, Kfac)
        and len(spec.usable_spus()) == 1
        and _differs(algorithm, "placement")
    ):
        paths.append("training.algorithm.placement (one SPU solves everything)")
    one_spu = first_alone or (machine.spus is not None and machine.spus.count == 1)
    return paths + list(_machine(machine, one_spu, _bufferings(scenario), timing_only))


def _training(algorithm: AlgorithmSettings) -> Iterator[str]:
    """Of the schedule, and of the optimizer, by itself or under ``update:``."""
    schedule = algorithm.schedule
    if schedule is not None and schedule.kind == "constant":
        yield from (f"schedule.{key}" for key in ("steps", "final") if _differs(schedule, key))
    alone = isinstance(algorithm, OptimizerSettings)
    optimizer = algorithm if alone else getattr(algorithm, "update", None)
    if isinstance(optimizer, Shampoo):
        prefix, grafting = "" if alone else "update.", optimizer.grafting
        if grafting != "adam" and _differs(optimizer, "grafting_beta2"):
            yield f"{prefix}grafting_beta2"
        if grafting in ("none", "sgd") and _differs(optimizer, "grafting_epsilon"):
            yield f"{prefix}grafting_epsilon"


def _analog(algorithm: AnalogSettings, machine: Machine) -> Iterator[str]:
    """Of how a solve settles and is rounded."""
    rule = algorithm.settling.rule
    for key, used_by in (("bits", "bits"), ("tolerance", "agreement"), ("first_tau", "agreement")):
        if rule != used_by and _differs(algorithm.settling, key):
            yield f"settling.{key.removesuffix('_tau')}"
    spec = machine.expand()
    spus = [node for node in spec.nodes if isinstance(node, SpuSpec)]
    if algorithm.rounding == "stochastic" and all(
        spu.input_bits is None and spu.bias_bits is None for spu in spus
    ):
        yield "rounding (input_bits and bias_bits are ideal: nothing is rounded)"


def _tngd(algorithm: Tngd) -> Iterator[str]:
    forced = algorithm.delay_tau is not None
    if algorithm.readout.samples == 1 and _differs(algorithm.readout, "spacing_tau"):
        yield "readout.spacing"
    if algorithm.spus != "iterated" and _differs(algorithm, "sweeps"):
        yield "sweeps"
    if algorithm.curvature != "ggn" and _differs(algorithm, "hessian_upload"):
        yield "hessian_upload"
    if algorithm.mode == "asynchronous" and not forced and _differs(algorithm, "settle_tau"):
        yield "settle"
    if forced and _differs(algorithm, "wait_tau"):
        yield "wait"
    if _reads_the_gradient(algorithm):
        remedy = "a delay below the settling time" if forced else "a wait"
        reason = "asynchronous with state: reset and no wait reads the gradient itself: this is SGD"
        yield f"mode ({reason}; set state: kept or {remedy})"


def _kfac(algorithm: Kfac) -> Iterator[str]:
    if not algorithm.thermodynamic:
        keys = ["upload", "settle_tau", "refinement", "rounding", "programmes"]
        keys += ["noise", "placement", "tiling"]
        yield from (_written(algorithm, key) for key in keys if _differs(algorithm, key))
        if any(
            _differs(algorithm.settling, name) for name in type(algorithm.settling).model_fields
        ):
            yield "settling"
    inversion = algorithm.inversion
    given = [name for name in type(inversion).model_fields if _differs(inversion, name)]
    if algorithm.thermodynamic and given:
        yield "inversion"
    elif inversion.kind == "cholesky":
        yield from (f"inversion.{name}" for name in given if name != "batched")
    if algorithm.method != "noise" and any(
        _differs(algorithm.covariance, k) for k in ("samples", "spacing_tau")
    ):
        yield "covariance"
    if (
        algorithm.method == "noise"
        and algorithm.covariance.samples == 1
        and _differs(algorithm.covariance, "spacing_tau")
    ):
        yield "covariance.spacing"
    if algorithm.method == "noise" and algorithm.placement == "columns":
        yield "placement (samples of one factor's noise are taken by one SPU: as auto)"
    if algorithm.fisher != "mc" and _differs(algorithm, "fisher_samples"):
        yield "fisher_samples"


def _written(algorithm: Kfac, name: str) -> str:
    """A field's name in the file."""
    return type(algorithm).model_fields[name].alias or name


def _reads_the_gradient(algorithm: Tngd) -> bool:
    """Is every reading taken at the moment at which the state was set to the gradient?"""
    wait_tau = (
        algorithm.wait_tau
        if algorithm.delay_tau is None
        else algorithm.settle_tau - algorithm.delay_tau
    )
    at_once = wait_tau == 0 and (
        algorithm.readout.samples == 1 or algorithm.readout.spacing_tau == 0
    )
    waits = algorithm.pipeline == "none"  # otherwise the clock runs on to the end of an upload
    return waits and algorithm.mode == "asynchronous" and algorithm.state == "reset" and at_once


def _bufferings(scenario: Scenario) -> frozenset[str]:
    """Those that do something else than the default."""
    algorithm = scenario.training.algorithm
    if isinstance(algorithm, Kfac) and algorithm.thermodynamic:
        return frozenset({"double"})
    free = isinstance(algorithm, Tngd) and algorithm.relaxes_while_written
    return frozenset({"double", "row_pairs"} if free else ())


def _machine(
    machine: Machine, one_spu: bool, bufferings: frozenset[str], timing_only: bool
) -> Iterator[str]:
    spus: dict[str, SpuChoice] = {
        f"machine.nodes.{n}": c for n, c in (machine.nodes or {}).items() if isinstance(c, SpuNode)
    }
    if machine.spus is not None:
        spus = {"machine.spus": machine.spus}
        if one_spu and machine.link is not None and _differs(machine.link, "sharing"):
            yield "machine.link.sharing"
    for path, choice in spus.items():
        if choice.buffering not in bufferings and _differs(choice, "buffering"):
            yield f"{path}.buffering"
        if not timing_only and _differs(choice, "activity_factor"):
            yield f"{path}.activity_factor"
    yield from unused_parts.of_any(machine)


def _differs(model: BaseModel, name: str) -> bool:
    return bool(getattr(model, name) != type(model).model_fields[name].default)
