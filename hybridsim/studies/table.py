"""The table of points: a row for each combination, side and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from hybridsim.studies.outcome import MISSING, Outcome
from hybridsim.studies.points import Point

KEYS = ("side", "seed", "point")


def fields_of(points: Iterable[Point], first: Sequence[str] = ()) -> list[str]:
    """The fields that points say of themselves, those of the study's axes first."""
    found = dict.fromkeys(first)
    for point in points:
        found |= dict.fromkeys(point.combination)
    return list(found)


def table_of(
    points: Sequence[Point], outcomes: Mapping[str, Outcome], first: Sequence[str] = ()
) -> pd.DataFrame:
    """A row for each point: side, seed, id, its fields as the study writes them, its outcome.

    Args:
        points: rows, in order; several may be of one id.
        outcomes: by id; what is not there is missing.
        first: fields that come first, whether a point has them or not.
    """
    fields = fields_of(points, first)
    columns = [*KEYS, *fields, *Outcome._fields]
    rows = [
        (
            point.side,
            point.seed,
            point.id,
            *(point.combination.get(field) for field in fields),
            *outcomes.get(point.id, MISSING),
        )
        for point in points
    ]
    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    # Columns that hold a value or nothing keep their values' type: no number becomes a float.
    for name in ("reached", "step", "steps"):
        column = pd.Series([row[columns.index(name)] for row in rows], dtype=object)
        frame[name] = column
    for name in fields:
        frame[name] = pd.Series([row[columns.index(name)] for row in rows], dtype=object)
    return frame
