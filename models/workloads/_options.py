"""Checks of workload options; they raise or do nothing, so that no number depends on this file."""

from __future__ import annotations

from typing import NoReturn

from hybridsim import InputError, Problem


def refuse(workload: str, option: str, expected: str, got: object) -> NoReturn:
    """Raise an InputError that names the option."""
    raise InputError([Problem(workload, None, f"options.{option}", expected, str(got))])


LAYERS = 1_000
"""No deeper network is trained here; a slip of the keyboard would build one for hours."""


def whole(workload: str, most: int | None = None, **options: int) -> None:
    """Every option is a whole number from 1 to ``most``; one that counts layers, to ``LAYERS``.

    Raises:
        InputError: one is not.
    """
    expected = "a whole number >= 1" if most is None else f"a whole number from 1 to {most}"
    for name, value in options.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < 1
            or (most is not None and value > most)
        ):
            refuse(workload, name, expected, repr(value))
        if name in ("depth", "blocks", "steps") and value > LAYERS:
            refuse(workload, name, f"at most {LAYERS}", value)


def divides(workload: str, option: str, divisor: int, name: str, number: int) -> None:
    """``divisor`` divides ``number``.

    Raises:
        InputError: it does not.
    """
    if number % divisor:
        refuse(workload, option, f"a divisor of {name} {number}", divisor)


def yes_or_no(workload: str, **options: bool) -> None:
    """Every option is true or false.

    Raises:
        InputError: one is not.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            refuse(workload, name, "true or false", repr(value))


def one_of(workload: str, *names: str, **options: str) -> None:
    """Every option is one of these names.

    Raises:
        InputError: one is not.
    """
    for name, value in options.items():
        if value not in names:
            refuse(workload, name, f"one of {', '.join(names)}", repr(value))


def share(workload: str, **options: float) -> None:
    """Every option is a number from 0 to below 1.

    Raises:
        InputError: one is not.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            refuse(workload, name, "a number from 0 to below 1", repr(value))
