"""What a run folder says about where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.settings.kfac import Kfac

SCHEMA_VERSION = 1
_PACKAGES = ("hybridsim", "torch", "numpy", "simpy", "pandas", "pyarrow", "scikit-learn")


def manifest(scenario: Scenario, backend: str, salt: bytes, workload_key: str) -> dict[str, Any]:
    """Schema version, seed, versions, source revision, hashes and the machine with every constant
    and its source.
    """
    text = scenario.to_yaml()
    return {
        "schema_version": SCHEMA_VERSION,
        "name": scenario.name,
        "seed": scenario.seed,
        "backend": backend,
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        "git_revision": git_revision(),
        "hashes": {
            "scenario": hashlib.sha256(text.encode()).hexdigest(),
            "workload": workload_key,
            "numerics": salt.hex(),
        },
        "machine": expanded(scenario.machine.expand()),
        "model_assumptions": model_assumptions(scenario, backend),
    }


def model_assumptions(scenario: Scenario, backend: str) -> list[str]:
    """What the model takes for granted in this run, besides the constants."""
    kind, spec = scenario.training.algorithm.kind, scenario.machine.expand()
    found = [
        "The training data lies in the GPU's memory; loading it costs nothing.",
        "GPU kernels run one after the other, unfused; dynamic power follows the roofline's "
        "utilisation.",
    ]
    gpus = len(spec.usable_gpus())
    if gpus > 1 and kind != "tngd":
        found += [
            f"{gpus} GPUs train data-parallel: each holds all parameters and all training data "
            "and takes an equal share "
            "of every batch.",
            "Collectives are rings that start when all GPUs are ready; in an all-reduce every "
            "addition is a kernel of its "
            "own, where libraries have one for all.",
        ]
    elif gpus > 1:
        found.append("TNGD computes on the first GPU; the others draw idle power.")
    if any(node.kind == "switch" for node in spec.nodes):
        found.append(
            "Switches take no time and no energy, and carry any number of messages at once."
        )
    algorithm = scenario.training.algorithm
    if not algorithm.needs_spu:
        return found
    found += [
        "Every stage of the SPU has a programmable gain that just fits each settling (automatic "
        "full scales).",
        "Amplifiers that the largest system does not need are gated off; the others draw their "
        "power all the time.",
        "Integrators are preset to a start state at no cost.",
        "No component mismatch, no Johnson noise, no finite amplifier bandwidth.",
    ]
    if isinstance(algorithm, Kfac):
        found.append(
            "A factor is sent whole, n^2 numbers, to every SPU that solves its columns, also "
            "over a shared wire; its damping "
            "and unit columns cost no transfer."
        )
        if algorithm.method == "noise":
            found.append("Samples of the noise are converted after the trajectory, not during it.")
    if any(
        None in (n.input_bits, n.bias_bits, n.output_bits) for n in spec.nodes if n.kind == "spu"
    ):
        found.append(
            "Ideal converters and resistors are sent and priced as the link's unquantized numbers."
        )
    if backend == "timing":
        found.append(
            "Without tensors, settling dissipates an estimate: every programmable resistor at R "
            "and full scale, times activity_factor. "
            "Conductances above 1/R, damping and feedback resistors can dissipate more."
        )
    return found


def expanded(spec: MachineSpec) -> dict[str, Any]:
    """The machine as plain data: nodes and edges with their datasheets."""
    return {
        "nodes": [_plain(node) for node in spec.nodes],
        "edges": [_plain(edge) for edge in spec.edges],
    }


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


def _plain(item: Any) -> dict[str, Any]:
    """A node or an edge as a dict; its datasheet spelled out."""
    fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    sheet = fields.pop("sheet")
    if sheet is not None:
        constants = {name: dataclasses.asdict(entry) for name, entry in sheet.constants.items()}
        fields["sheet"] = {"kind": sheet.kind, "name": sheet.name, "constants": constants}
    return fields
