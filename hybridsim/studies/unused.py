"""Fields that have no effect on a side, whatever values the axes take."""

from __future__ import annotations

from collections.abc import Iterable

from hybridsim.scenario.unused import unused_fields
from hybridsim.studies.points import Point
from hybridsim.studies.schema import Study


def unused(study: Study, points: Iterable[Point]) -> list[str]:
    """Fields that differ from their defaults and have no effect at any of the points of a side, as
    ``side: field``: such as parts that an axis which names no sides brings to all of them.
    """
    found: dict[str, list[str]] = {}
    seen = set()
    for point in points:
        key = point.side, str(sorted(point.values.items()))
        if key in seen or found.get(point.side) == []:
            continue
        seen.add(key)
        here = unused_fields(point.scenario, timing_only=study.backend == "timing")
        found[point.side] = [f for f in found.get(point.side, here) if f in here]
    return [f"{side}: {field}" for side, fields in found.items() for field in fields]
