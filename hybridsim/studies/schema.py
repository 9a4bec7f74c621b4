"""What a study file may say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PrivateAttr, model_validator

from hybridsim.errors import InputError
from hybridsim.results.solves import MOST_ERROR
from hybridsim.scenario.document import Node
from hybridsim.scenario.fields import Complaint, Short, Strict, Text, complain
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.schema import Scenario, WithUnits
from hybridsim.studies.axes import Axis, values_of_side
from hybridsim.studies.catalogue import AnyQuestion
from hybridsim.studies.expansion import Expansion
from hybridsim.studies.fields import LARGEST_SEED, SeedList, Value

Fields = dict[Text, Raw]
"""Values by dotted field of a scenario."""


class SideChoice(Strict):
    """A scenario that a study runs, and what is changed in it."""

    scenario: Text = Field(description="shipped name, or path relative to this file")
    fields: Fields = Field(
        default_factory=dict, alias="set", description="fields of this side's scenario"
    )


class Sample(Strict):
    """Values drawn between two ends."""

    low: Value = Field(description="lower end, as the field is written")
    high: Value = Field(description="upper end, as the field is written")
    count: int = Field(ge=1, le=100_000, description="values; the same on every sampled axis")
    scale: Literal["linear", "log"] = Field(
        "linear", description="uniform in the value or in its logarithm"
    )


class AxisChoice(Strict):
    """What varies: a field with ``grid`` or ``sample``, or several with ``zip``."""

    field: Text | None = Field(None, description="dotted field of a scenario, as for --set")
    grid: list[Value] | None = Field(None, description="its values, one after the other")
    sample: Sample | None = Field(
        None,
        description="values drawn from a range; all sampled axes together are one Latin hypercube",
    )
    columns: dict[Text, list[Value]] | None = Field(
        None, alias="zip", description="fields with their values, which vary together"
    )
    sides: list[Text] | None = Field(
        None, description="sides that the axis applies to; default: all"
    )

    @model_validator(mode="after")
    def _one_form(self) -> AxisChoice:
        forms = {"grid": self.grid, "sample": self.sample, "zip": self.columns}
        given = [name for name, value in forms.items() if value is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            complain([Complaint((), "one of grid, sample and zip", got)])
        if given == ["zip"] and self.field is not None:
            complain([Complaint(("field",), "fields inside zip", describe(self.field))])
        if given != ["zip"] and self.field is None:
            complain([Complaint(("field",), "a value for this required field", "nothing")])
        return self


class Tuning(Strict):
    """Settings that each side chooses for itself, on seeds of their own, with equal budgets."""

    seeds: Annotated[tuple[int, ...], SeedList(or_number=False)] = Field(
        description="seeds to choose on; none of the study's own"
    )
    fields: dict[Text, dict[Text, list[Value]]] = Field(
        description="side -> field -> values; every combination is tried"
    )


class Gate(Strict):
    """What an answer must come up to before it may decide anything."""

    solver_error: float = Field(
        MOST_ERROR,
        gt=0,
        description="median relative error above which an analog answer is no solution",
    )


class Side(NamedTuple):
    """A scenario that a study runs.

    Attributes:
        name: what the study calls it.
        source: shipped name or absolute path of its scenario.
        fields: what the study sets in it, before any axis: its own and those of all sides.
    """

    name: str
    source: str
    fields: dict[str, Raw]


class Plan(Strict):
    """A study without its question: which runs there are."""

    base: Annotated[SideChoice, Short("scenario")] | None = Field(
        None, description="the one scenario; its side is called after the file"
    )
    scenarios: dict[Text, Annotated[SideChoice, Short("scenario")]] | None = Field(
        None, description="several scenarios: the study's sides by name"
    )
    fields: Fields = Field(
        default_factory=dict, alias="set", description="fields that are set on every side"
    )
    axis_choices: list[AxisChoice] = Field(
        default_factory=list, alias="axes", description="what varies; every combination is run"
    )
    seeds: Annotated[tuple[int, ...], SeedList()] = Field(
        (0,), description="seeds of every side's runs: a number n for 0 to n - 1, or a list"
    )
    draw_seed: int = Field(
        0, ge=0, le=LARGEST_SEED, description="seed of what the study itself draws"
    )
    tuning: Tuning | None = Field(
        None, description="settings that each side chooses on other seeds first"
    )
    backend: Literal["live", "timing"] = Field(
        "live", description="timing: nothing is trained, only schedule and energy"
    )
    gate: Gate = Field(
        default_factory=lambda: Gate.model_validate({}),
        description="what an answer must come up to before it may decide anything",
    )
    _source: str = PrivateAttr("")
    _root: Node = PrivateAttr(default_factory=lambda: Node({}, "study", None))
    _axes: tuple[Axis, ...] = PrivateAttr(())
    _expansion: Expansion = PrivateAttr(default_factory=lambda: Expansion({}))

    @model_validator(mode="after")
    def _some_side(self) -> Plan:
        if (self.base is None) == (self.scenarios is None):
            got = "neither" if self.base is None else "both"
            complain([Complaint((), "either base or scenarios", got)])
        if self.scenarios == {}:
            complain([Complaint(("scenarios",), "at least one scenario", "an empty map")])
        return self

    @property
    def sides(self) -> tuple[Side, ...]:
        """The scenarios that are run, in the file's order."""
        return tuple(
            Side(name, choice.scenario, {**self.fields, **choice.fields})
            for name, choice in self.choices.items()
        )

    @property
    def choices(self) -> dict[str, SideChoice]:
        """What the file says of each side."""
        if self.base is not None:
            return {Path(self.base.scenario).stem: self.base}
        return self.scenarios or {}

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What varies, with its values, in the file's order."""
        return self._axes

    @property
    def source(self) -> str:
        """Where the study came from."""
        return self._source

    @property
    def root(self) -> Node:
        """The document that it was loaded from, which knows files and lines."""
        return self._root

    @property
    def expansion(self) -> Expansion:
        """The scenarios of its sides under values of fields."""
        return self._expansion

    def scenarios_of(self, side: str) -> Iterator[Scenario]:
        """A side's scenario under every combination of the values that apply to it, in order,
        without any that is not valid.
        """
        for values in values_of_side(self.axes, side):
            try:
                scenario = self._expansion.scenario(side, values)
            except InputError:
                continue
            yield scenario


