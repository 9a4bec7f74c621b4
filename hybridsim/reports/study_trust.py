"""What of a study cannot be trusted, in words that stand before its answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from hybridsim.reports.study_view import StudyView, texts

WITHOUT_RESULT = ("failed", "diverged", "refused", "missing")
"""Statuses of points that have no result."""
_NUMBER = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
_MOST_KINDS = 4


def counts(view: StudyView) -> str:
    """What was asked, of how many points, and how these came about, in one line."""
    rows = view.distinct
    settings = max(Counter(side for side, _ in view.lines).values(), default=0)
    parts = [
        f"question: {view.kind.replace('_', ' ')}",
        f"{number(len(rows), 'point')} ({number(len(view.sides), 'side')}, "
        f"{number(settings, 'setting')}, {number(len(view.seeds), 'seed')})",
    ]
    if how := by_count(texts(rows, "how")):
        parts.append(", ".join(f"{count:,} {word}" for word, count in how.items()))
    if marks := sum(map(bool, texts(rows, "mark"))):
        parts.append(f"{marks:,} marked, which cannot win")
    return " · ".join(parts)


def alarms(view: StudyView) -> Iterator[str]:
    """Sentences about points that decide and cannot be trusted, that have no result, or whose
    machine nobody can build.
    """
    rows, whole = view.distinct, len(view.distinct)
    marks = [mark for mark in texts(rows, "mark") if mark]
    if not view.trusted:
        why = f" {len(marks)} of {number(whole, 'point')} marked: {alike(marks)}." if marks else ""
        yield f"This answer cannot be trusted: points that decide it are marked.{why}"
    lost = [status for status in texts(rows, "status") if status in WITHOUT_RESULT]
    if lost:
        words = ", ".join(f"{count:,} {word}" for word, count in by_count(lost).items())
        yield (
            f"{len(lost):,} of {number(whole, 'point')} have no result ({words}); the answer rests "
            "on the others. See Points without a result."
        )
    unbuildable = [text for text in texts(rows, "unbuildable") if text and text != "False"]
    if unbuildable:
        yield (
            f"{len(unbuildable):,} of {number(whole, 'point')} are of machines that cannot be "
            f"built today: {alike(unbuildable)}."
        )


def alike(found: Iterable[str]) -> str:
    """Texts that differ in their numbers only as one: its first, and how many are like it."""
    kinds = grouped(found)
    shown = [
        f"{first} ({count:,} alike)" if count > 1 else first
        for first, count in list(kinds.values())[:_MOST_KINDS]
    ]
    more = len(kinds) - _MOST_KINDS
    return "; ".join([*shown, *([f"and {more} more reasons"] if more > 0 else [])])


def grouped(found: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Texts by what they say besides numbers: the first one, how many; the most frequent first."""
    kinds: dict[str, tuple[str, int]] = {}
    for text in found:
        key = _NUMBER.sub("#", text)
        first, count = kinds.get(key, (text, 0))
        kinds[key] = (first, count + 1)
    return dict(sorted(kinds.items(), key=lambda item: -item[1][1]))


def by_count(words: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first; empty ones are left out."""
    return dict(Counter(word for word in words if word).most_common())


def number(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
