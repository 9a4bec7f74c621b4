"""What a scenario file may say. ``python -m hybridsim.scenario.schema`` prints its JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hybridsim.scenario.circuits import circuit_complaints
from hybridsim.scenario.document import Node
from hybridsim.scenario.emit import emit
from hybridsim.scenario.fields import Complaint, Scalar, Short, Strict, Text, complain, wrong
from hybridsim.scenario.jacobian import JacobianForm, Wanted, needs_whole
from hybridsim.scenario.machine import GpuSpec, Machine
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.settings import Algorithm
from hybridsim.scenario.settings.kfac import Kfac
from hybridsim.scenario.settings.tngd import Tngd
from hybridsim.scenario.thresholds import Thresholds

_NOT_SHORTENED = "options"


def shipped_workloads() -> list[str]:
    """Names of the shipped workloads."""
    from importlib.resources import files

    return sorted(p.stem for p in Path(str(files("hybridsim.models.workloads"))).glob("[!_]*.py"))


class Workload(Strict):
    """Network, data and loss: a shipped name, or a Python file of the user's own."""

    source: Text = Field(description="shipped name, or path to a .py file relative to this file")
    options: dict[Text, Scalar] = Field(
        default_factory=dict, description="arguments of the workload's build()"
    )

    @field_validator("source", mode="after")
    @classmethod
    def _exists(cls, value: str) -> str:
        names = shipped_workloads()
        if not value.endswith(".py") and value not in names:
            raise wrong(
                one_of(names, value, "a shipped workload or a path ending in .py"), describe(value)
            )
        try:
            missing = value.endswith(".py") and not Path(value).is_file()
        except (OSError, ValueError):
            missing = True
        if missing:
            raise wrong("an existing workload file", describe(value))
        return value


class Host(Strict):
    """The computer that runs the simulation; results differ slightly between devices and thread
    counts.
    """

    device: Literal["cpu", "cuda"] = Field("cpu", description="where the tensors live")
    threads: int = Field(1, ge=1, le=1024, description="threads of torch")
    jacobian: JacobianForm = Field(
        "auto",
        description="TNGD: how the Jacobian is held; explicit: in memory; streamed: some columns "
        "at a time, by backward passes; products: inputs and output gradients of layers; auto: "
        "explicit up to 1 GiB, then products where layers have most of its columns, else "
        "streamed. What the machine sends and is priced for is the same",
    )


class Target(Strict):
    """When training counts as done: time and energy to this point are reported. One of the two."""

    test_accuracy: float | None = Field(
        None, gt=0, le=1, description="at least this share of the test set correct"
    )
    test_loss: float | None = Field(None, gt=0, description="at most this loss on the test set")

    @model_validator(mode="after")
    def _one(self) -> Target:
        given = [self.test_accuracy is not None, self.test_loss is not None]
        if sum(given) != 1:
            complain(
                [
                    Complaint(
                        (), "either test_accuracy or test_loss", "both" if all(given) else "neither"
                    )
                ]
            )
        return self


class Tf32(Strict):
    """NVIDIA's TF32 on the GPU: FP32 operands of products rounded to 10 bits of mantissa, summed in
    FP32. What is priced in TF32 is computed so.
    """

    matmul: bool = Field(
        False,
        description="matrix products; as torch.backends.cuda.matmul.allow_tf32, which PyTorch has "
        "off",
    )
    convolution: bool = Field(
        False,
        description="convolutions; as torch.backends.cudnn.allow_tf32, which PyTorch has ON: here "
        "FP32 unless asked for",
    )


class Training(Strict):
    """What is trained, for how long, and how."""

    batch_size: int = Field(32, ge=1, le=10_000_000, description="samples of a training step")
    steps: int = Field(200, ge=1, le=1_000_000_000, description="training steps")
    evaluate_every: int = Field(5, ge=1, description="steps between evaluations on the test set")
    diverged_above: float = Field(
        100.0, gt=1, description="a training loss so many times the first is told as a divergence"
    )
    precision: Literal["float32", "float64"] = Field(
        "float32",
        description="floating-point type of data and parameters, and so of what the GPU computes",
    )
    tf32: Tf32 = Field(
        default_factory=lambda: Tf32.model_validate({}), description="TF32 for products on the GPU"
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        "none",
        description="operands of all products on the GPU rounded to 16 bits, as torch.autocast "
        "does; results, parameters and other operators stay FP32, FP16's loss is not scaled",
    )
    algorithm: Algorithm = Field(description="how the parameters move")
    target: Target | None = Field(None, description="when training counts as done")

    @model_validator(mode="after")
    def _reduced(self) -> Training:
        """Only products of FP32 numbers are rounded."""
        reduced = self.amp != "none" or self.tf32.matmul or self.tf32.convolution
        if reduced and self.precision != "float32":
            expected = "float32 under tf32 and amp (FP64 is never rounded)"
            complain([Complaint(("precision",), expected, f"'{self.precision}'")])
        return self


