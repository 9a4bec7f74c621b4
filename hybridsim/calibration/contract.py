"""What a fit is given and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hybridsim.work import Kernel


class Row(NamedTuple):
    """A measurement to fit: what was launched, and the seconds it took.

    Attributes:
        kernels: what ran, one after the other.
        measured_s: all of it.
        family: of operators, or ``step``.
        shape: operator, sizes and type, for messages.
    """

    kernels: tuple[Kernel, ...]
    measured_s: float
    family: str
    shape: str

    @property
    def launches(self) -> int:
        """Operators that were launched."""
        return sum(kernel.count for kernel in self.kernels)


class Fitted(Protocol):
    """A constant as it was found, with its interval."""

    @property
    def value(self) -> float:
        """The best."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""


class Fit(Protocol):
    """Finds the constants ``free`` of a sheet from rows, all others as given (SI names)."""

    def __call__(
        self, constants: Mapping[str, float], rows: Sequence[Row], free: Sequence[str]
    ) -> Mapping[str, Fitted]:
        """The constants ``free``."""
