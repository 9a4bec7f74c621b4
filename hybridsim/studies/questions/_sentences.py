"""Plain sentences: names of fields as words, values with units, lists, and a largest length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybridsim.reports.differences import short_names
from hybridsim.scenario.quantity import Raw

LONGEST = 300
_LONGEST_NAME = 40
_SKIPPED = ("machine", "training", "algorithm")
_COUNTS = {"machine.spus.count": "SPUs", "machine.gpu.count": "GPUs", "training.steps": "steps"}


def fit(*candidates: str) -> str:
    """The first text that is short enough, its first letter large; the last is cut."""
    for text in candidates:
        if len(text) <= LONGEST:
            break
    else:
        text = f"{text[: LONGEST - 1]}…"
    return text[:1].upper() + text[1:]


def called(name: str) -> str:
    """A side's or a part's name, cut where it is very long."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def field_words(field: str) -> str:
    """``machine.link.bandwidth`` as ``link bandwidth``."""
    if field in _COUNTS:
        return _COUNTS[field]
    parts = [part for part in field.split(".") if part not in _SKIPPED] or [field]
    return " ".join(parts[-2:]).replace("_", " ")


def value_words(field: str, value: Raw) -> str:
    """A value with its field: ``link bandwidth 50 Gb/s``, ``4 SPUs``."""
    if field in _COUNTS:
        words = _COUNTS[field]
        return f"{value} {words[:-1] if value == 1 else words}"
    return f"{field_words(field)} {_value(value)}"


def _value(value: Raw) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def place(values: Mapping[str, Raw]) -> str:
    """A combination of values in words; nothing where nothing varies."""
    return ", ".join(value_words(field, value) for field, value in values.items())


def short_place(values: Mapping[str, Raw]) -> str:
    """The same for the labels of charts: the shortest names that tell the fields apart."""
    names = short_names(list(values))
    return ", ".join(f"{names[field]} {_value(value)}" for field, value in values.items())


def listed(texts: Sequence[str]) -> str:
    """``a, b and c``."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def times(factor: float) -> str:
    """``1.31 times``; ``any number of times`` where the other side did not get there."""
    return f"{factor:.3g} times" if factor < float("inf") else "any number of times"
