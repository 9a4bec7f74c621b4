"""Immutable references to values, and the computations that turn references into references."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from hybridsim.outcome import Outcome, Value

_NO_FACTS: Mapping[str, Value] = {}


class Ref(NamedTuple):
    """A value and where it comes from.

    Attributes:
        value: tensors in a live run; meta tensors (shapes) or None in a timing-only or replayed
            one.
        key: hash of everything the value depends on; equal keys mean equal numbers.
        spans: the spans that produced it; they become parents of whatever uses it.
        facts: the few numbers that programs branch on, price or report.
    """

    value: Value
    key: bytes
    spans: tuple[int, ...] = ()
    facts: Mapping[str, Value] = _NO_FACTS

    def at(self, span: int) -> Ref:
        """The same value, as produced (moved, converted) by another span."""
        return Ref(self.value, self.key, (span,), self.facts)


class Token(NamedTuple):
    """Nothing but an order: what has it for an argument comes after these spans.

    ``facts`` may travel with it.
    """

    spans: tuple[int, ...] = ()
    facts: Mapping[str, Any] = _NO_FACTS  # Any: floats, or lists of floats

    def at(self, span: int) -> Token:
        """As produced (moved) by another span."""
        return Token((span,), self.facts)


Carried = TypeVar("Carried", Ref, Token)
"""What parts hand on: a value, or an order alone."""


class Computation:
    """A module-level function and its settings; all it reads besides its arguments.

    Settings must be scalars, strings, tuples of them or frozen dataclasses of all these (a task's
    layout): their ``repr`` enters the key.
    """

    __slots__ = ("function", "settings", "token")

    def __init__(self, function: Callable[..., Outcome], **settings: Value) -> None:
        if function.__qualname__ != function.__name__:
            raise TypeError(f"expected a module-level function, got {function.__qualname__}")
        self.function = function
        self.settings = settings
        text = f"{function.__module__}.{function.__name__}{sorted(settings.items())!r}"
        self.token = digest(text.encode())


def digest(*parts: bytes) -> bytes:
    """16-byte hash of byte strings; lengths are hashed too, so that no two lists of parts
    collide.
    """
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(len(part).to_bytes(4, "little"))
        h.update(part)
    return h.digest()
