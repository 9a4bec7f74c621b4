"""The protobuf wire format, as much of it as a trace needs: varints, doubles, fixed 64-bit numbers,
nested bytes.

A field is its key ``number << 3 | wire type`` followed by its value; see
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct

_SMALL = [bytes([value]) for value in range(128)]
_double = struct.Struct("<d").pack
_fixed = struct.Struct("<Q").pack


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; a negative number as its 64-bit two's complement.

    Raises:
        ValueError: the value needs more than 64 bits.
    """
    if 0 <= value < 128:
        return _SMALL[value]
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"expected a number of 64 bits, got {value}")
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def key(number: int, wire_type: int) -> bytes:
    """What stands before every value."""
    return varint(number << 3 | wire_type)


def integer(number: int, value: int) -> bytes:
    """An int32, int64, uint64, bool or enum."""
    return key(number, 0) + varint(value)


def double(number: int, value: float) -> bytes:
    """A double."""
    return key(number, 1) + _double(value)


def fixed64(number: int, value: int) -> bytes:
    """A fixed64."""
    return key(number, 1) + _fixed(value)


def nested(number: int, value: bytes) -> bytes:
    """Bytes, a string in UTF-8 or a message."""
    return key(number, 2) + varint(len(value)) + value


def text(number: int, value: str) -> bytes:
    """A string; what UTF-8 cannot hold is replaced."""
    return nested(number, value.encode("utf-8", "replace"))
