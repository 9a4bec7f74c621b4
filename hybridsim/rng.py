"""Randomness by logical address: a draw depends on what it is for, never on which part serves
it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


def address_seed(seed: int, purpose: str, *address: int | str) -> int:
    """A 63-bit seed for the draw at ``(seed, purpose, address...)``, e.g. step, layer, column,
    reading.

    Distinct addresses give independent streams; equal addresses give the same numbers on every
    machine layout.
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(a).__name__}:{a}" for a in address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Draw(NamedTuple):
    """What random numbers are drawn for: examples ``first``... of a global batch of ``total``.

    Numbers are drawn for the whole batch and sliced, so that shards draw what the whole batch
    would. How many are drawn is a size, which work depends on; which ones is data.
    """

    seed: int
    first: int
    total: int

    @property
    def key(self) -> int:
        """What the work of drawing depends on."""
        return self.total

    def meta(self) -> Draw:
        """What stands for all draws of this size."""
        return Draw(0, 0, self.total)
