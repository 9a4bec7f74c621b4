"""What a run must come up to: comparisons with numbers of its summary, for continuous checks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from hybridsim.scenario.fields import Complaint, Strict, complain, wrong
from hybridsim.scenario.quantity import (
    EXAMPLES,
    QuantityError,
    Raw,
    describe,
    format_quantity,
    parse_quantity,
)

Sign = Literal[">=", "<=", ">", "<"]
_COMPARISON = re.compile(r"\s*(>=|<=|>|<)\s*(\S.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")


class Bound(NamedTuple):
    """On which side of a value a number must lie; the value in SI units."""

    sign: Sign
    value: float


@dataclass(frozen=True)
class Compared:
    """Annotation of a bound, written as text: a sign, then a number with its unit, if any."""

    unit: str = ""
    example: str = ""

    def parse(self, value: Raw) -> Bound:
        """Sign and SI float of the user's text."""
        expected = f"a comparison like '{self._example()}'"
        found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise wrong(expected, describe(value))
        sign, text = found.groups()
        if self.unit:
            try:
                number = parse_quantity(text, self.unit)
            except QuantityError as error:
                raise wrong(expected, error.got) from None
        elif not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise wrong(expected, describe(value))
        else:
            number = float(text)
        return Bound(cast("Sign", sign), number)

    def text(self, bound: Bound) -> str:
        """What parses to the same bound."""
        if self.unit:
            return f"{bound.sign} {format_quantity(bound.value, self.unit)}"
        whole = bound.value == int(bound.value) and abs(bound.value) < 1e15
        return f"{bound.sign} {int(bound.value) if whole else repr(bound.value)}"

    def _example(self) -> str:
        return self.example or f"<= {EXAMPLES[self.unit]}"

    def __get_pydantic_core_schema__(
        self, source: Raw, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A plain function both ways."""
        serialization = core_schema.plain_serializer_function_ser_schema(
            lambda bound: None if bound is None else self.text(bound)
        )
        return core_schema.no_info_plain_validator_function(self.parse, serialization=serialization)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Raw]:
        """Text with an example."""
        pattern = r"^\s*(>=|<=|>|<)\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
        pattern += r"\s*[A-Za-zµμΩτ].*$" if self.unit else r"\s*$"
        return {"type": "string", "pattern": pattern, "examples": [self._example()]}


def _field(description: str) -> Raw:
    return Field(None, description=description)


_Loss = Annotated[Bound | None, Compared(example="<= 0.2")]
_Share = Annotated[Bound | None, Compared(example=">= 0.95")]
_Count = Annotated[Bound | None, Compared(example="<= 100")]
_Seconds = Annotated[Bound | None, Compared("s", "<= 50 ms")]
_Joules = Annotated[Bound | None, Compared("J", "<= 5 J")]


class Thresholds(Strict):
    """What a run must come up to: `run` exits with 3 where it does not, or where a number was not
    evaluated. Each is a comparison in quotes, such as ">= 0.95" or "<= 50 ms".
    """

    train_loss: _Loss = _field("last training loss")
    test_loss: _Loss = _field("last loss on the test set")
    test_accuracy: _Share = _field("last share of the test set correct")
    steps_to_target: _Count = _field("training steps to training.target")
    time_to_target_s: _Seconds = _field("simulated time to training.target")
    energy_to_target_j: _Joules = _field("nominal energy to training.target")
    simulated_s: _Seconds = _field("simulated time of the whole run")
    energy_j: _Joules = _field("nominal energy of the whole run")
    energy_high_j: _Joules = _field("energy of the whole run, constants at their high end")
    step_time_s: _Seconds = _field("simulated time of a step, mean")
    step_time_p95_s: _Seconds = _field("simulated time that 95 % of the steps stay below")
    step_energy_j: _Joules = _field("nominal energy of a step, mean")
    samples_per_s: _Count = _field("training examples per simulated second")
    solver_error: _Loss = _field("median relative error of the analog answers that were checked")
    solver_cosine: _Share = _field("median cosine of these answers with the exact solutions")
    events: _Count = _field("events of any kind: clipping, saturation, numbers that are not finite")
    gpu_peak_bytes: Annotated[Bound | None, Compared("B", "<= 40 GiB")] = _field(
        "most memory in use at once on any GPU"
    )

    @model_validator(mode="after")
    def _some(self) -> Thresholds:
        if not list(self.asked()):
            complain([Complaint((), "at least one threshold", "none")])
        return self

    def asked(self) -> Iterator[tuple[str, Bound, str, str]]:
        """Name, bound, unit and text of each that is set, in the order above."""
        for name, field in type(self).model_fields.items():
            bound = getattr(self, name)
            if bound is not None:
                compared = next(item for item in field.metadata if isinstance(item, Compared))
                yield name, bound, compared.unit, compared.text(bound)
