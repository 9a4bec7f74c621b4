"""Fields that a search changes: ranges and choices, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.scenario.fields import Complaint, Scalar, Strict, complain
from hybridsim.scenario.quantity import Raw, describe, expectation, unit_of
from hybridsim.studies.axes import Range
from hybridsim.studies.expansion import is_within, refusal
from hybridsim.studies.questions._axes import Trouble, takes_whole
from hybridsim.studies.questions._sampler import Space
from hybridsim.studies.values import number

if TYPE_CHECKING:
    from hybridsim.studies.schema import Study


class Span(Strict):
    """Where a field's value is looked for: between two ends, or among choices."""

    low: Scalar = Field(None, description="lower end, as the field is written")
    high: Scalar = Field(None, description="upper end, as the field is written")
    scale: Literal["linear", "log"] = Field("linear", description="how the range is divided")
    choices: list[Scalar] | None = Field(
        None, min_length=2, description="values to choose among, in place of a range"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Span:
        ends = [self.low is not None, self.high is not None]
        if self.choices is None and not all(ends):
            complain(
                [
                    Complaint(
                        (), "low and high, or choices", "neither" if not any(ends) else "one end"
                    )
                ]
            )
        if self.choices is not None and any(ends):
            complain([Complaint((), "low and high, or choices", "both")])
        return self

    @property
    def values(self) -> list[Raw]:
        """Both ends, or all choices."""
        return [self.low, self.high] if self.choices is None else list(self.choices)


def space_of(study: Study, side: str, field: str, span: Span) -> Space:
    """The field's values as the sampler divides them."""
    if span.choices is not None:
        return Space(field, tuple(span.choices), None)
    whole = takes_whole(study, [side], field, [span.low, span.high])
    return Space(field, (), Range(span.low, span.high, span.scale == "log", whole))


def span_problems(study: Study, side: str, fields: Mapping[str, Span]) -> Trouble:
    """Fields that cannot vary; ends that are no numbers or in the wrong order; values that the
    scenario refuses, whatever one of the other fields is.
    """
    found: Trouble = []
    for field, span in fields.items():
        path, refused = ("question", "fields", field), refusal(field, varies=True)
        wrong = _end_problem(span) if span.choices is None else None
        if refused is not None:
            found.append((path, refused, describe(field)))
        elif wrong is not None:
            found.append(((*path, wrong[0]), *wrong[1:]))
        else:
            for value in span.values:
                found += [
                    (path, problem.expected, problem.got)
                    for problem in _refusals(study, side, field, Node(value, "study", None))
                    if not _fits_with_another(study, side, field, value, fields)
                ]
    return [*dict.fromkeys(found)]


def _fits_with_another(
    study: Study, side: str, field: str, value: Raw, fields: Mapping[str, Span]
) -> bool:
    return any(
        fits(study, side, {field: value, other: one})
        for other, span in fields.items()
        if other != field and refusal(other, varies=True) is None
        for one in span.values
    )


def fits(study: Study, side: str, values: Mapping[str, Raw]) -> bool:
    """Does a side's scenario take the values together?"""
    nodes = {field: Node(value, "study", None) for field, value in values.items()}
    try:
        study.expansion.scenario(side, nodes)
    except InputError:
        return False
    return True


def _refusals(study: Study, side: str, field: str, node: Node) -> list[Problem]:
    """What a scenario says against a value of a field; that it has no such field, too."""
    try:
        study.expansion.scenario(side, {field: node})
    except InputError as error:
        own = [problem for problem in error.problems if is_within(problem, field)]
        return own or list(error.problems[:1])
    return []


def _end_problem(span: Span) -> tuple[str, str, str] | None:
    low, high = number(span.low, span.low), number(span.low, span.high)
    if low is None:
        return "low", "a number, or a quantity like '50 Gb/s'", describe(span.low)
    if high is None:
        unit = unit_of(span.low)
        expected = "a number, as low is" if unit is None else expectation(unit)
        return "high", expected, describe(span.high)
    if not low < high:
        return "high", f"a value above low ({describe(span.low)})", describe(span.high)
    if span.scale == "log" and low <= 0:
        return "low", "a value above zero, for a logarithmic scale", describe(span.low)
    return None
