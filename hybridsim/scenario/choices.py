"""Which part stands where, and which of its constants the scenario sets itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, create_model, field_validator, model_validator

from hybridsim.errors import InputError
from hybridsim.scenario.datasheets.constant import ConstantSpec
from hybridsim.scenario.datasheets.constants import CONSTANTS, DEFAULT_HOST, PartKind
from hybridsim.scenario.datasheets.sheets import Datasheet, load_part
from hybridsim.scenario.fields import (
    Bits,
    Bytes,
    Complaint,
    Short,
    ShortOrFree,
    Strict,
    Text,
    Unit,
    complain,
)
from hybridsim.scenario.imperfections import REALISTIC, Imperfections
from hybridsim.scenario.quantity import Raw


class PartChoice(Strict):
    """A part by name or path, with constants of its datasheet overridden."""

    part_kind: ClassVar[PartKind]
    part: Text = Field(description="shipped part or path to a datasheet")

    @field_validator("part", mode="after")
    @classmethod
    def _exists(cls, value: str) -> str:
        _check_part(cls.part_kind, value)
        return value

    def overrides(self) -> dict[str, float]:
        """Constants set in the scenario, by SI name."""
        values = ((spec.name, getattr(self, spec.name)) for spec in CONSTANTS[self.part_kind])
        return {name: float(value) for name, value in values if value is not None}

    def sheet(self, constant_set: str) -> Datasheet:
        """The part's datasheet, then the constant set, then the scenario's own values."""
        return (
            load_part(self.part_kind, self.part).with_set(constant_set).overridden(self.overrides())
        )


def _check_part(kind: PartKind, value: str) -> None:
    try:
        load_part(kind, value)
    except InputError as error:
        complain([_complaint(problem) for problem in error.problems])


def _complaint(problem: Raw) -> Complaint:
    if problem.file == "part":
        return Complaint((), problem.expected, problem.got)
    return Complaint((), "", "", problem)


def _field(spec: ConstantSpec) -> Raw:
    text = f"{spec.meaning}; default: the part's"
    bounds: dict[str, Raw] = {"gt": 0} if spec.positive else {"ge": 0}
    if spec.resolution:
        text = f"{spec.meaning.partition(';')[0]}, or ideal: no rounding; default: the part's"
        return (Bits | None, Field(None, alias=spec.key, description=text))
    if spec.unit:
        kind: Raw = Annotated[float, Unit(spec.unit, **bounds)]
    else:
        kind = Annotated[int if spec.whole else float, Field(le=spec.at_most, **bounds)]
    return (kind | None, Field(None, alias=spec.key, description=text))


def _with_constants(kind: PartKind) -> Raw:
    """One optional field per constant of the kind; ``bandwidth:`` sets ``bandwidth_bit_per_s``."""
    fields = {spec.name: _field(spec) for spec in CONSTANTS[kind]}
    return create_model(f"_{kind.title()}Constants", __base__=PartChoice, **fields)


if TYPE_CHECKING:
    _GpuBase = PartChoice
    _LinkBase = PartChoice
    _SpuBase = PartChoice
else:
    _GpuBase, _LinkBase, _SpuBase = (_with_constants(kind) for kind in ("gpu", "link", "spu"))

_Buffering = Literal["single", "double", "row_pairs"]
Circuit = Literal["summing", "passive", "capacitive"]
NVLINKS = {
    "v100-sxm2-32gb": "nvlink2",
    "a100-sxm4-80gb": "nvlink3",
    "h100-sxm5-80gb": "nvlink4",
    "h200-sxm": "nvlink4",
}
"""What connects several GPUs of a shipped part unless the scenario says otherwise."""
OTHER_INTERCONNECT = "pcie5"


class GpuChoice(_GpuBase):
    """A digital processor."""

    part_kind: ClassVar[PartKind] = "gpu"
    host: Text | None = Field(
        None,
        description="shipped host or path to a datasheet; default: the part's own host constants, "
        f"else {DEFAULT_HOST}",
    )
    launch: Literal["eager", "graph"] = Field(
        "eager",
        description="eager: the host launches every kernel; graph: an operation is one CUDA graph",
    )

    @field_validator("host", mode="after")
    @classmethod
    def _host_exists(cls, value: str | None) -> str | None:
        if value is not None:
            _check_part("host", value)
        return value

    def sheet(self, constant_set: str) -> Datasheet:
        """As of any part, with the host's constants over the part's own."""
        found = load_part("gpu", self.part)
        if self.host is not None:
            host = load_part("host", self.host)
            found = replace(found, constants={**found.constants, **host.constants})
        return found.with_set(constant_set).overridden(self.overrides())


class LinkChoice(_LinkBase):
    """The wire of an edge."""

    part_kind: ClassVar[PartKind] = "link"
    part: Text = Field("paper-50gbps", description="shipped link or path to a datasheet")
    chunk_byte: Bytes | None = Field(
        None,
        alias="chunk",
        description="transfers are cut into pieces of this size, for fairness; default: never",
    )

    def chunk_bits(self) -> int | None:
        """Size of a piece, None: transfers are not cut."""
        return None if self.chunk_byte is None else round(self.chunk_byte * 8)


def _without_default(schema: dict[str, Raw]) -> None:
    """The default depends on another field."""
    schema.pop("default", None)


class InterconnectChoice(LinkChoice):
    """The wire from each of several GPUs to the switch between them."""

    part: Text = Field(
        OTHER_INTERCONNECT,
        description="shipped link or path to a datasheet; default: the GPU's NVLink where it is "
        "a shipped part that "
        f"has one, else {OTHER_INTERCONNECT}",
        json_schema_extra=_without_default,
    )


class GpusChoice(GpuChoice):
    """The short machine's GPUs, all alike."""

    count: int = Field(
        1, ge=1, le=64, description="number of GPUs; several share every batch equally"
    )
    interconnect: Annotated[InterconnectChoice, Short("part")] | None = Field(
        None,
        description="of several GPUs: from each to a switch; default: the GPU's NVLink, "
        f"without one {OTHER_INTERCONNECT}",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_interconnect(cls, value: Raw) -> Raw:
        """Several GPUs are connected by the links that they have."""
        if not isinstance(value, dict):
            return value
        given, count, part = (value.get(key) for key in ("interconnect", "count", "part"))
        if given is None and not (type(count) is int and count > 1):
            return value
        if given is not None and not (isinstance(given, dict) and "part" not in given):
            return value
        default = (
            NVLINKS.get(part, OTHER_INTERCONNECT) if isinstance(part, str) else OTHER_INTERCONNECT
        )
        return {**value, "interconnect": {"part": default, **(given or {})}}


class SharedLinkChoice(LinkChoice):
    """The short machine's link."""

    sharing: Literal["shared", "private"] = Field(
        "shared", description="one bus for all SPUs, or one link for each"
    )


class SpuChoice(_SpuBase):
    """An analog processor."""

    part_kind: ClassVar[PartKind] = "spu"
    part: Text = Field("rc-1us", description="shipped SPU or path to a datasheet")
    buffering: _Buffering = Field(
        "single",
        description="single: integrators are held while resistors are written; double: a second "
        "set, swapped; row_pairs: the circuit relaxes while rows of J and of its transpose are "
        "written together, in four chunks (asynchronous TNGD on one SPU and one GPU)",
    )
    circuit: Circuit = Field(
        "summing",
        description="summing: amplifiers, any matrix; passive: resistors alone, diagonally "
        "dominant matrices with off-diagonals <= 0; capacitive: the matrix in capacitors, which "
        "only noise sees",
    )
    dual_rail: bool = Field(
        False,
        description="passive, capacitive: every node has a complement, for positive off-diagonals",
    )
    imperfections: Annotated[Imperfections, Short("base")] = Field(
        REALISTIC,
        description="what it does otherwise than an ideal one; default: realistic, with "
        "constants: paper ideal",
        json_schema_extra=_without_default,
    )
    instance: int = Field(
        0,
        ge=0,
        description="which device of its kind: mismatch, offsets, dead cells and converters are "
        "drawn for it; of several SPUs each further one has the next number",
    )
    area_limit_m2: Annotated[float, Unit("m2", gt=0)] | None = Field(
        None,
        alias="area_limit",
        description="a run that takes a larger device is refused; default: none is",
    )


class SpusChoice(SpuChoice):
    """The short machine's SPUs, all alike."""

    count: int = Field(1, ge=0, le=4096, description="number of SPUs")


class GpuNode(GpuChoice):
    """A digital processor of the general machine."""

    kind: Literal["gpu"]


class SpuNode(SpuChoice):
    """An analog processor of the general machine."""

    kind: Literal["spu"]


class SwitchNode(Strict):
    """A place where links meet; it costs nothing itself."""

    kind: Literal["switch"]


class Edge(Strict):
    """A link between two nodes of the general machine."""

    between: tuple[Text, Text] = Field(description="names of two nodes", strict=False)
    link: Annotated[LinkChoice | None, ShortOrFree("part", "free")] = Field(
        description="the wire: a part, a map, or free (no time, no energy)"
    )


NodeChoice = Annotated[GpuNode | SpuNode | SwitchNode, Field(discriminator="kind")]
