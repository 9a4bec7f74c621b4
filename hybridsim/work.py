"""What an operation costs before any part has put a price on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["fp32", "tf32", "fp64", "bf16", "fp16"]
Routine = Literal[
    "stream", "contraction", "convolution", "cholesky", "inverse", "eigh", "lu", "qr", "triangular"
]


@dataclass(frozen=True, slots=True)
class Kernel:
    """``count`` equal launches on a digital processor.

    Attributes:
        name: operator, e.g. ``aten.mm``.
        flop: floating-point operations of one launch.
        bytes: bytes read plus written by one launch, of a reduction over all its passes (views
            move none).
        precision: arithmetic of the operands.
        routine: what the time follows from: memory (``stream``), tiles of a matrix product, a
            convolution, or a dense factorisation or triangular solve.
        shape: of a contraction (batch, m, n, k); of a convolution see
            ``operations.formulas.convolution``; of a factorisation (matrices, n), of a triangular
            solve (matrices, n, columns); else empty.
        count: number of equal launches.
    """

    name: str
    flop: float
    bytes: float
    precision: Precision = "fp32"
    routine: Routine = "stream"
    shape: tuple[int, ...] = ()
    count: int = 1

    @property
    def matrix(self) -> bool:
        """Runs on matrix units rather than vector units."""
        return self.routine in ("contraction", "convolution")


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
