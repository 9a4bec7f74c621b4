"""Physical quantities at the boundary: text with a unit becomes an SI float, and back, without
losing a bit.

pint knows the units; its registry here holds only what a scenario can name. Bits and bytes are two
different dimensions, so that ``50 GB/s`` can never stand where ``50 Gb/s`` is due. One time
constant RC is the unit ``tau``. Areas are squares of a prefixed metre: ``um2``, ``mm2``.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pint

Raw = Any  # what a file or a caller gives, before it is checked


_DEFINITIONS = """
femto- = 1e-15 = f-
atto- = 1e-18 = a-
pico- = 1e-12 = p-
nano- = 1e-9 = n-
micro- = 1e-6 = µ- = μ- = u-
milli- = 1e-3 = m-
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
peta- = 1e15 = P-
kibi- = 2**10 = Ki-
mebi- = 2**20 = Mi-
gibi- = 2**30 = Gi-
second = [time] = s
meter = [length] = m
volt = [voltage] = V
ampere = [current] = A
kelvin = [temperature] = K
bit = [bit] = b
byte = [byte] = B
flop = [flop] = FLOP
tau = [tau] = τ
sample = [] = S
hertz = 1 / second = Hz
joule = volt * ampere * second = J
watt = volt * ampere = W
ohm = volt / ampere = Ω = Ohm
farad = ampere * second / volt = F
bps = bit / second
"""
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([^\s\d].*)?", re.DOTALL)
_FACTOR = r"[A-Za-zµμΩτ]+[2²]?"
_UNIT = re.compile(rf"{_FACTOR}(?:\s?[*/]\s?{_FACTOR}){{0,4}}")
_SQUARE = re.compile(r"(?<=[A-Za-zµμΩτ])[2²]")
_SHOWN_PREFIXES: tuple[tuple[str, float], ...] = (
    *(("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
    *(("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12), ("f", 1e-15), ("a", 1e-18)),
)
_AREAS = (("m2", 1.0), ("mm2", 1e-6), ("um2", 1e-12), ("nm2", 1e-18))
_BINARY_PREFIXES = (("Gi", 2.0**30), ("Mi", 2.0**20), ("Ki", 2.0**10))
_NOT_PREFIXED = ("tau",)

EXAMPLES = {
    "s": "1 us",
    "tau": "50 tau",
    "b/s": "50 Gb/s",
    "B/s": "2 TB/s",
    "B": "64 KiB",
    "J/bit": "7 pJ/bit",
    "J": "0.3 pJ",
    "W": "100 uW",
    "V": "0.1 V",
    "Hz": "100 MHz",
    "ohm": "1 kohm",
    "F": "1 nF",
    "K": "300 K",
    "FLOP/s": "19.5 TFLOP/s",
    "m": "1 um",
    "m2": "858 mm2",
    "F/m": "0.2 fF/um",
    "F/m2": "5 fF/um2",
}


class QuantityError(ValueError):
    """A text that is not a quantity of the unit that is due; ``expected`` and ``got`` make a
    Problem.
    """

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


@lru_cache(maxsize=1)
def _registry() -> pint.UnitRegistry[float]:
    registry: pint.UnitRegistry[float] = pint.UnitRegistry(None)
    for line in _DEFINITIONS.strip().splitlines():
        registry.define(line)
    return registry


def _is_symbol_with_plural(word: str) -> bool:
    """Pint reads ``Gbs`` as a plural of ``Gb``; only spelled-out names have plurals here."""
    if not word.endswith("s") or word in ("s", "bps"):
        return False
    names = [unit for _, unit, _ in _registry().parse_unit_name(word)]
    direct = [unit for _, unit, _ in _registry().parse_unit_name(word[:-1])]
    return "second" not in names and bool(direct) and not word[:-1].endswith(tuple(direct))


@lru_cache(maxsize=512)
def _scale(unit: str) -> tuple[float, str]:
    """SI factor and dimension of a unit.

    Raises:
        ValueError: no such unit.
    """
    compact = unit.strip()
    if not _UNIT.fullmatch(compact) or len(compact) > 60:
        raise ValueError(unit)
    if any(_is_symbol_with_plural(word) for word in re.findall(r"\w+", compact)):
        raise ValueError(unit)
    try:
        powers = _SQUARE.sub("**2", compact)
        base = (1 * _registry().parse_units(powers)).to_base_units()
    except Exception as error:  # pint raises many types for text that is no unit
        raise ValueError(unit) from error
    return float(base.magnitude), str(base.dimensionality)


def _multiply(number: float, factor: float) -> float:
    """Correctly rounded where the factor is a power of ten: ``100 ns`` is the float ``1e-7``."""
    exponent = round(math.log10(factor))
    if abs(factor / 10.0**exponent - 1) > 1e-12:
        return number * factor
    return float(Decimal(repr(number)).scaleb(exponent))


def expectation(unit: str) -> str:
    """What to write where a quantity of this unit is due: ``a quantity in b/s like '50 Gb/s'``."""
    example = EXAMPLES.get(unit, f"1 {unit}")
    return f"a quantity in {unit} like '{example}'"


def parse_quantity(value: object, unit: str) -> float:
    """Text such as ``"50 Gb/s"`` in SI units (bits, bytes, FLOP and tau count as they are).

    Args:
        value: what the user wrote.
        unit: an SI unit of the dimension that is due, e.g. ``b/s``.

    Raises:
        QuantityError: not a text, no unit, no such unit, wrong dimension (bits for bytes too), not
            finite.
    """
    due = expectation(unit)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise QuantityError(due, f"the bare number {value!r}")
    if not isinstance(value, str):
        raise QuantityError(due, describe(value))
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise QuantityError(due, describe(value))
    number, written = match.groups()
    if written is None:
        raise QuantityError(due, f"{describe(value)} without a unit")
    try:
        factor, dimension = _scale(written.strip())
    except ValueError:
        raise QuantityError(due, f"{describe(value)} (no such unit)") from None
    if dimension != _scale(unit)[1]:
        raise QuantityError(due, f"{describe(value)}{_why(dimension, unit)}")
    result = _multiply(float(number), factor)
    if abs(result) == float("inf"):
        raise QuantityError("a finite quantity", describe(value))
    return result


def unit_of(text: object) -> str | None:
    """The SI unit of a quantity's dimension, as :func:`parse_quantity` and :func:`format_quantity`
    take it (``b/s`` of ``50 Gb/s``); None where the text is no quantity that a scenario knows.
    """
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] is None:
        return None
    try:
        dimension = _scale(match[2].strip())[1]
    except ValueError:
        return None
    return next((unit for unit in EXAMPLES if _scale(unit)[1] == dimension), None)


def _why(dimension: str, unit: str) -> str:
    due = _scale(unit)[1]
    if "[byte]" in dimension and "[bit]" in due:
        return " (bytes where bits are due; 1 B = 8 b)"
    if "[bit]" in dimension and "[byte]" in due:
        return " (bits where bytes are due; 1 B = 8 b)"
    return " (another dimension)"


def format_quantity(value: float, unit: str) -> str:
    """Write an SI value with a prefix such that :func:`parse_quantity` returns exactly the same
    float.
    """
    if unit == "B":
        for prefix, factor in _BINARY_PREFIXES:
            if value and value % factor == 0:
                return f"{value / factor:.0f} {prefix}B"
    if unit == "m2":
        return _format_area(value)
    for prefix, factor in _SHOWN_PREFIXES if value and unit not in _NOT_PREFIXED else ():
        if factor <= abs(value) * (1 + 1e-12) < 1000 * factor:
            shown = f"{_multiply(value, 1 / factor):.15g}"
            text = f"{shown} {prefix}{unit}"
            if "e" not in shown and parse_quantity(text, unit) == value:
                return text
    shown = str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    return f"{shown} {unit}"


def _format_area(value: float) -> str:
    """A square's prefix is squared; ``1 um2`` is 1e-12 m2."""
    for area, factor in _AREAS if value else ():
        text = f"{_multiply(value, 1 / factor):.15g} {area}"
        if value >= factor and parse_quantity(text, "m2") == value:
            return text
    return f"{value!r} m2"


def describe(value: object) -> str:
    """A user's value in one short line."""
    if isinstance(value, dict):
        return "a map" if value else "an empty map"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
