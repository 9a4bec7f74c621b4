"""Kinds of field that a scenario is made of: quantities with units, converter bits, short forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from hybridsim.errors import Problem
from hybridsim.scenario.datasheets.constant import FEWEST_BITS, MOST_BITS
from hybridsim.scenario.quantity import (
    EXAMPLES,
    QuantityError,
    Raw,
    describe,
    expectation,
    format_quantity,
    parse_quantity,
)


class Strict(BaseModel):
    """A map of a scenario: no unknown keys, no conversions, no NaN, nothing changes after
    loading.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def wrong(expected: str, got: str) -> PydanticCustomError:
    """An error about the field being validated."""
    return PydanticCustomError(
        "field", "expected {expected}, got {got}", {"expected": expected, "got": got}
    )


@dataclass(frozen=True)
class Complaint:
    """A mistake at ``path`` below the map being validated; ``problem`` where it lies in another
    file.
    """

    path: tuple[str | int, ...]
    expected: str
    got: str
    problem: Problem | None = None


def complain(complaints: Sequence[Complaint]) -> None:
    """Raise all complaints about a map at once, if there are any."""
    if complaints:
        raise PydanticCustomError(
            "fields", "{text}", {"text": str(complaints), "complaints": tuple(complaints)}
        )


@dataclass(frozen=True)
class Unit:
    """Annotation of a float that is written as text with a unit, within bounds in SI units."""

    unit: str
    ge: float | None = None
    gt: float | None = None

    def parse(self, value: Raw) -> float:
        """SI float of the user's text."""
        try:
            number = parse_quantity(value, self.unit)
        except QuantityError as error:
            raise wrong(error.expected, error.got) from None
        if (self.ge is not None and not number >= self.ge) or (
            self.gt is not None and not number > self.gt
        ):
            sign, bound = (">", self.gt) if self.gt is not None else (">=", self.ge)
            raise wrong(f"{expectation(self.unit)}, {sign} {bound:g} {self.unit}", describe(value))
        return number

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Parse before the float, write with a prefix after it."""
        serialization = core_schema.plain_serializer_function_ser_schema(
            lambda value: format_quantity(value, self.unit), return_schema=core_schema.str_schema()
        )
        return core_schema.no_info_before_validator_function(
            self.parse,
            core_schema.float_schema(strict=True, allow_inf_nan=False),
            serialization=serialization,
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Text with an example."""
        example = EXAMPLES.get(self.unit, f"1 {self.unit}")
        pattern = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*[A-Za-zµμΩτ].*$"
        return {"type": "string", "pattern": pattern, "examples": [example]}


@dataclass(frozen=True)
class _Bits:
    """Annotation of a converter resolution: 2 to 16 bits, or ``ideal`` (0 in Python)."""

    def parse(self, value: Raw) -> int:
        """Bits, 0 for ``ideal``."""
        if value == "ideal":
            return 0
        if type(value) is not int or not FEWEST_BITS <= value <= MOST_BITS:
            raise wrong(f"{FEWEST_BITS} to {MOST_BITS} bits or 'ideal'", describe(value))
        return value

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A plain function both ways."""
        serialization = core_schema.plain_serializer_function_ser_schema(lambda v: v or "ideal")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=serialization)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """A small integer or one word."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": FEWEST_BITS, "maximum": MOST_BITS},
                {"const": "ideal", "type": "string"},
            ]
        }


@dataclass(frozen=True)
class Short:
    """Annotation of a map that may be written as one text, the value of its field ``key``."""

    key: str

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Lengthen the short form first."""
        return core_schema.no_info_before_validator_function(
            lambda value: {self.key: value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Text or map."""
        inner: CoreSchema = schema["schema"]
        return {"anyOf": [{"type": "string"}, handler(inner)]}


@dataclass(frozen=True)
class ShortOrFree:
    """As :class:`Short`, where one word stands for None: nothing is there and nothing is paid."""

    key: str
    word: str

    def lengthen(self, value: Raw) -> Raw:
        """None for the word, a map for another text."""
        if value is None:
            raise wrong(f"a map, a text or '{self.word}'", "nothing")
        if value == self.word:
            return None
        return {self.key: value} if isinstance(value, str) else value

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Lengthen first; write None as the word."""
        serialization = core_schema.wrap_serializer_function_ser_schema(
            lambda value, inner: self.word if value is None else inner(value)
        )
        return core_schema.no_info_before_validator_function(
            self.lengthen, handler(source), serialization=serialization
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Text or map."""
        inner: CoreSchema = schema["schema"]["schema"]
        return {"anyOf": [{"type": "string"}, handler(inner)]}


@dataclass(frozen=True)
class _Scalar:
    """Annotation of a value handed on to the user's own code: text, number, boolean or null."""

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A plain check."""
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Raw) -> Raw:
        """The value itself."""
        if value is not None and type(value) not in (str, int, float, bool):
            raise wrong("text, a number, true, false or null", describe(value))
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise wrong("a finite number", describe(value))
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise wrong("text", ascii(value)[:60])
        return value

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Raw scalar."""
        return {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True)
class _Printable:
    """Annotation of a text of one line that can be printed."""

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A string, checked afterwards."""
        text = core_schema.str_schema(strict=True, min_length=1, max_length=1000)
        return core_schema.no_info_after_validator_function(self.check, text)

    def check(self, value: str) -> str:
        """The value itself."""
        if not value.isprintable():
            raise wrong("printable text on one line", ascii(value)[:60])
        return value


NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
Text = Annotated[str, _Printable()]
Bits = Annotated[int, _Bits()]
Tau = Annotated[float, Unit("tau", ge=0)]
Bytes = Annotated[float, Unit("B", ge=1)]
Scalar = Annotated[Raw, _Scalar()]
