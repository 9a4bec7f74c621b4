"""What is said of break-evens: sentences, notes, and facts for machines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hybridsim.scenario.quantity import Raw
from hybridsim.studies.questions._contest import basis_text
from hybridsim.studies.questions._crossings import (
    Crossing,
    Line,
    Reading,
    Scale,
    State,
)
from hybridsim.studies.questions._measures import Measure, word
from hybridsim.studies.questions._sentences import (
    called,
    field_words,
    fit,
    listed,
    place,
    times,
    value_words,
)
from hybridsim.studies.values import text


class Words(NamedTuple):
    """What is compared along which axis.

    Attributes:
        measure: what is compared.
        field: dotted field of the axis.
        values: its grid, as the study file writes it.
        scale: how it is divided.
        sides: first and second.
    """

    measure: Measure
    field: str
    values: Sequence[Raw]
    scale: Scale
    sides: tuple[str, str]

    @property
    def names(self) -> dict[str, str]:
        """How sentences call whoever is lower."""
        first, second = map(called, self.sides)
        return {"first": first, "second": second, "neither": "neither", "tie": "neither"}

    def at(self, number: float) -> str:
        """A place with its field: ``link bandwidth 31.2 Gb/s``, ``9 SPUs``."""
        return value_words(self.field, self._raw(number))

    def alone(self, number: float) -> str:
        """A place without its field."""
        raw = self._raw(number)
        return f"{raw:.4g}" if isinstance(raw, float) else str(raw)

    def _raw(self, number: float) -> Raw:
        return text(self.values[0], number if self.scale.whole else float(f"{number:.3g}"))

    def where(self, one: Crossing) -> str:
        """A crossing's place, and in brackets its interval."""
        if self.scale.whole and not one.ties:
            low, high = self.alone(one.left.at), self.at(one.right.at)
            found = f"between {low} and {high}"
        else:
            found = self.at(one.at)
        return found + self.interval(one)

    def interval(self, one: Crossing) -> str:
        """The interval in brackets; nothing where no end of it is known."""
        if one.kind == "reach" or (math.isnan(one.low) and math.isnan(one.high)):
            return ""
        low = self.alone(one.low) if one.low == one.low else "…"
        high = self.alone(one.high) if one.high == one.high else "…"
        return f" [{low}, {high}]"