class Scenario(Strict):
    """A training task, an algorithm and a machine."""

    name: Text = Field(description="title of the run")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of every random draw")
    workload: Annotated[Workload, Short("source")] = Field(description="network, data and loss")
    host: Host = Field(
        default_factory=lambda: Host.model_validate({}),
        description="the computer that runs the simulation",
    )
    training: Training = Field(description="what is trained, for how long, and how")
    machine: Machine = Field(description="the simulated hardware")
    thresholds: Thresholds | None = Field(
        None, description="what the run must come up to: `run` exits with 3 where it does not"
    )
    _source: str = PrivateAttr("")
    _root: Node = PrivateAttr(default_factory=lambda: Node({}, "scenario", None))

    @model_validator(mode="after")
    def _spu_needed(self) -> Scenario:
        algorithm = self.training.algorithm
        if algorithm.needs_spu and not self.machine.expand().usable_spus():
            expected = f"at least one SPU that the GPU reaches, for algorithm '{algorithm.kind}'"
            complain([Complaint(("machine",), expected, "none")])
        return self

    @model_validator(mode="after")
    def _circuits(self) -> Scenario:
        complain(list(circuit_complaints(self.machine, self.training.algorithm)))
        return self

    @model_validator(mode="after")
    def _jacobian_in_parts(self) -> Scenario:
        whole, form = self.wanted_jacobian.whole, self.host.jacobian
        if whole and form not in ("auto", "explicit"):
            complain([Complaint(("host", "jacobian"), f"auto or explicit {whole}", f"'{form}'")])
        return self

    @model_validator(mode="after")
    def _units_there(self) -> Scenario:
        """A GPU without units for a format would compute in FP32."""
        spec, tf32 = self.machine.expand(), self.training.tf32
        asked = {
            ("tf32", "matmul"): ("peak_tf32_flop_per_s", tf32.matmul),
            ("tf32", "convolution"): ("peak_tf32_flop_per_s", tf32.convolution),
            ("amp",): ("peak_bf16_flop_per_s", self.training.amp != "none"),
        }
        sheets = {n.sheet.name: n.sheet for n in spec.nodes if isinstance(n, GpuSpec)}
        complain(
            [
                Complaint(("training", *path), f"a GPU with a {peak} above 0", name)
                for path, (peak, wanted) in asked.items()
                for name, sheet in sheets.items()
                if wanted and not sheet.value(peak)
            ]
        )
        return self

    @model_validator(mode="after")
    def _equal_shares(self) -> Scenario:
        gpus, size = len(self.machine.expand().usable_gpus()), self.training.batch_size
        if size % gpus and not self.training.algorithm.one_gpu:
            complain(
                [
                    Complaint(
                        ("training", "batch_size"),
                        f"a multiple of {gpus}, the number of GPUs",
                        str(size),
                    )
                ]
            )
        return self

    @model_validator(mode="after")
    def _buffered(self) -> Scenario:
        """The state relaxes while the next system is on its way and written."""
        algorithm, spec = self.training.algorithm, self.machine.expand()
        if not isinstance(algorithm, Tngd) or not algorithm.relaxes_while_written:
            return self
        spus = spec.used_spus(algorithm.spus == "first")
        if algorithm.pipeline == "upload" and any(spu.buffering != "double" for spu in spus):
            expected = "none without a second set of resistors (buffering: double)"
            complain([Complaint(("training", "algorithm", "pipeline"), expected, "'upload'")])
        gpus = len(spec.usable_gpus())
        several = f"{gpus} GPUs" if gpus > 1 else f"{len(spus)} SPUs that hold one system together"
        expected = f"single or double with {several} (rows are written in pairs from one to one)"
        names = {"spus", *(spu.name for spu in spus)} if max(gpus, len(spus)) > 1 else set()
        complain(
            [
                Complaint(("machine", *path, "buffering"), expected, "'row_pairs'")
                for path, choice in self.machine.spu_choices().items()
                if choice.buffering == "row_pairs" and path[-1] in names
            ]
        )
        return self

    @model_validator(mode="after")
    def _data_parallel(self) -> Scenario:
        gpus, algorithm = len(self.machine.expand().usable_gpus()), self.training.algorithm
        if gpus > 1 and isinstance(algorithm, Tngd):
            where = ("training", "algorithm")
            found = algorithm.complaints_of_gpus(gpus)
            complain([Complaint((*where, *c.path), c.expected, c.got) for c in found])
        return self

    @model_validator(mode="after")
    def _averaged_activations(self) -> Scenario:
        gpus, algorithm = len(self.machine.expand().usable_gpus()), self.training.algorithm
        if gpus > 1 and isinstance(algorithm, Kfac) and algorithm.upload == "activations":
            expected = f"factors with {gpus} GPUs (activations of shares are not averaged)"
            complain([Complaint(("training", "algorithm", "upload"), expected, "'activations'")])
        return self

    @model_validator(mode="after")
    def _answerable(self) -> Scenario:
        """A threshold on what no run of this scenario can have is a mistake."""
        algorithm, found = self.training.algorithm, []
        for name, *_ in self.thresholds.asked() if self.thresholds is not None else ():
            if "_to_target" in name and self.training.target is None:
                found.append(Complaint(("thresholds", name), "a training.target", "none"))
            if name.startswith("solver_") and not algorithm.needs_spu:
                expected = "an algorithm with analog answers"
                found.append(Complaint(("thresholds", name), expected, f"'{algorithm.kind}'"))
        complain(found)
        return self

    @property
    def wanted_jacobian(self) -> Wanted:
        """How the simulation is to hold the Jacobian."""
        return Wanted(self.host.jacobian, needs_whole(self.training, self.machine.expand()))

    @property
    def source(self) -> str:
        """Where the scenario came from; not part of equality."""
        return self._source

    @property
    def root(self) -> Node:
        """The document that it was loaded from, which knows files and lines; not part of
        equality.
        """
        return self._root

    def __eq__(self, other: object) -> bool:
        """Same fields."""
        return isinstance(other, Scenario) and self.document() == other.document()

    def __hash__(self) -> int:
        return hash(self.to_yaml())

    def document(self) -> dict[str, Raw]:
        """Plain maps in the user's form: quantities as texts, every default written out."""
        document: dict[str, Raw] = _shorten(self.model_dump(by_alias=True))
        return document

    def to_yaml(self) -> str:
        """A scenario file that loads to an equal scenario, with every default written out."""
        return emit(self.document())


