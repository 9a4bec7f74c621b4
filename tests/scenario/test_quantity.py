"""Quantities: exact there and back, and never of the wrong dimension."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.scenario.quantity import (
    EXAMPLES,
    QuantityError,
    format_quantity,
    parse_quantity,
    unit_of,
)

UNITS = sorted(EXAMPLES)


@given(value=st.floats(0, 1e30), unit=st.sampled_from(UNITS))
def test_every_float_survives_being_written(value: float, unit: str) -> None:
    assert parse_quantity(format_quantity(value, unit), unit) == value


@given(
    digits=st.integers(1, 10**9),
    exponent=st.sampled_from([("T", 12), ("G", 9), ("k", 3), ("u", -6), ("p", -12)]),
)
def test_a_prefix_is_the_exact_power_of_ten(digits: int, exponent: tuple[str, int]) -> None:
    prefix, power = exponent
    assert parse_quantity(f"{digits} {prefix}s", "s") == float(f"{digits}e{power}")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("50 Gb/s", "b/s", 50e9),
        ("50 Gbps", "b/s", 50e9),
        ("64 KiB", "B", 65536.0),
        ("7 pJ/bit", "J/bit", 7e-12),
        ("1 kΩ", "ohm", 1e3),
        ("1 µs", "s", 1e-6),
        ("100 MS/s", "Hz", 1e8),
        ("0 tau", "tau", 0.0),
        ("1e-9 s", "s", 1e-9),
        ("2 V/A", "ohm", 2.0),
    ],
)
def test_what_people_write(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == value


def test_every_example_has_its_own_unit() -> None:
    for unit, example in EXAMPLES.items():
        assert parse_quantity(example, unit) > 0


@given(a=st.sampled_from(UNITS), b=st.sampled_from(UNITS))
def test_units_of_two_dimensions_never_mix(a: str, b: str) -> None:
    if a != b:
        with pytest.raises(QuantityError):
            parse_quantity(EXAMPLES[a], b)


@pytest.mark.parametrize(
    "value",
    [
        3,
        3.0,
        True,
        None,
        [],
        {},
        "",
        "3",
        "s",
        "50",
        "nan s",
        "inf s",
        "1e999 s",
        "1 Gbs",
        "1 furlong",
        "1 s s",
    ]
    + [
        "1 __class__",
        "9**9**9 s",
        "1 s**2",
        "1+1 s",
        "1 1/s",
        "٣ s",
        "--1 s",
        "1 \x00s",
        "1,5 s",
        "0x10 s",
        "1 ss",
    ],
)
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity(value, "s")
    assert caught.value.expected and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "unit"), [("1 Ws", "W"), ("1 kVs", "V"), ("1 Gbs", "b/s"), ("1 nFs", "F")]
)
def test_a_symbol_has_no_plural(text: str, unit: str) -> None:
    with pytest.raises(QuantityError, match="no such unit"):
        parse_quantity(text, unit)
    assert parse_quantity("1 watts", "W") == 1 and parse_quantity("2 kilobits", "bit") == 2000


def test_bits_for_bytes_says_so() -> None:
    with pytest.raises(QuantityError, match="1 B = 8 b"):
        parse_quantity("50 GB/s", "b/s")
    with pytest.raises(QuantityError, match="1 B = 8 b"):
        parse_quantity("64 Kib", "B")


@given(text=st.text(max_size=30), unit=st.sampled_from(UNITS))
def test_any_text_is_a_quantity_or_an_error(text: str, unit: str) -> None:
    for candidate in (text, f"1 {text}", f"{text} s"):
        try:
            assert isinstance(parse_quantity(candidate, unit), float)
        except QuantityError as error:
            assert "\n" not in str(error)


@given(st.sampled_from(sorted(EXAMPLES)), st.floats(1e-15, 1e15))
def test_the_unit_of_a_quantity_is_that_of_its_dimension(unit: str, value: float) -> None:
    assert unit_of(format_quantity(value, unit)) == unit
    assert unit_of(EXAMPLES[unit]) == unit


@pytest.mark.parametrize("text", ["3", "3 parsec", "3 A", "ideal", "", "Gb/s", 3, None, True])
def test_what_is_no_quantity_has_no_unit(text: object) -> None:
    assert unit_of(text) is None
