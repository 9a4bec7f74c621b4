"""Kinds of field that a study is made of beside those of a scenario: values of any field, seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hybridsim.scenario.fields import Complaint, complain, wrong
from hybridsim.scenario.quantity import Raw, describe

MOST_SEEDS = 10_000
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class _Value:
    """Annotation of a value that a field takes: a text, a number or a boolean."""

    def check(self, value: Raw) -> Raw:
        """The value itself."""
        finite = not isinstance(value, float) or abs(value) < float("inf")
        if type(value) not in (str, int, float, bool) or not finite:
            raise wrong("a text, a finite number, true or false", describe(value))
        return value

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A plain check."""
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Raw scalar."""
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True)
class SeedList:
    """Annotation of a list of seeds, or of a number n that stands for 0 to n - 1."""

    or_number: bool = True

    def parse(self, value: Raw) -> tuple[int, ...]:
        """All seeds."""
        if self.or_number and type(value) is int and 1 <= value <= MOST_SEEDS:
            return tuple(range(value))
        due = f"a number from 1 to {MOST_SEEDS} or a list of seeds" if self.or_number else "a list"
        if not isinstance(value, (list, tuple)) or len(value) > MOST_SEEDS:
            raise wrong(due, f"{len(value)} items" if isinstance(value, list) else describe(value))
        if not value:
            raise wrong("at least one seed", "an empty list")
        complain(
            [
                Complaint((index,), "a whole number from 0 to 2^63 - 1", describe(seed))
                for index, seed in enumerate(value)
                if type(seed) is not int or not 0 <= seed <= LARGEST_SEED
            ]
        )
        complain(
            [
                Complaint((index,), "each seed once", f"{seed} again")
                for index, seed in enumerate(value)
                if seed in value[:index]
            ]
        )
        return tuple(value)

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A plain function; written as the list of all."""
        writer = core_schema.plain_serializer_function_ser_schema(list)
        return core_schema.no_info_plain_validator_function(self.parse, serialization=writer)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """A number, a list, or both."""
        items = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED}
        several = {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}
        number = {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}
        return {"anyOf": [number, several]} if self.or_number else several


Value = Annotated[Raw, _Value()]