class Study(Plan):
    """Many scenarios and a question."""

    name: Text = Field(description="title of the study")
    question: AnyQuestion = Field(description="what the study answers")

    def __eq__(self, other: object) -> bool:
        """Same fields."""
        return isinstance(other, Study) and self.document() == other.document()

    def __hash__(self) -> int:
        return hash(json.dumps(self.document(), sort_keys=True))

    def document(self) -> dict[str, Raw]:
        """Plain maps that load to an equal study from anywhere, with every default written out."""
        found: dict[str, Raw] = {"name": self.name}
        found |= _set_fields(self.model_dump(by_alias=True))
        found["axes"] = [_set_fields(axis) for axis in found["axes"]]
        found["question"] = _set_fields(found["question"])
        return found


def _set_fields(dumped: dict[str, Raw]) -> dict[str, Raw]:
    return {key: value for key, value in dumped.items() if value is not None}


def json_schema() -> dict[str, Raw]:
    """JSON schema of a study file."""
    full = Study.model_json_schema(by_alias=True, schema_generator=WithUnits)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **full,
        "title": "hybridsim study",
        "oneOf": [{"required": ["base"]}, {"required": ["scenarios"]}],
    }


def json_schema_text() -> str:
    """The text of scenarios/studies/study.schema.json."""
    return json.dumps(json_schema(), indent=1) + "\n"
