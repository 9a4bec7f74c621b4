"""What must be said of break-evens beside the sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hybridsim.studies.questions._break_even_words import Words, seeds_of, zones
from hybridsim.studies.questions._crossings import Crossing, Line, crossings_by_seed
from hybridsim.studies.questions._sentences import field_words, place


def notes_of(
    words: Words,
    lines: Sequence[Line],
    found: Sequence[Sequence[Crossing]],
    grid: Sequence[float],
) -> list[str]:
    """What must be said beside the sentence."""
    steps = [b / a if words.scale.log else b - a for a, b in pairwise(grid)]
    widest = f"a factor {max(steps):.3g}" if words.scale.log else f"{words.alone(max(steps))}"
    notes = []
    if not (words.scale.whole and max(steps) <= 1):
        notes.append(
            f"Between neighbours of the grid (up to {widest} apart) an even number of sign changes "
            "would not be seen."
        )
    if words.scale.whole:
        how = "to neighbouring whole numbers"
    else:
        how = f"in the {'logarithm' if words.scale.log else 'value'}"
    read = sum(len(line.readings) for line in lines)
    note = f"{field_words(words.field)} bisected {how}, {read} places read"
    if seeds_of(lines) > 1:
        note += (
            "; in brackets the places between which no difference is detectable (paired by seed, "
            "Student's t on logs)"
        )
    notes.append(f"{note[:1].upper()}{note[1:]}.")
    notes += [text for line, own in zip(lines, found, strict=True) for text in _doubts(line, own)]
    return notes


def _doubts(line: Line, found: Sequence[Crossing]) -> Iterator[str]:
    where = f" at {place(line.others)}" if line.others else ""
    hidden = len(found) - len(zones(found))
    if hidden and len(found) > 1:
        which = f"{hidden} of them within what seeds explain"
        yield f"The means cross {len(found)} times{where}; {which}."
    by_seed = crossings_by_seed(line)
    counts = set(by_seed.values())
    if len(by_seed) > 1 and counts != {len(found)}:
        texts = [f"seed {seed} {count}" for seed, count in by_seed.items()]
        shown = ", ".join(texts[:10]) + (", ..." if len(texts) > 10 else "")
        yield f"Crossings of single seeds{where}: {shown}; of the mean {len(found)}."
    for one in found:
        if one.kind == "reach":
            yield "A crossing is of another kind: there a side stops or begins to get there at all."
            return
