"""Immutable references to values, and the computations that turn references into references."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from hybridsim.outcome import Outcome, Value

_NO_FACTS: Mapping[str, Value] = {}
_KEY_LENGTH = (16).to_bytes(4, "little")


class Cell:
    """Where a value is kept, for all references to it: alive as long as one of them is.

    Attributes:
        key: hash of everything the value depends on; equal keys mean equal numbers.
        value: tensors in a live run; meta tensors (shapes) or None where numbers are not known.
        known: whether ``value`` is the value itself.
        made: how it can be made again, where that is kept.
    """

    __slots__ = ("__weakref__", "key", "known", "made", "value")

    def __init__(self, value: Value, key: bytes, known: bool = True, made: object = None) -> None:
        self.value, self.key, self.known, self.made = value, key, known, made


class Ref(NamedTuple):
    """A value and where it comes from.

    Attributes:
        cell: where the value is kept.
        spans: the spans that produced it; they become parents of whatever uses it.
        facts: the few numbers that programs branch on, price or report.
    """

    cell: Cell
    spans: tuple[int, ...] = ()
    facts: Mapping[str, Value] = _NO_FACTS

    @staticmethod
    def of(
        value: Value,
        key: bytes,
        spans: tuple[int, ...] = (),
        facts: Mapping[str, Value] = _NO_FACTS,
    ) -> Ref:
        """A reference to a new value."""
        return Ref(Cell(value, key), spans, facts)

    @property
    def value(self) -> Value:
        """See ``Cell``."""
        return self.cell.value

    @property
    def key(self) -> bytes:
        """See ``Cell``."""
        return self.cell.key

    def at(self, *spans: int) -> Ref:
        """The same value, as produced (moved, converted) by other spans."""
        return Ref(self.cell, spans, self.facts)


class Token(NamedTuple):
    """Nothing but an order: what has it for an argument comes after these spans.

    ``facts`` may travel with it.
    """

    spans: tuple[int, ...] = ()
    facts: Mapping[str, Any] = _NO_FACTS  # Any: floats, or lists of floats

    def at(self, *spans: int) -> Token:
        """As produced (moved) by other spans."""
        return Token(spans, self.facts)


Carried = TypeVar("Carried", Ref, Token)
"""What parts hand on: a value, or an order alone."""


Function = TypeVar("Function", bound=Callable[..., Outcome])


def derivable(function: Function) -> Function:
    """Mark a computation whose outcome is large and soon made again from its arguments: it is not
    kept where a run is to be resumed.
    """
    function.__dict__["derivable"] = True
    return function


class Computation:
    """A module-level function and its settings; all it reads besides its arguments.

    Settings must be scalars, strings, tuples of them or frozen dataclasses of all these (a task's
    layout): their ``repr`` enters the key.
    """

    __slots__ = ("derivable", "function", "settings", "token")

    def __init__(self, function: Callable[..., Outcome], **settings: Value) -> None:
        if function.__qualname__ != function.__name__:
            raise TypeError(f"expected a module-level function, got {function.__qualname__}")
        self.function = function
        self.settings = settings
        self.derivable = getattr(function, "derivable", False)
        text = f"{function.__module__}.{function.__name__}{sorted(settings.items())!r}"
        self.token = digest(text.encode())

    def but(self, **settings: Value) -> Computation:
        """The same function with some settings changed or added; the others are not looked at."""
        found = Computation.__new__(Computation)
        found.function, found.derivable = self.function, self.derivable
        found.settings = self.settings | settings
        found.token = digest(self.token, repr(sorted(settings.items())).encode())
        return found


def digest(*parts: bytes) -> bytes:
    """16-byte hash of byte strings; lengths are hashed too, so that no two lists of parts
    collide.
    """
    lengths = [len(part).to_bytes(4, "little") for part in parts]
    whole = b"".join(chain.from_iterable(zip(lengths, parts, strict=True)))
    return hashlib.blake2b(whole, digest_size=16).digest()


def digest_of_keys(*keys: bytes) -> bytes:
    """``digest`` of digests, which all have one length."""
    return hashlib.blake2b(_KEY_LENGTH.join((b"", *keys)), digest_size=16).digest()
