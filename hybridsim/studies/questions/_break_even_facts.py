"""The numbers of break-evens, for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridsim.studies.questions._break_even_words import Words, throughout
from hybridsim.studies.questions._crossings import Crossing, Line, Reading, crossings_by_seed


def line_facts(words: Words, line: Line, found: Sequence[Crossing]) -> dict[str, Any]:
    """A line's numbers; Any: goes to JSON."""
    margin = _margin(line)
    return {
        "values": line.others,
        "crossings": [_crossing_facts(words, one) for one in found],
        "throughout": None if found else words.names[throughout(line)],
        "smallest_margin": margin.found.factor if margin else None,
        "smallest_margin_at": margin.raw if margin else None,
        "no_detectable_difference_at": sum(not r.detectable for r in line.known()),
        "crossings_by_seed": {str(seed): n for seed, n in crossings_by_seed(line).items()},
        "readings": len(line.readings),
    }


def _crossing_facts(words: Words, one: Crossing) -> dict[str, Any]:  # Any: goes to JSON
    return {
        "at": one.at,
        "text": words.alone(one.at),
        "low": one.low,
        "high": one.high,
        "between": [reading.at for reading in one.bracket],
        "equal_at": [reading.raw for reading in one.ties],
        "wins_before": words.names[one.left.state],
        "wins_behind": words.names[one.right.state],
        "kind": one.kind,
        "seeds": min(one.left.found.seeds, one.right.found.seeds),
        "detectable": one.detectable,
        "trusted": not one.marks,
        "marks": list(one.marks),
    }


def _margin(line: Line) -> Reading | None:
    """The reading at which the sides are nearest."""
    known = [reading for reading in line.known() if reading.found.ratio == reading.found.ratio]
    return min(known, key=lambda reading: reading.found.factor, default=None)