def zones(found: Sequence[Crossing]) -> list[Crossing]:
    """The crossings to speak of: of those that share an interval the middle one; of those without
    one none, unless no crossing has one (one seed).
    """
    groups: dict[tuple[float, float], list[Crossing]] = {}
    for one in found:
        if one.detectable:
            groups.setdefault((one.low, one.high), []).append(one)
    tested = any(min(one.left.found.seeds, one.right.found.seeds) > 1 for one in found)
    if not tested:
        return list(found)
    return [group[len(group) // 2] for group in groups.values()]


def sentence(words: Words, lines: Sequence[Line], found: Sequence[Sequence[Crossing]]) -> str:
    """The answer in one sentence."""
    basis = f"({basis_text(seeds_of(lines))})"
    crossed = [one for own in found for one in zones(own)]
    if not crossed:
        return fit(f"{_throughout_all(words, lines, found)} {basis}")
    subject = _subject(crossed)
    first, second = map(called, words.sides if subject == "first" else words.sides[::-1])
    what = word(words.measure)
    marks = [mark for one in crossed for mark in one.marks]
    doubt = f"Not trusted ({marks[0]}): " if marks else ""
    head = f"{doubt}{first} beats {second} in {what}"
    if len(lines) == 1:
        return fit(f"{head} {_segments(words, crossed, subject)}{_reach(words, crossed)} {basis}")
    places = [_at_line(words, *pair, subject) for pair in zip(lines, found, strict=True)]
    count = sum(bool(zones(own)) for own in found)
    ends = sorted(crossed, key=lambda one: one.at)
    span = f"between {words.at(ends[0].at)} and {words.at(ends[-1].at)}"
    return fit(
        f"{head} {'; '.join(places)} {basis}",
        *_one_way(words, lines, found, head, basis),
        f"{doubt}{first} and {second} break even in {what} at {count} of {len(lines)} "
        f"{_others(lines)}, {span} {basis}",
    )


def _subject(crossed: Sequence[Crossing]) -> State:
    """Of whom is said where it wins: the first side, or the second if the first never does."""
    states = {reading.state for one in crossed for reading in (one.left, one.right)}
    return "first" if "first" in states else "second"


def _others(lines: Sequence[Line]) -> str:
    fields = list(lines[0].others)
    return f"values of {field_words(fields[0])}" if len(fields) == 1 else "combinations"


def _at_line(words: Words, line: Line, found: Sequence[Crossing], subject: State) -> str:
    """Where the subject wins at one combination of the other axes."""
    return f"{_line_text(words, line, found, subject)} at {place(line.others)}"


def _line_text(words: Words, line: Line, found: Sequence[Crossing], subject: State) -> str:
    shown = zones(found)
    if shown:
        return _segments(words, shown, subject) or "nowhere"
    if all(reading.found.verdict == "same" for reading in line.known()):
        return "undecided"
    if found:  # means cross, but within what the seeds allow
        decided = [one for one in line.known() if one.found.verdict != "same"]
        won = sum(one.state == subject for one in decided)
        places = f"at {won} of {len(line.known())} places"
        return f"detectably {places}" if won else "nowhere detectably"
    return "throughout" if throughout(line) == subject else "nowhere"


def _one_way(
    words: Words,
    lines: Sequence[Line],
    found: Sequence[Sequence[Crossing]],
    head: str,
    basis: str,
) -> list[str]:
    """Lowest and highest place where every line has one crossing at most, all in one direction."""
    pairs = [(zones(own), line) for own, line in zip(found, lines, strict=True) if zones(own)]
    crossed = [(own[0], line) for own, line in pairs if len(own) == 1]
    ways = {(one.left.state, one.right.state) for one, _ in crossed}
    if len(crossed) < len(pairs) or len(ways) > 1:
        return []
    before, on = ("up to", "") if next(iter(ways))[0] == "first" else ("from", " on")
    crossed.sort(key=lambda pair: pair[0].at)
    ends = [crossed[0], crossed[-1]] if len(crossed) > 1 else crossed
    rest = Counter(
        text
        for line, own in zip(lines, found, strict=True)
        if not zones(own)
        for text in [_line_text(words, line, own, "first")]
    )
    others = "".join(f", {text} at {count}" for text, count in rest.items())
    tail = f"{on}, at {len(crossed)} of {len(lines)} {_others(lines)}{others} {basis}"
    full = " to ".join(f"{words.where(one)} ({place(line.others)})" for one, line in ends)
    short = " to ".join(words.where(one) for one, _ in ends)
    return [f"{head} {before} {full}{tail}", f"{head} {before} {short}{tail}"]


def _reach(words: Words, shown: Sequence[Crossing]) -> str:
    """What happens at the first crossing at which a side stops to get there, or starts."""
    found = next((one for one in shown if one.kind == "reach"), None)
    return f", where {_stops(words, found)}" if found is not None else ""


def _segments(words: Words, shown: Sequence[Crossing], subject: State) -> str:
    """Where a side wins: ``from a on``, ``up to a``, ``from a to b``; nothing where nowhere."""
    states = [shown[0].left.state, *(one.right.state for one in shown)]
    parts = []
    for index, state in enumerate(states):
        if state != subject:
            continue
        start = words.where(shown[index - 1]) if index else ""
        stop = words.where(shown[index]) if index < len(shown) else ""
        if start and stop:
            parts.append(f"from {start} to {stop}")
        else:
            parts.append(f"from {start} on" if start else f"up to {stop}")
    return listed(parts) if parts else ""


def _stops(words: Words, one: Crossing) -> str:
    """What happens at a crossing at which a side stops to get there, or starts."""
    behind, before = one.right, one.left
    for side, cells in zip(words.sides, zip(before.cells, behind.cells, strict=True), strict=True):
        if cells[0].reached != cells[1].reached:
            verb = "no longer gets there" if cells[0].reached else "begins to get there"
            return f"{called(side)} {verb}"
    return "a side no longer gets there"


def _throughout_all(
    words: Words, lines: Sequence[Line], found: Sequence[Sequence[Crossing]]
) -> str:
    """No break-even to speak of: who wins everywhere, by how much at least."""
    first, second = (called(side) for side in words.sides)
    readings = [reading for line in lines for reading in line.known()]
    range_text = f"from {words.alone(min(_places(lines)))} to {words.at(max(_places(lines)))}"
    what = word(words.measure)
    if not readings:
        return f"Nothing is known of {what} of {first} and {second} {range_text}"
    decided = [reading for reading in readings if reading.found.verdict != "same"]
    states = {reading.state for reading in decided}
    if not decided:
        crossed = [one for own in found for one in own]
        means = f"; the means cross at {words.at(crossed[0].at)}" if crossed else ""
        return (
            f"No detectable difference between {first} and {second} in {what} {range_text}{means}"
        )
    if states == {"neither"}:
        return f"Neither of {first} and {second} gets there {range_text}: no {what} to compare"
    if len(states) > 1:
        return f"No break-even of {first} and {second} in {what} along any line {range_text}"
    winner, loser = (first, second) if states == {"first"} else (second, first)
    undecided = len(readings) - len(decided)
    marks = [mark for reading in decided for mark in reading.found.marks]
    lost = all(reading.found.verdict == "untrusted" for reading in decided)
    doubt = f"Not trusted ({marks[0]}): " if marks and lost else ""
    size = _least(words, decided, loser)
    if undecided:
        return (
            f"{doubt}no break-even in {what} {range_text}: {winner} beats {loser} at "
            f"{len(decided)} of {len(readings)} places, {size}, "
            "elsewhere no difference is detectable"
        )
    return (
        f"{doubt}no break-even: {winner} beats {loser} in {what} throughout, {range_text}, {size}"
    )


def _least(words: Words, readings: Sequence[Reading], loser: str) -> str:
    """The smallest margin of the one that wins."""
    least = min(readings, key=lambda reading: reading.found.factor)
    if math.isinf(least.found.factor):
        return f"{loser} never getting there"
    return f"by {times(least.found.factor)} at least (at {words.at(least.at)})"


def throughout(line: Line) -> str:
    """Who is lower at all places of a line without crossings."""
    states = [reading.state for reading in line.known()]
    return next((state for state in states if state != "tie"), "tie")


def _places(lines: Sequence[Line]) -> list[float]:
    return [at for line in lines for at in line.readings]


def seeds_of(lines: Sequence[Line]) -> int:
    """Over how many seeds means are taken, at most."""
    return max((r.found.seeds for line in lines for r in line.readings.values()), default=0)
