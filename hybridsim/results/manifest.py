"""What a run folder says about where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from functools import cache
from pathlib import Path

from hybridsim.algorithms.base import TIMING_ASSUMPTION
from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.results.environment import computer, releases
from hybridsim.results.integrity import SCHEMA_VERSION
from hybridsim.results.keys import Json
from hybridsim.scenario.machine import GpuSpec, MachineSpec, NodeSpec
from hybridsim.scenario.schema import Scenario, Training
from hybridsim.scenario.unbuildable import unbuildable_parts
from hybridsim.tasks.task import Task


def manifest(scenario: Scenario, backend: str, salt: bytes, task: Task) -> dict[str, Json]:
    """Schema version, seed, versions, the computer, source revision, hashes and the machine with
    every constant and its source.
    """
    text = scenario.to_yaml()
    return {
        "schema_version": SCHEMA_VERSION,
        "name": scenario.name,
        "seed": scenario.seed,
        "backend": backend,
        "versions": releases(),
        "computer": computer(scenario.host.device, scenario.host.threads),
        "git_revision": git_revision(),
        "hashes": {
            "scenario": hashlib.sha256(text.encode()).hexdigest(),
            "workload": task.key,
            "numerics": salt.hex(),
        },
        "machine": expanded(scenario.machine.expand()),
        "model_assumptions": model_assumptions(scenario, backend, task),
        "unbuildable": unbuildable_parts(scenario),
    }


def model_assumptions(scenario: Scenario, backend: str, task: Task) -> list[str]:
    """What the model takes for granted in this run, besides the constants."""
    settings, spec = scenario.training.algorithm, scenario.machine.expand()
    found = algorithm_of(settings).assumptions(settings, spec, task) + _arithmetic(
        scenario.training
    )
    found += _errors_of_gpus(spec)
    timing = backend == "timing" and settings.needs_spu
    return [*found, TIMING_ASSUMPTION] if timing else found


def _errors_of_gpus(spec: MachineSpec) -> list[str]:
    """How far times of the GPUs' model are from measurements."""
    found = []
    sheets = {node.sheet.name: node.sheet for node in spec.nodes if isinstance(node, GpuSpec)}
    for sheet in sheets.values():
        given = [name for name, c in sheet.constants.items() if c.status == "given"]
        checked = sheet.checked or "its times were checked against no measurement"
        if sheet.checked and any(name.endswith(("_efficiency", "_step_s")) for name in given):
            checked += " (not with the constants that this scenario sets)"
        found.append(f"GPU model, {sheet.name}: {checked}.")
    return found


def _arithmetic(training: Training) -> list[str]:
    """In what products are computed, where it is not the type that all else has."""
    kinds = {"matrix products": training.tf32.matmul, "convolutions": training.tf32.convolution}
    rounded, form = " and ".join(kind for kind, asked in kinds.items() if asked), "TF32"
    if training.amp != "none":
        rounded, form = "all products", training.amp.upper()
    if not rounded:
        return []
    return [
        f"FP32 operands of {rounded} on the GPU are rounded to {form} (nearest, ties to even) and "
        "summed in FP32; results, element-wise operators and factorisations stay FP32."
    ]


def expanded(spec: MachineSpec) -> dict[str, Json]:
    """The machine as plain data: nodes and edges with their datasheets."""
    return {
        "nodes": [_plain(node) for node in spec.nodes],
        "edges": [_plain(edge) for edge in spec.edges],
    }


@cache  # of the sources that this process has loaded
def git_revision() -> str | None:
    """Revision of the checkout that the sources lie in; None for an installed package."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        listed = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
        )
        if listed.returncode != 0:
            return None
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(item: Json) -> dict[str, Json]:
    """A node or an edge as a dict; its datasheet spelled out."""
    fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    if isinstance(item, NodeSpec):
        fields["kind"] = item.kind
    sheet = fields.pop("sheet", None)
    if sheet is not None:
        constants = {name: dataclasses.asdict(entry) for name, entry in sheet.constants.items()}
        fields["sheet"] = {"kind": sheet.kind, "name": sheet.name, "constants": constants}
    return fields
