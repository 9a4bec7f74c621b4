"""Errors that a user can act on. Anything else that escapes is a bug in hybridsim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HybridsimError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One mistake in an input file.

    Prints as ``file:line: path: expected ..., got ...``; the line is left out where there is none.
    """

    file: str
    line: int | None
    path: str
    expected: str
    got: str

    def __str__(self) -> str:
        """One line for a terminal."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        field = f"{self.path}: " if self.path else ""
        return f"{where}: {field}expected {self.expected}, got {self.got}"


MOST_PROBLEMS = 100
"""What nobody reads is not looked for: readers stop behind so many mistakes."""


class InputError(HybridsimError):
    """The user's input cannot be used: every problem found, at once, of many the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        shown = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        shown += ["... and more"] if len(self.problems) > MOST_PROBLEMS else []
        super().__init__(problems if isinstance(problems, str) else "\n".join(shown))


class CapacityError(InputError):
    """A tensor, a system or a factor does not fit the part it is meant for, or this computer;
    found before the run starts.
    """


class UnpricedError(InputError):
    """A computation uses an operator whose time on a processor nobody has stated."""

    def __init__(self, operator: str) -> None:
        super().__init__(
            f"the operator {operator} has no price: element-wise operators, reductions, matrix "
            "products, convolutions, Cholesky, LU and QR factorisations, inverses, triangular and "
            "linear solves and symmetric eigendecompositions have one; write it with these"
        )


class MissingFacts(HybridsimError):
    """A replay met a computation whose facts are not in the store."""
