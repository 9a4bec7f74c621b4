"""Randomness by logical address: a draw depends on what it is for, never on which part serves
it.
"""

from __future__ import annotations

import hashlib


def address_seed(seed: int, purpose: str, *address: int | str) -> int:
    """A 63-bit seed for the draw at ``(seed, purpose, address...)``, e.g. step, layer, column,
    reading.

    Distinct addresses give independent streams; equal addresses give the same numbers on every
    machine layout.
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(a).__name__}:{a}" for a in address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
