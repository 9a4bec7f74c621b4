"""Numbers of fields, and back: ``50 Gb/s`` is 5e10, whatever prefix it is written with."""

from __future__ import annotations

from hybridsim.scenario.quantity import (
    QuantityError,
    Raw,
    format_quantity,
    parse_quantity,
    unit_of,
)


def number(example: Raw, raw: Raw) -> float | None:
    """The number of a field's value in SI units.

    Args:
        example: a value of the same field, which says whether it has a unit, and which.
        raw: the value.

    Returns:
        None where the example or the value is a word, or the value does not fit the example.
    """
    unit = unit_of(example)
    if unit is not None:
        try:
            return parse_quantity(raw, unit)
        except QuantityError:
            return None
    return float(raw) if _is_number(example) and _is_number(raw) else None


def text(example: Raw, value: float) -> Raw:
    """A number in SI units as the field that the example is a value of writes it.

    Where the example is a whole number and so is the value, it is written as one.

    Raises:
        ValueError: the example is a word.
    """
    unit = unit_of(example)
    if unit is not None:
        return format_quantity(value, unit)
    if not _is_number(example):
        raise ValueError(f"expected a number or a quantity as example, got {example!r}")
    return int(value) if isinstance(example, int) and float(value).is_integer() else float(value)


def identity(raw: Raw) -> Raw:
    """What two ways to write one value share: ``1000 Mb/s`` and ``1 Gb/s``, ``1`` and ``1.0``."""
    unit = unit_of(raw)
    if unit is not None:
        return unit, number(raw, raw)
    return type(raw).__name__ if isinstance(raw, (bool, str)) else "number", raw


def _is_number(raw: Raw) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool)