def _shorten(value: Raw) -> Raw:
    """Leave out what is not set."""
    if isinstance(value, dict):
        kept = {
            k: v if k == _NOT_SHORTENED else _shorten(v) for k, v in value.items() if v is not None
        }
        first = {k: kept[k] for k in ("kind", "count") if k in kept}
        return first | {k: v for k, v in kept.items() if not (k == _NOT_SHORTENED and v == {})}
    return [_shorten(item) for item in value] if isinstance(value, (list, tuple)) else value


class WithUnits(GenerateJsonSchema):
    """Defaults as a user would write them: ``50 tau`` rather than 50.0."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The field's own writer writes its default."""
        result = super().default_schema(schema)
        writer: Raw = schema["schema"].get("serialization") or {}
        if "default" in schema and writer.get("type") == "function-plain":
            result["default"] = writer["function"](schema["default"])
        return result


def json_schema() -> dict[str, Raw]:
    """JSON schema of a scenario file; a file that extends another need not be complete by
    itself.
    """
    full = Scenario.model_json_schema(by_alias=True, schema_generator=WithUnits)
    definitions = full.pop("$defs")
    full["properties"]["extends"] = {
        "type": "string",
        "description": "scenario that this one builds on",
    }
    partial = _partial(full)
    definitions |= {f"{name}.partial": _partial(body) for name, body in definitions.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hybridsim scenario",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": partial,
        "else": full,
        "$defs": definitions,
    }


def _partial(schema: Raw) -> Raw:
    """The same schema with nothing required."""
    if isinstance(schema, list):
        return [_partial(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    relaxed = {}
    for key, value in schema.items():
        if key == "$ref":
            relaxed[key] = f"{value}.partial"
        elif key not in ("required", "discriminator"):
            relaxed["anyOf" if key == "oneOf" else key] = _partial(value)
    return relaxed


def json_schema_text() -> str:
    """The text of scenarios/scenario.schema.json."""
    return json.dumps(json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema_text(), end="")
