"""What an operation costs before any part has put a price on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["fp32", "tf32", "fp64", "bf16"]
Routine = Literal["roofline", "cholesky", "spd_inverse", "eigh"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """``count`` equal launches on a digital processor.

    Attributes:
        name: operator, e.g. ``aten.mm``.
        flop: floating-point operations of one launch.
        bytes: bytes read plus written by one launch (views move none).
        matrix: runs on matrix units (contractions and convolutions) rather than vector units.
        precision: arithmetic of the operands.
        routine: ``roofline``, or a dense factorisation whose time has a term linear in ``size``.
        size: matrix order ``n`` of such a factorisation, else 0.
        count: number of equal launches.
    """

    name: str
    flop: float
    bytes: float
    matrix: bool = False
    precision: Precision = "fp32"
    routine: Routine = "roofline"
    size: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Work:
    """Part-independent cost of one operation (totals over ``count`` equal operations).

    ``peak_bytes`` is the most memory alive at once while it runs, arguments included; ``largest``
    names the largest tensor it allocates as ``(operator, shape, bytes)``. ``stages`` are the named
    parts of a computation in the order in which they first appear; their kernels add up to the
    whole's, memory is known of the whole alone.
    """

    kernels: tuple[Kernel, ...] = ()
    bits: int = 0
    conversions: int = 0
    writes: int = 0
    count: int = 1
    peak_bytes: int = 0
    largest: tuple[str, tuple[int, ...], int] | None = field(default=None, compare=False)
    stages: tuple[tuple[str, Work], ...] = ()

    @property
    def flop(self) -> float:
        """Floating-point operations over all kernels."""
        return sum(k.flop * k.count for k in self.kernels)

    @property
    def bytes(self) -> float:
        """Bytes moved over all kernels."""
        return sum(k.bytes * k.count for k in self.kernels)

    @property
    def launches(self) -> int:
        """Kernel launches."""
        return sum(k.count for k in self.kernels)
